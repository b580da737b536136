"""The push of own values: rows, one for each direction and location, of which those that do not count are skipped.

Behind a sum over the locations every direction and location is pushed by itself, as `_push.py` does it: in a
transformer whose head reads the class token alone, the class token of each through the rest of the head. That is most
of the work, so rows are sorted, and blocks of rows without one that counts are skipped.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32
from jaxcam.derivatives._live import any_in_batch
from jaxcam.derivatives._pairs import ZERO, apply_and_add, inner_product, other_axes
from jaxcam.derivatives._plan import Plan, Stage
from jaxcam.derivatives._push import Coefficients, taylor_rule
from jaxcam.derivatives._shared_local import SharedLocal
from jaxcam.tracing import typed_as

ROWS_AT_A_TIME = 256  # large enough for matrix products at the machine's rate


def is_stage_of_rows(way: SharedLocal, stage: Stage) -> bool:
    """Whether a stage makes rows of rows and common values; the sum that makes the first rows is none."""
    return stage.outputs[0] in way.own and not any(v in way.located for v in stage.inputs)


def make_row_push(
    plan: Plan, way: SharedLocal, values: dict[int, Any], gradients: dict[int, Any], live: jax.Array | None
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The function `(coefficients, curve, indices)` of a chunk to the sums of <g, added> of its rows, second and third.

    They have the shape `[directions * locations *other independent axes]`.

    Args:
      plan: with `shared_local`.
      way: how the locations meet.
      values: all values of the program.
      gradients: the gradient of u in each output of a smooth stage.
      live: whether a direction counts at each location, `[directions *locations]`; None if all do.
    """
    stages = [stage for stage in plan.pushed_stages if is_stage_of_rows(way, stage)]
    rules = [taylor_rule(plan.program, stage, values) for stage in stages]
    made = {v for stage in stages for v in stage.outputs}
    given = {v for stage in stages for v in stage.inputs} - made
    like = values[plan.program.outputs[0]]

    def along(rows):
        """The sums for rows, `[rows *other independent axes]`."""
        coefficients = dict(rows)
        second = third = zeros_for(rows)
        for stage, rule in zip(stages, rules, strict=True):
            outputs, added = apply_and_add(stage, rule, [coefficients.get(v, ZERO) for v in stage.inputs])
            coefficients.update(zip(stage.outputs, outputs, strict=True))
            for v, (added2, added3) in zip(stage.outputs, added or (), strict=bool(added)):
                others = other_axes(plan, way, v)
                second = second + inner_product(gradients[v], added2, others)
                third = third + inner_product(gradients[v], added3, others)
        return second, third

    def zeros_for(rows):
        count = jax.tree.leaves(rows)[0].shape[0]
        others = [plan.program.avals[plan.seed].shape[axis] for axis in plan.independent_axes if axis not in way.axes]
        return typed_as(jnp.zeros((count, *others), at_least_float32(like).dtype), like)

    def push(coefficients, curve, indices):
        rows = {v: _rows_of(plan, way, v, coefficients[v], curve) for v in given if v in coefficients}
        return along(rows) if live is None else _push_live(along, zeros_for, rows, live[indices].ravel())

    return push


def _push_live(along, zeros_for, rows, is_live):
    """The sums of rows, in blocks; zero for blocks without a live row."""
    count = is_live.size
    size = min(count, ROWS_AT_A_TIME)
    blocks = -(-count // size)
    order = jnp.argsort(~is_live, stable=True)
    fill = blocks * size - count
    in_blocks = jnp.concatenate([order, order[:fill]]).reshape(blocks, size)
    flags = jnp.concatenate([is_live[order], jnp.zeros(fill, bool)]).reshape(blocks, size)

    def push_block(block):
        return along(jax.tree.map(lambda c: c[block], rows))

    def push_if_live(_, block_and_flags):
        block, any_live = block_and_flags[0], any_in_batch(block_and_flags[1])
        zeros = zeros_for({0: (block, None)})
        return None, jax.lax.cond(any_live, push_block, lambda _: (zeros, zeros), block)

    _, sums = jax.lax.scan(push_if_live, None, (in_blocks, flags))
    flat = [array.reshape(blocks * size, *array.shape[2:])[:count] for array in sums]
    return tuple(jnp.zeros_like(array).at[order].set(array) for array in flat)


def _rows_of(plan: Plan, way: SharedLocal, v: int, coefficients: Coefficients, curve: Any) -> Coefficients:
    """The coefficients of a value for each direction and location, in which common values are repeated."""
    if v in way.own:
        return coefficients
    locations = [plan.program.avals[plan.seed].shape[axis] for axis in way.axes]
    if v not in way.curved:
        first, second = (None if c is None else jnp.repeat(c, math.prod(locations), axis=0) for c in coefficients)
        return first, second
    shape = plan.program.avals[v].shape
    positions = [*range(len(locations)), *(len(locations) + axis for axis in other_axes(plan, way, v))]
    own = curve.of_coefficients(coefficients, positions, [*[1] * len(locations), *shape])
    first, second = (None if c is None else c.reshape(-1, *shape) for c in own)
    return first, second
