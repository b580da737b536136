"""Second and third derivatives of a scalar function along every unit direction of A, by Taylor coefficients.

Along e_n, each value v of the function is v + t v1 + t^2 v2 + ... The coefficients v1 and v2 are carried for a chunk of
directions at once, by the rules of `_push.py`. What does not depend on the direction (v itself, the derivatives of an
activation at v) is computed once.

The last coefficients of u are not pushed to the end but collected. Every stage adds something of its own to the second
and third coefficient of its output, and from there on u is linear in it, with the gradient g of u as the factor. So

    u2 = 2 sum <g, added second coefficient>,    u3 = 6 sum <g, added third coefficient>,

summed over the stages that are not linear. No third coefficient is carried, and nothing is pushed beyond the last
smooth stage.

For u = 3 exp(2 A) at 0, two stages are linear and one is phi = exp of r = 2 A. There r1 = 2 and g = 3, so that
u2 = 2 * 3 * (1/2) * 2^2 = 12 and u3 = 6 * 3 * (1/6) * 2^3 = 24:

    >>> from jaxcam.derivatives._plan import make_plan
    >>> from jaxcam.derivatives._program import trace
    >>> plan = make_plan(trace(lambda A: (3 * jnp.exp(2 * A)).sum(), jnp.zeros(1)))
    >>> [scaled.value().tolist() for scaled in second_and_third_derivatives(plan, jnp.zeros(1))]
    [[12.0], [24.0]]

Which directions are pushed through which stages is the plan: `_plan.py`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcam._base.numerics import Scaled, at_least_float32, exponent_of_unit
from jaxcam.derivatives._live import any_in_batch, live_for_order
from jaxcam.derivatives._pairs import inner_product
from jaxcam.derivatives._plan import Plan
from jaxcam.derivatives._push import UnitDirections, apply_stage, taylor_rule
from jaxcam.derivatives._push_shared_local import make_shared_local_push
from jaxcam.tracing import evaluate, needed, typed_as

JACOBIAN_ROWS_AT_A_TIME = 32


def second_and_third_derivatives(
    plan: Plan, A: jax.Array, *, where: jax.Array | None = None, progress: Callable[[], None] | None = None
) -> tuple[Scaled, Scaled]:
    """u2 and u3 at every element of A, at least float32, times a power of two that keeps them in the range of floats.

    Args:
      plan: of the function.
      A: the activation.
      where: a mask of A's shape; elsewhere the derivatives are zero, and chunks without an element of it are skipped.
      progress: called after each chunk of directions.
    """
    if plan.rest is not None:
        is_rest = jnp.asarray(plan.rest_elements).reshape(A.shape)
        masks = (part if where is None else where & part for part in (~is_rest, is_rest))
        plans = (plan._replace(rest=None), plan.rest)
        parts = (
            second_and_third_derivatives(part, A, where=mask, progress=progress)
            for part, mask in zip(plans, masks, strict=True)
        )
        # Both have the exponent of their program.
        second, third = (Scaled(a.array + b.array, a.exponent) for a, b in zip(*parts, strict=True))
        return second, third
    program = plan.program
    values = evaluate(program.steps, {**program.constants, program.inputs[0]: A})
    slope = _slope_of_seed(plan, values)
    if where is not None:
        slope = jnp.where(where, slope, 0)
    combinations = _combinations_of_frontier(plan, values)
    live = _live_elements(plan, slope, combinations) if plan.may_be_masked or where is not None else None
    # Along a step that moves the frontier by about 1, squares and cubes of the movement are in range.
    j = _exponent_of_length(combinations)
    second, third, order = _push_in_chunks(plan, values, live, j, progress)
    return (
        Scaled(_spread_over_A(plan, second, order, slope, 2), -2 * j),
        Scaled(_spread_over_A(plan, third, order, slope, 3), -3 * j),
    )


# ---- The push.
def _push_in_chunks(plan, values, live, j, progress):
    """Derivatives along the directions, `[directions *independent axes]`, the second and third, and their order.

    They are those along steps of length 2**j. Directions without a live element come last.
    """
    (u,) = plan.program.outputs
    is_live, order = None, jnp.arange(plan.directions)
    if live is not None:
        is_live = live_for_order(live.any(range(1, live.ndim)), jax.lax.stop_gradient(values[plan.seed]))
        order = jnp.argsort(~is_live, stable=True)
    size, chunks = min(plan.chunk_size, plan.directions), plan.chunks
    independent_shape = [plan.program.avals[plan.seed].shape[axis] for axis in plan.independent_axes]
    zeros = typed_as(jnp.zeros((size, *independent_shape), at_least_float32(values[u]).dtype), values[u])
    push = _make_push(plan, values, zeros, live, j)
    # The last chunk is filled up with the first directions.
    padded = jnp.concatenate([order, order[: chunks * size - plan.directions]])
    padded = typed_as(padded.reshape(chunks, size), values[u])

    # The number of chunks is fixed, so that a map in a loss has a gradient. Chunks of masked directions are skipped.
    @jax.checkpoint
    def push_if_live(indices):
        if is_live is None:
            return push(indices)
        return jax.lax.cond(any_in_batch(is_live[indices]), push, lambda _: (zeros, zeros), indices)

    def step(_, indices):
        second, third = push_if_live(indices)
        if progress is not None:
            jax.debug.callback(lambda _: progress(), second.ravel()[0])
        return None, (second, third)

    _, derivatives = jax.lax.scan(step, None, padded)
    return *(array.reshape(chunks * size, *independent_shape)[: plan.directions] for array in derivatives), order


def _make_push(plan, values, zeros, live, j):
    """The function from the indices of a chunk of directions to the derivatives along them."""
    length = jnp.ldexp(jnp.ones_like(zeros, shape=()), j)
    gradients = _gradients_at_smooth_stages(plan, values)
    if plan.shared_local is not None:
        return make_shared_local_push(plan, values, gradients, length, zeros, live)
    jacobian = _jacobian_by_reverse_mode(plan, values)
    rules = [taylor_rule(plan.program, stage, values) for stage in plan.pushed_stages]

    def push(indices):
        coefficients: dict[int, Any] = {
            v: (jnp.moveaxis(columns[..., indices], -1, 0) * length.astype(columns.dtype), None)
            for v, columns in jacobian.items()
        }
        directions = UnitDirections(indices, values[plan.seed], tuple(plan.independent_axes), length)
        coefficients[plan.seed] = (directions, None)
        second = third = zeros
        for stage, rule in zip(plan.pushed_stages, rules, strict=True):
            outputs, added = rule([coefficients.get(v, (None, None)) for v in stage.inputs])
            coefficients.update(zip(stage.outputs, outputs, strict=True))
            if added is None:
                continue
            for v, (added2, added3) in zip(stage.outputs, added, strict=True):
                kept_axes = [positions[v] for positions in plan.independent_axes.values()]
                second = second + inner_product(gradients[v], added2, kept_axes)
                third = third + inner_product(gradients[v], added3, kept_axes)
        return 2 * second, 6 * third

    return push


def _gradients_at_smooth_stages(plan, values):
    """The gradient of u in each output of a pushed smooth stage, while the inputs of the stage are held."""
    (u,) = plan.program.outputs
    smooth = [v for stage in plan.pushed_stages if stage.kind != "linear" for v in stage.outputs]

    def u_of_added(added):
        def apply_and_add(stage, inputs, _):
            outputs = zip(stage.outputs, apply_stage(stage, values, inputs), strict=True)
            return [value + added[v] if v in added else value for v, value in outputs]

        return evaluate(plan.stages, values, rule=apply_and_add)[u]

    return jax.grad(u_of_added)({v: jnp.zeros_like(values[v]) for v in smooth})


def _jacobian_by_reverse_mode(plan, values):
    """The columns of the Jacobian for each of the plan's `jacobian_values`, `[*shape directions]`."""
    if not plan.jacobian_values:
        return {}
    outputs, vjp_of_seed = jax.vjp(_frontier_of_seed(plan, values, plan.jacobian_values), values[plan.seed])
    flat, unflatten = ravel_pytree(outputs)

    def row_of_jacobian(i):
        unit = typed_as(jax.nn.one_hot(i, flat.size, dtype=flat.dtype), flat)
        return vjp_of_seed(unflatten(unit))[0].sum(tuple(plan.independent_axes)).ravel()

    rows = jax.lax.map(row_of_jacobian, jnp.arange(flat.size), batch_size=min(flat.size, JACOBIAN_ROWS_AT_A_TIME))
    ends = np.cumsum([output.size for output in outputs])[:-1]
    return {
        v: part.astype(output.dtype).reshape(*output.shape, -1)
        for v, part, output in zip(plan.jacobian_values, jnp.split(rows, ends), outputs, strict=True)
    }


def _frontier_of_seed(plan, values, frontier):
    """Values of the frontier as a function of the seed."""

    def frontier_of_seed(x):
        def apply(stage, inputs, _):
            return apply_stage(stage, values, inputs)

        made = evaluate(plan.frontier_stages, {**values, plan.seed: x}, rule=apply)
        return [made[v] for v in frontier]

    return frontier_of_seed


# ---- From the directions of the seed to the elements of A, and back.
def _slope_of_seed(plan, values):
    """s_n for each element of A: the derivative of the only element of the seed that it reaches."""
    (A,) = plan.program.inputs
    if plan.seed == A:
        return jnp.ones_like(values[A])
    steps, _ = needed(plan.program.steps, [plan.seed])
    _, vjp_of_A = jax.vjp(lambda x: evaluate(steps, {**values, A: x})[plan.seed], values[A])
    return vjp_of_A(jnp.ones_like(values[plan.seed]))[0]


def _live_elements(plan, slope, combinations):
    """Which elements of the seed count, `[directions *independent axes]`.

    An element does not if no element of A moves it (its slopes are 0), or if it moves nothing in the frontier.
    """
    shape = plan.program.avals[plan.seed].shape
    elements = math.prod(shape)
    is_moved = jnp.zeros(elements, jnp.int32)
    seed_element_of = jnp.asarray(np.where(plan.seed_element_of < 0, elements, plan.seed_element_of), jnp.int32)
    is_moved = is_moved.at[seed_element_of].max((slope.ravel() != 0).astype(jnp.int32), mode="drop")
    is_live = is_moved.reshape(shape) * _moves_the_frontier(plan, combinations) > 0
    axes = [*(axis for axis in range(len(shape)) if axis not in plan.independent_axes), *plan.independent_axes]
    return is_live.transpose(axes).reshape(plan.directions, *(shape[axis] for axis in plan.independent_axes))


def _moves_the_frontier(plan, combinations):
    """1 for each element of the seed that moves a value of the frontier, 0 if max pooling or relu stop it.

    An element that moves nothing has a column of zeros in the frontier's Jacobian. Two random combinations of its rows
    are zero there; elsewhere both are zero only by a coincidence of rounding.
    """
    if combinations is None:
        return jnp.ones(plan.program.avals[plan.seed].shape, jnp.int32)
    return jnp.any(combinations != 0, axis=0).astype(jnp.int32)


def _combinations_of_frontier(plan, values):
    """Two random combinations of the rows of the frontier's Jacobian, `[2 *seed]`; None if the seed is the frontier."""
    x = values[plan.seed]
    if plan.seed in plan.frontier:
        return None
    outputs, vjp_of_seed = jax.vjp(_frontier_of_seed(plan, values, plan.frontier), x)

    def random_combination(key):
        keys = jax.random.split(key, len(outputs))
        weights = [jax.random.normal(k, out.shape, out.dtype) for k, out in zip(keys, outputs, strict=True)]
        return vjp_of_seed([typed_as(weight, out) for weight, out in zip(weights, outputs, strict=True)])[0]

    return jax.lax.map(random_combination, jax.random.split(jax.random.key(0), 2))


def _exponent_of_length(combinations):
    """The exponent j for which a step of length 2**j along a direction moves the frontier by about 1."""
    if combinations is None:
        return jnp.int32(0)
    size = jnp.abs(jax.lax.stop_gradient(combinations)).max()
    # float16 ends where float32 is at ease.
    return exponent_of_unit(size, step=4, limit=12) if size.dtype == jnp.float16 else exponent_of_unit(size)


def _spread_over_A(plan, in_order, order, slope, power):
    """The derivative at every element of A: that along its direction, times its slope to the power of the order."""
    shape = plan.program.avals[plan.seed].shape
    by_direction = jnp.zeros_like(in_order).at[order].set(in_order)
    # [directions *independent axes] to the axes of the seed.
    pushed_axes = [axis for axis in range(len(shape)) if axis not in plan.independent_axes]
    axes = [*pushed_axes, *plan.independent_axes]
    by_seed_element = by_direction.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes)).ravel()
    slope = slope.ravel().astype(in_order.dtype)
    is_zero = (plan.seed_element_of < 0) | (slope == 0)
    index = jnp.asarray(np.maximum(plan.seed_element_of, 0), jnp.int32)
    derivative = jnp.where(is_zero, 0, slope**power * by_seed_element[index])
    return derivative.reshape(plan.program.avals[plan.program.inputs[0]].shape)
