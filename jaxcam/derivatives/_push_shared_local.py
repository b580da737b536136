"""The push of a pair of coefficients, shared and local, for programs whose locations meet only in sums.

`_shared_local.py` says which values are located, common and own. Here a stage acts on their coefficients:

- common, own: the rules of `_push.py`. Own coefficients have a row for each direction and location: `_push_rows.py`.
- located: a pair (S, L). At the direction's own location the coefficient is S + L, elsewhere S. A linear stage acts on
  S and on L. Any other stage acts on S and on S + L, by the same rules; the new L is the difference.
- located and uniform: L is the same at every location and is held for one, with axes of length 1 in their place. Sums
  of operands, products with what is the same everywhere, and contractions run on that location alone.
- a sum over locations: sum_q S_q + L_p, which is common if L is uniform. A contraction: `_contractions.py`.
- curved: coefficients at the nodes of `_curves.py` in the place of the shared part, and S + L for located values.

The second and third derivative collect, as in `_taylor.py`, <g, added coefficients>. For a located value that is

    sum_q <g_q, added by the stage at S_q> + <g_p, added at (S + L)_p - added at S_p>.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.derivatives._contractions import contraction_rule
from jaxcam.derivatives._curves import at_nodes, start_curve
from jaxcam.derivatives._pairs import (
    ZERO,
    CurvedPair,
    Pair,
    apply_and_add,
    at_every_location,
    at_one_location,
    inner_product,
    locations_alone,
    other_axes,
    with_locations_first,
)
from jaxcam.derivatives._plan import Plan, Stage
from jaxcam.derivatives._push import sum_of_present, taylor_rule
from jaxcam.derivatives._push_rows import is_stage_of_rows, make_row_push
from jaxcam.derivatives._shared_local import NODES, SUM_OVER_AXES, SharedLocal
from jaxcam.derivatives._single_location import rule_of_single
from jaxcam.tracing import typed_as


def make_shared_local_push(
    plan: Plan,
    values: dict[int, Any],
    gradients: dict[int, Any],
    length: jax.Array,
    zeros: jax.Array,
    live: jax.Array | None,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """The function from the indices of a chunk of directions to the derivatives along them.

    Args:
      plan: with `shared_local`.
      values: all values of the program.
      gradients: the gradient of u in each output of a smooth stage.
      length: of a step along a direction.
      zeros: of the results' shape, `[directions *location axes *other independent axes]`.
      live: which of all derivatives count, in this shape; None if all do.
    """
    way = plan.shared_local
    assert way is not None
    stages = [stage for stage in plan.pushed_stages if not is_stage_of_rows(way, stage)]
    rules = [_rule(plan, way, stage, values) for stage in stages]
    collect = functools.partial(_collected, plan, way)
    push_rows = None
    if len(stages) < len(plan.pushed_stages):
        live_rows = None if live is None else live.any(range(1 + len(way.axes), live.ndim))
        push_rows = make_row_push(plan, way, values, gradients, live_rows)

    def push(indices):
        seed_parts = Pair(ZERO, (_local_part_of_seed(plan, way, indices, values[plan.seed], length), None))
        coefficients: dict[int, Any] = {plan.seed: seed_parts}
        second = third = zeros
        curve = None
        for stage, rule in zip(stages, rules, strict=True):
            inputs = [coefficients.get(v, ZERO) for v in stage.inputs]
            if stage.outputs[0] == way.primary:
                coefficients[way.primary], curve = _start_curve(plan, way, stage, inputs, indices)
                continue
            outputs, added = rule(inputs, curve)
            coefficients.update(zip(stage.outputs, outputs, strict=True))
            for v, of_output in zip(stage.outputs, added or (), strict=bool(added)):
                added2, added3 = collect(v, gradients[v], of_output, zeros.shape, curve)
                second, third = second + added2, third + added3
        if push_rows is not None:
            of_rows = (total.reshape(zeros.shape) for total in push_rows(coefficients, curve, indices))
            second, third = map(jnp.add, (second, third), of_rows)
        return 2 * second, 6 * third

    return push


def _local_part_of_seed(plan, way, indices, seed, length):
    """Unit directions of a single location: `[directions *seed]` with length 1 along the location axes."""
    shape = seed.shape
    pushed = [1 if axis in plan.independent_axes else n for axis, n in enumerate(shape)]
    units = jax.nn.one_hot(indices, math.prod(pushed), dtype=seed.dtype).reshape(-1, *pushed)
    units = typed_as(units * length.astype(units.dtype), seed)
    copies = [1 if axis in way.axes else n for axis, n in enumerate(shape)]
    return jnp.broadcast_to(units, (units.shape[0], *copies))


# ---- Stages.
def _rule(plan, way: SharedLocal, stage: Stage, values):
    """From the coefficients or pairs of a stage's inputs to those of its outputs, and what it adds, or None.

    What a stage adds to a located value is `(at S, at S + L)` for the second and for the third coefficient; to another
    value it is one coefficient.
    """
    plain = taylor_rule(plan.program, stage, values)
    out = stage.outputs[0]
    if way.state_of(out) == "still":
        return lambda inputs, curve: ([ZERO] * len(stage.outputs), None)
    reads_located = any(v in way.located for v in stage.inputs)
    if reads_located and out not in way.located:
        if stage.steps[0].name == SUM_OVER_AXES:
            return functools.partial(_sum_over_locations, plan, way, stage)
        return contraction_rule(plan, way, stage, plain, values)
    if out in way.curved:
        at_own = taylor_rule(plan.program, stage, values | _broadcast_commons(plan, way, stage, values))
        return functools.partial(_curved_rule, plan, way, stage, plain, at_own)
    if out in way.common:
        return lambda inputs, curve: plain(inputs)
    positions = way.located[out]
    is_uniform = out in way.uniform
    if stage.kind == "linear":
        at_one = rule_of_single(way, stage, values) if is_uniform else None
        return functools.partial(_linear_rule, plan, stage, plain, positions, is_uniform, at_one)
    at_one = rule_of_single(way, stage, values) if is_uniform and stage.kind == "product" else None
    return functools.partial(_smooth_rule, plan, stage, plain, positions, is_uniform, at_one)


def _linear_rule(plan, stage, plain, positions, is_uniform, at_one, inputs, curve):
    shared = _apply(plain, [c.shared if isinstance(c, Pair) else c for c in inputs])
    if at_one is not None:
        local = at_one(inputs)
    elif is_uniform and stage.steps[0].name == "concatenate":
        local = [c.local for c in inputs if isinstance(c, Pair)]
    else:
        full = [
            at_every_location(plan.program.avals[v].shape, c.local) if isinstance(c, Pair) else ZERO
            for v, c in _zip(stage, inputs)
        ]
        local = _apply(plain, full)
        local = [at_one_location(c, positions) for c in local] if is_uniform else local
    return [Pair(*parts) for parts in zip(shared, local, strict=True)], None


def _smooth_rule(plan, stage, plain, positions, is_uniform, at_one, inputs, curve):
    """The rule at S and at S + L; the local part of the result is the difference."""
    at_shared = [c.shared if isinstance(c, Pair) else c for c in inputs]
    at_own = [
        at_every_location(plan.program.avals[v].shape, c.at_own_location()) if isinstance(c, Pair) else c
        for v, c in _zip(stage, inputs)
    ]
    shared, added_at_shared = apply_and_add(stage, plain, at_shared)
    own, added_at_own = apply_and_add(stage, plain, at_own)
    outputs = []
    for c, own_c in zip(shared, own, strict=True):
        local = tuple(_difference(b, a) for a, b in zip(c, own_c, strict=True))
        outputs.append(Pair(c, at_one_location(local, positions) if is_uniform else local))
    if at_one is not None:
        outputs = [Pair(pair.shared, local) for pair, local in zip(outputs, at_one(inputs), strict=True)]
    pairs = zip(added_at_shared, added_at_own, strict=True)
    return outputs, [tuple(zip(at_s, at_o, strict=True)) for at_s, at_o in pairs]


def _curved_rule(plan, way, stage, plain, plain_at_own, inputs, curve):
    """The rule at the nodes; for a located value at S + L, too."""
    at_own = []
    at_the_nodes = []
    for v, c in _zip(stage, inputs):
        if isinstance(c, CurvedPair):
            nodes, own = c
        elif isinstance(c, Pair):
            nodes, own = (
                tuple(map(at_nodes, c.shared)),
                at_every_location(plan.program.avals[v].shape, c.at_own_location()),
            )
        elif v in way.curved:
            nodes, own = c, _at_own_location(plan, way, v, c, stage.outputs[0], curve)
        else:
            nodes, own = tuple(map(at_nodes, c)), c
        at_the_nodes.append(nodes)
        at_own.append(own)
    outputs, added = apply_and_add(stage, plain, at_the_nodes)
    if stage.outputs[0] not in way.located:
        return outputs, added
    own, added_at_own = apply_and_add(stage, plain_at_own, at_own)
    pairs = [CurvedPair(*parts) for parts in zip(outputs, own, strict=True)]
    if added is None:
        return pairs, None
    return pairs, [tuple(zip(at_n, at_o, strict=True)) for at_n, at_o in zip(added, added_at_own, strict=True)]


def _broadcast_commons(plan, way, stage, values):
    """The curved common values that a located stage reads, with the location axes: their coefficients vary there."""
    out = stage.outputs[0]
    commons = [v for v in stage.inputs if v in way.curved and v not in way.located]
    return {
        v: jnp.broadcast_to(values[v], _shape_with_locations(plan, way, v, out)) for v in commons if out in way.located
    }


def _shape_with_locations(plan, way, v, out):
    of_out = plan.program.avals[out].shape
    shapes = (plan.program.avals[v].shape or [1] * len(of_out), of_out)
    return [b if axis in way.located[out] else a for axis, (a, b) in enumerate(zip(*shapes, strict=True))]


def _at_own_location(plan, way, v, nodes, out, curve):
    """The coefficients that the own location of each direction reads of a curved common value."""
    if out not in way.located:
        return ZERO
    positions, full = way.located[out], _shape_with_locations(plan, way, v, out)
    at_one = [1 if axis in positions else n for axis, n in enumerate(full)]
    nodes = at_one_location(nodes, positions)
    own = curve.of_coefficients(nodes, [*positions, *other_axes(plan, way, v)], at_one)
    return tuple(None if c is None else jnp.broadcast_to(c, (c.shape[0], *full)) for c in own)


def _sum_over_locations(plan, way, stage, inputs, curve):
    """sum_q S_q + L_p: common if L is uniform, otherwise a row for each direction and location."""
    ((value,), (pair,)) = stage.inputs, inputs
    (step,) = stage.steps
    assert step.name == SUM_OVER_AXES
    summed = tuple(1 + axis for axis in step.params["axes"])
    positions = [1 + position for position in way.located[value]]
    if value in way.uniform:

        def common(shared, local):
            sums = (None if part is None else part.sum(summed) for part in (shared, local))
            return sum_of_present(*sums)

        return [tuple(map(common, pair.shared, pair.local))], None
    locations = [plan.program.avals[plan.seed].shape[axis] for axis in way.axes]
    shape = plan.program.avals[stage.outputs[0]].shape
    at_locations = functools.partial(locations_alone, locations=locations, offset=way.offsets[value])
    if isinstance(pair, CurvedPair):
        by_location = (with_locations_first(c, positions, summed) for c in pair.nodes)
        elsewhere = tuple(c.sum(range(1, 1 + len(locations)), keepdims=True) - c for c in by_location)
        others = other_axes(plan, way, stage.outputs[0])
        at = [*range(len(locations)), *(len(locations) + axis for axis in others)]
        shared, local = curve.of_coefficients(elsewhere, at, [*locations, *shape]), pair.own
    else:
        shared = [
            None if c is None else jnp.expand_dims(c.sum(summed), range(1, 1 + len(locations))) for c in pair.shared
        ]
        local = pair.local

    def own(of_shared, part):
        of_part = None if part is None else at_locations(with_locations_first(part, positions, summed))
        both = sum_of_present(of_shared, of_part)
        return None if both is None else jnp.broadcast_to(both, (both.shape[0], *locations, *shape)).reshape(-1, *shape)

    return [tuple(map(own, shared, local))], None


def _start_curve(plan, way, stage, inputs, indices):
    """The coefficients of the primary sum at the nodes, and the curve of the number that each direction moves."""
    ((value,), (pair,), (step,)) = stage.inputs, inputs, stage.steps
    seed_shape, shape = plan.program.avals[plan.seed].shape, plan.program.avals[way.primary].shape
    others = [axis for axis in plan.independent_axes if axis not in way.axes]
    pushed = [axis for axis in range(len(seed_shape)) if axis not in plan.independent_axes]
    elements = way.primary_element_of.reshape(seed_shape).transpose(*way.axes, *pushed, *others)
    elements = elements[(0,) * len(way.axes)].reshape(-1, *(seed_shape[axis] for axis in others))
    summed = tuple(1 + axis for axis in step.params["axes"])
    positions = [1 + position for position in way.located[value]]
    shared = [None if c is None else c.sum(summed) for c in pair.shared]
    count = 1 + len(way.axes)

    def flat(c):
        by_location = with_locations_first(c, positions, summed)
        return by_location.reshape(*by_location.shape[:count], -1)

    local = [None if c is None else flat(c) for c in at_every_location(plan.program.avals[value].shape, pair.local)]
    return start_curve((shared[0], shared[1]), (local[0], local[1]), jnp.asarray(elements, jnp.int32)[indices], shape)


# ---- Parts of the rules.
def _apply(plain, inputs):
    return plain(inputs)[0]


def _collected(plan, way, v, gradient, added, shape, curve):
    """<gradient, added coefficients> for every direction and location, the second and the third."""
    others, locations = other_axes(plan, way, v), tuple(range(1, 1 + len(way.axes)))
    if v not in way.located:
        totals = [_inner_or_none(gradient, part, others) for part in added]
        own = shape[1 : 1 + len(way.axes)] if v in way.own else [1] * len(way.axes)
        totals = [None if t is None else t.reshape(-1, *own, *shape[1 + len(way.axes) :]) for t in totals]
    else:
        totals, counts = [], shape[1 : 1 + len(way.axes)]
        at_locations = functools.partial(locations_alone, locations=counts, offset=way.offsets[v])
        for at_shared, at_own in added:
            of_shared, of_own = (_inner_or_none(gradient, c, [*way.located[v], *others]) for c in (at_shared, at_own))
            # sum_q over all locations but the direction's own
            elsewhere = None if of_shared is None else of_shared.sum(locations, keepdims=True) - at_locations(of_shared)
            totals.append((elsewhere, None if of_own is None else at_locations(of_own)))
        if v not in way.curved:
            totals = [sum_of_present(*parts) for parts in totals]
    if v not in way.curved:
        return [0 if total is None else total for total in totals]
    at_the_nodes = [t[0] if isinstance(t, tuple) else t for t in totals]
    collected = curve.of_added(*(0 if t is None else t.reshape(NODES, -1, *t.shape[1:]) for t in at_the_nodes))
    at_own = [t[1] if isinstance(t, tuple) else None for t in totals]
    return [sum_of_present(*parts) for parts in zip(collected, at_own, strict=True)]


def _inner_or_none(gradient, coefficient, kept_axes):
    return None if coefficient is None else inner_product(gradient, coefficient, kept_axes)


def _difference(own: Any, shared: Any) -> Any:
    return own if shared is None else own - shared


def _zip(stage, inputs):
    return zip(stage.inputs, inputs, strict=True)
