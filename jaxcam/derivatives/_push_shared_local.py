"""The push of a pair of coefficients, shared and local, for programs whose locations meet only in sums.

`_shared_local.py` says which values are located, common and own. Here a stage acts on their coefficients:

- common, own: the rules of `_push.py`. Own coefficients have a row for each direction and location.
- located: a pair (S, L). At the direction's own location the coefficient is S + L, elsewhere S. A linear stage acts on
  S and on L. Any other stage acts on S and on S + L, by the same rules; the new L is the difference.
- located and uniform: L is the same at every location and is held for one, with axes of length 1 in their place. Sums
  of operands, products with what is the same everywhere, and contractions run on that location alone.
- a sum over locations: sum_q S_q + L_p, which is common if L is uniform.

The second and third derivative collect, as in `_taylor.py`, <g, added coefficients>. For a located value that is

    sum_q <g_q, added by the stage at S_q> + <g_p, added at (S + L)_p - added at S_p>.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import at_least_float32
from jaxcam.derivatives._plan import Plan, Stage
from jaxcam.derivatives._push import Coefficients, sum_of_present, taylor_rule
from jaxcam.derivatives._shared_local import SUM_OVER_AXES, SharedLocal
from jaxcam.tracing import evaluate, typed_as

ZERO: Coefficients = (None, None)


class Pair(NamedTuple):
    """The coefficients of a located value: the shared part `[directions *shape]`, and the local part.

    The local part of a uniform value has length 1 along the location axes.
    """

    shared: Coefficients
    local: Coefficients

    def at_own_location(self) -> Coefficients:
        """S + L, `[directions *shape]`."""
        first, second = (sum_of_present(*parts) for parts in zip(self.shared, self.local, strict=True))
        return first, second


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
        for stage, rule in zip(plan.pushed_stages, rules, strict=True):
            outputs, added = rule([coefficients.get(v, ZERO) for v in stage.inputs])
            coefficients.update(zip(stage.outputs, outputs, strict=True))
            for v, of_output in zip(stage.outputs, added or (), strict=bool(added)):
                added2, added3 = (collect(v, gradients[v], part, zeros.shape) for part in of_output)
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
    if out in way.common:
        return plain
    positions = way.located[out]
    is_uniform = out in way.uniform
    if stage.kind == "linear":
        at_one = _rule_of_single(plan, way, stage, values) if is_uniform else None
        return functools.partial(_linear_rule, plan, stage, plain, positions, is_uniform, at_one)
    at_one = _rule_of_single(plan, way, stage, values) if is_uniform and stage.kind == "product" else None
    return functools.partial(_smooth_rule, plan, stage, plain, positions, is_uniform, at_one)


def _linear_rule(plan, stage, plain, positions, is_uniform, at_one, inputs):
    shared = _apply(plain, [c.shared if isinstance(c, Pair) else c for c in inputs])
    if at_one is not None:
        local = at_one(inputs)
    else:
        full = [_at_every_location(plan, v, c.local) if isinstance(c, Pair) else ZERO for v, c in _zip(stage, inputs)]
        local = _apply(plain, full)
        local = [_at_one_location(c, positions) for c in local] if is_uniform else local
    return [Pair(*parts) for parts in zip(shared, local, strict=True)], None


def _smooth_rule(plan, stage, plain, positions, is_uniform, at_one, inputs):
    """The rule at S and at S + L; the local part of the result is the difference."""
    at_shared = [c.shared if isinstance(c, Pair) else c for c in inputs]
    at_own = [
        _at_every_location(plan, v, c.at_own_location()) if isinstance(c, Pair) else c for v, c in _zip(stage, inputs)
    ]
    shared, added_at_shared = _apply_and_add(stage, plain, at_shared)
    own, added_at_own = _apply_and_add(stage, plain, at_own)
    outputs = []
    for c, own_c in zip(shared, own, strict=True):
        local = tuple(_difference(b, a) for a, b in zip(c, own_c, strict=True))
        outputs.append(Pair(c, _at_one_location(local, positions) if is_uniform else local))
    if at_one is not None:
        outputs = [Pair(pair.shared, local) for pair, local in zip(outputs, at_one(inputs), strict=True)]
    pairs = zip(added_at_shared, added_at_own, strict=True)
    return outputs, [tuple(zip(at_s, at_o, strict=True)) for at_s, at_o in pairs]


def _own_rule(plan, way, stage, plain, inputs):
    """A stage of own values: a row for each direction and location, in which common values are repeated."""
    count = _locations(plan, way)
    rows = [
        c if v in way.own else tuple(None if x is None else jnp.repeat(x, count, axis=0) for x in c)
        for v, c in _zip(stage, inputs)
    ]
    return plain(rows)


def _sum_over_locations(plan, way, stage, inputs):
    """sum_q S_q + L_p: common if L is uniform, otherwise a row for each direction and location."""
    ((value,), (pair,)) = stage.inputs, inputs
    (step,) = stage.steps
    assert step.name == SUM_OVER_AXES
    summed = tuple(1 + axis for axis in step.params["axes"])
    positions = [1 + position for position in way.located[value]]
    locations = [plan.program.avals[plan.seed].shape[axis] for axis in way.axes]

    def total(shared, local):
        of_shared = None if shared is None else shared.sum(summed)
        if value in way.uniform:
            return sum_of_present(of_shared, None if local is None else local.sum(summed))
        of_local = None if local is None else _with_locations_first(local, positions, summed)
        if of_shared is not None:
            of_shared = jnp.expand_dims(of_shared, range(1, 1 + len(locations)))
        both = sum_of_present(of_shared, of_local)
        if both is None:
            return None
        both = jnp.broadcast_to(both, (both.shape[0], *locations, *both.shape[1 + len(locations) :]))
        return both.reshape(-1, *both.shape[1 + len(locations) :])

    return [tuple(map(total, pair.shared, pair.local))], None


def _with_locations_first(local, positions, summed):
    """`[directions *locations *the rest]`, summed over the other axes of the sum."""
    others = [axis for axis in range(1, local.ndim) if axis not in positions]
    moved = local.transpose(0, *positions, *others)
    return moved.sum(tuple(1 + len(positions) + i for i, axis in enumerate(others) if axis in summed))


# ---- A single location.
def _rule_of_single(plan, way, stage, values):
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
    others = {v: _one_location_of(values[v], positions) if is_elementwise else values[v] for v in read}

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
            _zeros_at_one(values[v], way.located[v]) if x is None else x for v, x in zip(located, locals_, strict=True)
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
                moved = {v: _one_location_of(c, [1 + position for position in positions]) for v, c in moved.items()}
            if moved:
                seconds = [sum_of_present(a, b) for a, b in zip(seconds, slopes(first, moved), strict=True)]
        return list(zip(firsts, seconds, strict=True))

    return rule


def _one_location_of(value, positions):
    """The value with length 1 along the location axes; a scalar as it is."""
    if jnp.ndim(value) == 0:
        return value
    return value[tuple(slice(0, 1) if axis in positions else slice(None) for axis in range(value.ndim))]


def _zeros_at_one(value, positions):
    return jnp.zeros_like(_one_location_of(value, positions))


def _at_one_location(coefficients, positions):
    positions = [1 + position for position in positions]
    return tuple(None if c is None else _one_location_of(c, positions) for c in coefficients)


def _at_every_location(plan, v, coefficients):
    shape = plan.program.avals[v].shape
    return tuple(None if c is None else jnp.broadcast_to(c, (c.shape[0], *shape)) for c in coefficients)


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


def _collected(plan, way, v, gradient, added, shape):
    """<gradient, added coefficient> for every direction and location, in the shape of the result."""
    other_axes = [positions[v] for axis, positions in plan.independent_axes.items() if axis not in way.axes]
    if v not in way.located:
        total = _inner(gradient, added, other_axes)
        if total is None:
            return 0
        rest = shape[1 + len(way.axes) :]
        return total.reshape(
            (shape[0], *(shape[1 : 1 + len(way.axes)] if v in way.own else [1] * len(way.axes)), *rest)
        )
    at_shared, at_own = (_inner(gradient, part, [*way.located[v], *other_axes]) for part in added)
    locations = tuple(range(1, 1 + len(way.axes)))
    everywhere = None if at_shared is None else at_shared.sum(locations, keepdims=True) - at_shared
    total = sum_of_present(everywhere, at_own)
    return 0 if total is None else total


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


def _locations(plan, way):
    return math.prod(plan.program.avals[plan.seed].shape[axis] for axis in way.axes)


def _zip(stage, inputs):
    return zip(stage.inputs, inputs, strict=True)
