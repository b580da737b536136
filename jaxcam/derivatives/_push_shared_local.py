"""The push of a pair of coefficients, shared and local, for programs whose locations meet only in sums.

`_shared_local.py` says which values are located, common and own. Here a stage acts on their coefficients:

- common, own: the rules of `_push.py`. Own coefficients have a row for each direction and location.
- located: a pair (S, L). At the direction's own location the coefficient is S + L, elsewhere S. A linear stage acts on
  S and on L. Any other stage acts on S and on S + L, by the same rules; the new L is the difference.
- located and uniform: L is the same at every location and is held for one, with axes of length 1 in their place. Sums
  of operands, products with what is the same everywhere, and contractions run on that location alone.
- a sum over locations: sum_q S_q + L_p, which is common if L is uniform.
- curved: coefficients at the nodes of `_curves.py` in the place of the shared part, and S + L for located values.

The second and third derivative collect, as in `_taylor.py`, <g, added coefficients>. For a located value that is

    sum_q <g_q, added by the stage at S_q> + <g_p, added at (S + L)_p - added at S_p>.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import at_least_float32
from jaxcam.derivatives._curves import at_nodes, start_curve
from jaxcam.derivatives._pairs import (
    ZERO,
    CurvedPair,
    Pair,
    at_every_location,
    at_one_location,
    one_location_of,
    with_locations_first,
    zeros_at_one,
)
from jaxcam.derivatives._plan import Plan, Stage
from jaxcam.derivatives._push import sum_of_present, taylor_rule
from jaxcam.derivatives._shared_local import NODES, SUM_OVER_AXES, SharedLocal
from jaxcam.tracing import evaluate, typed_as


def make_shared_local_push(
    plan: Plan, values: dict[int, Any], gradients: dict[int, Any], length: jax.Array, zeros: jax.Array
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """The function from the indices of a chunk of directions to the derivatives along them.

    Args:
      plan: with `shared_local`.
      values: all values of the program.
      gradients: the gradient of u in each output of a smooth stage.
      length: of a step along a direction.
      zeros: of the results' shape, `[directions *location axes *other independent axes]`.
    """
    way = plan.shared_local
    assert way is not None
    rules = [_rule(plan, way, stage, values) for stage in plan.pushed_stages]
    collect = functools.partial(_collected, plan, way)

    def push(indices):
        seed_parts = Pair(ZERO, (_local_part_of_seed(plan, way, indices, values[plan.seed], length), None))
        coefficients: dict[int, Any] = {plan.seed: seed_parts}
        second = third = zeros
        curve = None
        for stage, rule in zip(plan.pushed_stages, rules, strict=True):
            inputs = [coefficients.get(v, ZERO) for v in stage.inputs]
            if stage.outputs[0] == way.primary:
                coefficients[way.primary], curve = _start_curve(plan, way, stage, inputs, indices)
                continue
            outputs, added = rule(inputs, curve)
            coefficients.update(zip(stage.outputs, outputs, strict=True))
            for v, of_output in zip(stage.outputs, added or (), strict=bool(added)):
                added2, added3 = collect(v, gradients[v], of_output, zeros.shape, curve)
                second, third = second + added2, third + added3
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
    reads_located = any(v in way.located for v in stage.inputs)
    if reads_located and out not in way.located:
        return functools.partial(_sum_over_locations, plan, way, stage)
    if out in way.own:
        return functools.partial(_own_rule, plan, way, stage, plain)
    if out in way.curved:
        at_own = taylor_rule(plan.program, stage, values | _broadcast_commons(plan, way, stage, values))
        return functools.partial(_curved_rule, plan, way, stage, plain, at_own)
    if out in way.common:
        return lambda inputs, curve: plain(inputs)
    positions = way.located[out]
    is_uniform = out in way.uniform
    if stage.kind == "linear":
        at_one = _rule_of_single(way, stage, values) if is_uniform else None
        return functools.partial(_linear_rule, plan, stage, plain, positions, is_uniform, at_one)
    at_one = _rule_of_single(way, stage, values) if is_uniform and stage.kind == "product" else None
    return functools.partial(_smooth_rule, plan, stage, plain, positions, is_uniform, at_one)


def _linear_rule(plan, stage, plain, positions, is_uniform, at_one, inputs, curve):
    shared = _apply(plain, [c.shared if isinstance(c, Pair) else c for c in inputs])
    if at_one is not None:
        local = at_one(inputs)
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
    shared, added_at_shared = _apply_and_add(stage, plain, at_shared)
    own, added_at_own = _apply_and_add(stage, plain, at_own)
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
    outputs, added = _apply_and_add(stage, plain, at_the_nodes)
    if stage.outputs[0] not in way.located:
        return outputs, added
    own, added_at_own = _apply_and_add(stage, plain_at_own, at_own)
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
    own = curve.of_coefficients(nodes, [*positions, *_other_axes(plan, way, v)], at_one)
    return tuple(None if c is None else jnp.broadcast_to(c, (c.shape[0], *full)) for c in own)


def _own_rule(plan, way, stage, plain, inputs, curve):
    """A stage of own values: a row for each direction and location, in which common values are repeated."""
    locations = [plan.program.avals[plan.seed].shape[axis] for axis in way.axes]

    def rows_of(v, coefficients):
        if v in way.own:
            return coefficients
        if v not in way.curved:
            return tuple(None if c is None else jnp.repeat(c, math.prod(locations), axis=0) for c in coefficients)
        shape = plan.program.avals[v].shape
        positions = [*range(len(locations)), *(len(locations) + axis for axis in _other_axes(plan, way, v))]
        own = curve.of_coefficients(coefficients, positions, [*[1] * len(locations), *shape])
        return tuple(None if c is None else c.reshape(-1, *shape) for c in own)

    return plain([rows_of(v, c) for v, c in _zip(stage, inputs)])


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
    if isinstance(pair, CurvedPair):
        by_location = (with_locations_first(c, positions, summed) for c in pair.nodes)
        elsewhere = tuple(c.sum(range(1, 1 + len(locations)), keepdims=True) - c for c in by_location)
        others = _other_axes(plan, way, stage.outputs[0])
        at = [*range(len(locations)), *(len(locations) + axis for axis in others)]
        shared, local = curve.of_coefficients(elsewhere, at, [*locations, *shape]), pair.own
    else:
        shared = [
            None if c is None else jnp.expand_dims(c.sum(summed), range(1, 1 + len(locations))) for c in pair.shared
        ]
        local = pair.local

    def own(of_shared, part):
        both = sum_of_present(of_shared, None if part is None else with_locations_first(part, positions, summed))
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


# ---- A single location.
def _rule_of_single(way, stage, values):
    """The local parts of a uniform stage from those of its inputs, at one location; None if a step cannot run so.

    A linear stage is applied to L. For a product of S + L and g, whose own part is L g:
    (L g)_1 = L_1 g, (L g)_2 = L_2 g + L_1 g_1.
    """
    if not all(step.outputs[0] in way.single for step in stage.steps):
        return None
    positions = way.located[stage.outputs[0]]
    located = [v for v in stage.inputs if v in way.located]
    read = {v for step in stage.steps for v in step.inputs} & values.keys()
    is_elementwise = not any(step.name in ("dot_general", "conv_general_dilated") for step in stage.steps)
    others = {v: one_location_of(values[v], positions) if is_elementwise else values[v] for v in read}

    def outputs_of(locals_, commons):
        made = evaluate(stage.steps, {**others, **commons, **dict(zip(located, locals_, strict=True))})
        return [made[v] for v in stage.outputs]

    def slopes(locals_, commons):
        """The tangents along the local parts, which are linear in them; commons replace the operands they name."""

        def tangents(directions, commons):
            points = [jnp.zeros_like(direction) for direction in directions]
            return jax.jvp(lambda *x: outputs_of(x, commons), points, directions)[1]

        axes = ([None if x is None else 0 for x in locals_], {v: 0 for v in commons})
        points = [
            zeros_at_one(values[v], way.located[v]) if x is None else x for v, x in zip(located, locals_, strict=True)
        ]
        return jax.vmap(tangents, in_axes=axes)(points, commons)

    def rule(inputs):
        by_value = dict(zip(stage.inputs, inputs, strict=True))
        first, second = ([by_value[v].local[order] for v in located] for order in (0, 1))
        firsts = [None] * len(stage.outputs) if _all_none(first) else slopes(first, {})
        seconds = [None] * len(stage.outputs) if _all_none(second) else slopes(second, {})
        if stage.kind == "product" and not _all_none(first):
            moved = {v: c[0] for v, c in by_value.items() if v not in located and c[0] is not None}
            if is_elementwise:
                moved = {v: one_location_of(c, [1 + position for position in positions]) for v, c in moved.items()}
            if moved:
                seconds = [sum_of_present(a, b) for a, b in zip(seconds, slopes(first, moved), strict=True)]
        return list(zip(firsts, seconds, strict=True))

    return rule


# ---- Parts of the rules.
def _apply(plain, inputs):
    return plain(inputs)[0]


def _apply_and_add(stage, plain, inputs):
    """The rule of a smooth stage; zero inputs make zero outputs."""
    if all(c is None for pair in inputs for c in pair):
        return [ZERO] * len(stage.outputs), [ZERO] * len(stage.outputs)
    if stage.kind in ("elementwise", "quotient"):
        # Their rules read every first coefficient.
        like = next(c for pair in inputs for c in pair if c is not None)
        inputs = [(jnp.zeros_like(like), second) if first is None else (first, second) for first, second in inputs]
    return plain(inputs)


def _collected(plan, way, v, gradient, added, shape, curve):
    """<gradient, added coefficients> for every direction and location, the second and the third."""
    others, locations = _other_axes(plan, way, v), tuple(range(1, 1 + len(way.axes)))
    if v not in way.located:
        totals = [_inner(gradient, part, others) for part in added]
        own = shape[1 : 1 + len(way.axes)] if v in way.own else [1] * len(way.axes)
        totals = [None if t is None else t.reshape(-1, *own, *shape[1 + len(way.axes) :]) for t in totals]
    else:
        totals = []
        for at_shared, at_own in added:
            of_shared, of_own = (_inner(gradient, c, [*way.located[v], *others]) for c in (at_shared, at_own))
            # sum_q over all locations but the direction's own
            elsewhere = None if of_shared is None else of_shared.sum(locations, keepdims=True) - of_shared
            totals.append((elsewhere, of_own))
        if v not in way.curved:
            totals = [sum_of_present(*parts) for parts in totals]
    if v not in way.curved:
        return [0 if total is None else total for total in totals]
    at_the_nodes = [t[0] if isinstance(t, tuple) else t for t in totals]
    collected = curve.of_added(*(0 if t is None else t.reshape(NODES, -1, *t.shape[1:]) for t in at_the_nodes))
    at_own = [t[1] if isinstance(t, tuple) else None for t in totals]
    return [sum_of_present(*parts) for parts in zip(collected, at_own, strict=True)]


def _other_axes(plan, way, v):
    """The positions in a value of the independent axes that are not those of the locations."""
    return [positions[v] for axis, positions in plan.independent_axes.items() if axis not in way.axes]


def _inner(gradient, coefficient, kept_axes):
    if coefficient is None:
        return None
    summed = tuple(1 + axis for axis in range(gradient.ndim) if axis not in kept_axes)
    products = (at_least_float32(gradient)[None] * at_least_float32(coefficient)).real
    return products.sum(summed).transpose(0, *(1 + np.argsort(np.argsort(kept_axes))))


def _difference(own: Any, shared: Any) -> Any:
    return own if shared is None else own - shared


def _all_none(coefficients: Sequence[Any]) -> bool:
    return all(c is None for c in coefficients)


def _zip(stage, inputs):
    return zip(stage.inputs, inputs, strict=True)
