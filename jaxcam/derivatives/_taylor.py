"""Second and third derivatives of a scalar function along every unit direction of A, by Taylor coefficients.

Along e_n, each value v of the function is v + t v1 + t^2 v2 + ...; v1 and v2 are carried by hand for a chunk of
directions at once, while all that does not depend on the direction (v itself, the derivatives of an activation there)
is computed once:

- a linear step, or a piecewise linear one, acts on each coefficient;
- a product follows Leibniz: (a b)2 = a0 b2 + a1 b1 + a2 b0;
- a run of elementwise steps from one value to another is one function phi of it:
  v1 = phi' r1, v2 = phi' r2 + phi''/2 r1^2;
- any other step goes through nested `jvp`.

The last coefficients of u are not pushed through, they are collected: u is linear in what a step adds to its own
result, with the gradient g of u there as the factor, so u2 = 2 sum <g, own second coefficient> and
u3 = 6 sum <g, own third coefficient>, over the steps that are not linear; for phi they are phi''/2 r1^2 and
phi'' r1 r2 + phi'''/6 r1^3. So no third coefficient is carried, and nothing beyond the last smooth step.

Which directions are pushed through which steps is the plan: `jaxcam.plans`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcam.derivatives._plan import Plan
from jaxcam.derivatives._plan import frontier as frontier_of
from jaxcam.derivatives._push import ROWS_AT_A_TIME, _apply, _inner_product, _prepare, _Unit, _wide
from jaxcam.tracing import evaluate, needed, typed_as


def along_all(
    plan: Plan, values: dict[int, Any], *, progress: Callable[[], None] | None = None
) -> tuple[jax.Array, jax.Array]:
    """u2 and u3 on A's shape, from the values of all steps; `progress` is called after each chunk of directions."""
    program, start = plan.program, plan.start
    (A,), (u,) = program.inputs, program.outputs
    wide = _wide(values[u]).dtype
    shape = program.avals[start].shape
    apart = tuple(shape[axis] for axis in plan.apart)
    gradients = _gradients(plan, values)
    prepared = [_prepare(event, values, program) for event in plan.pushed]
    jacobian = _columns(plan, values)

    def chunk(indices):
        coefficients: dict[int, Any] = {
            v: (jnp.moveaxis(rows[..., indices], -1, 0), None) for v, rows in jacobian.items()
        }
        coefficients[start] = (_Unit(indices, values[start], tuple(plan.apart)), None)
        second = third = nothing
        for event, ready in zip(plan.pushed, prepared, strict=True):
            made, own = ready([coefficients.get(v, (None, None)) for v in event.inputs])
            coefficients.update(zip(event.outputs, made, strict=True))
            for v, (own2, own3) in zip(event.outputs, own, strict=True) if event.kind != "linear" else ():
                kept = [places[v] for places in plan.apart.values()]
                second = second + _inner_product(gradients[v], own2, kept)
                third = third + _inner_product(gradients[v], own3, kept)
        return 2 * second, 6 * third

    scale = _scale(plan, values).ravel().astype(wide)
    elements, count, size = math.prod(shape), plan.directions, min(plan.size, plan.directions)
    chunks = -(-count // size)
    nothing = typed_as(jnp.zeros((size, *apart), wide), values[u])
    feeds = jnp.asarray(np.where(plan.feeds < 0, elements, plan.feeds), jnp.int32)
    order = jnp.arange(count)
    if plan.masks:
        used = jnp.zeros(elements, jnp.int32).at[feeds].max((scale != 0).astype(jnp.int32), mode="drop")
        used = (used.reshape(shape) * _reaches(plan, values)).max(tuple(plan.apart)).ravel()
        order = jnp.argsort(-used, stable=True)
    padded = typed_as(jnp.concatenate([order, order[: chunks * size - count]]).reshape(chunks, size), values[u])

    # The trip count is fixed, so that a map in a loss has a gradient: chunks without a live direction are passed over.
    @jax.checkpoint
    def body(indices):
        if not plan.masks:
            return chunk(indices)
        none = (nothing, nothing)
        return jax.lax.cond(used[indices].any(), chunk, lambda _: none, indices)

    def step(_, indices):
        second, third = body(indices)
        if progress is not None:
            jax.debug.callback(lambda _: progress(), second.ravel()[0])
        return None, (second, third)

    _, by_order = jax.lax.scan(step, None, padded)
    dead = (feeds == elements) | (scale == 0)
    rest = [axis for axis in range(len(shape)) if axis not in plan.apart]
    back = np.argsort([*rest, *plan.apart])

    def on_A(pushed, power):
        pushed = pushed.reshape(chunks * size, *apart)[:count]
        by_direction = jnp.zeros_like(pushed).at[order].set(pushed).reshape(*(shape[axis] for axis in rest), *apart)
        by_element = by_direction.transpose(back).ravel()
        return jnp.where(dead, 0, scale**power * by_element[feeds % elements]).reshape(program.avals[A].shape)

    return on_A(by_order[0], 2), on_A(by_order[1], 3)


def _scale(plan, values):
    """s_n: the derivative of the one element of `start` that A_n feeds."""
    (A,) = plan.program.inputs
    if plan.start == A:
        return jnp.ones_like(values[A])
    steps, _ = needed(plan.program.steps, [plan.start])
    _, pull = jax.vjp(lambda x: evaluate(steps, {**values, A: x})[plan.start], values[A])
    return pull(jnp.ones_like(values[plan.start]))[0]


def _reaches(plan, values):
    """1 for each element of `start` that moves anything the smooth steps read, 0 where max pooling or relu stop it.

    Its column of the frontier's Jacobian is zero: two random combinations of the rows are zero there, and, but for
    a coincidence of rounding twice over, nowhere else.
    """
    x = values[plan.start]
    read, before = frontier_of(plan.program, plan.events)
    if plan.start in read:
        return jnp.ones(x.shape, jnp.int32)

    def frontier(x):
        made = evaluate(before, {**values, plan.start: x}, rule=lambda event, inputs, _: _apply(event, values, inputs))
        return [made[v] for v in read]

    outputs, pull = jax.vjp(frontier, x)

    def combination(key):
        keys = jax.random.split(key, len(outputs))
        drawn = [jax.random.normal(k, out.shape, out.dtype) for k, out in zip(keys, outputs, strict=True)]
        return pull([typed_as(value, out) for value, out in zip(drawn, outputs, strict=True)])[0]

    return jnp.any(jax.lax.map(combination, jax.random.split(jax.random.key(0), 2)) != 0, axis=0).astype(jnp.int32)


def _gradients(plan, values):
    """The gradient of u with respect to each value that a curved event makes, each with the others' inputs held."""
    (u,) = plan.program.outputs
    curved = [v for event in plan.pushed if event.kind != "linear" for v in event.outputs]

    def tail(added):
        def apply_and_add(event, inputs, _):
            made = zip(event.outputs, _apply(event, values, inputs), strict=True)
            return [value + added[v] if v in added else value for v, value in made]

        return evaluate(plan.events, values, rule=apply_and_add)[u]

    return jax.grad(tail)({v: jnp.zeros_like(values[v]) for v in curved})


def _columns(plan, values):
    """The Jacobian's columns of the frontier, `[*shape directions]` for each of its values, a row a backward pass."""
    if not plan.columns:
        return {}

    def frontier(x):
        start = {**values, plan.start: x}
        made = evaluate(plan.before, start, rule=lambda event, inputs, _: _apply(event, values, inputs))
        return [made[v] for v in plan.columns]

    outputs, pull = jax.vjp(frontier, values[plan.start])
    flat, unflatten = ravel_pytree(outputs)

    def row(i):
        unit = typed_as(jax.nn.one_hot(i, flat.size, dtype=flat.dtype), flat)
        return pull(unflatten(unit))[0].sum(tuple(plan.apart)).ravel()

    rows = jax.lax.map(row, jnp.arange(flat.size), batch_size=min(flat.size, ROWS_AT_A_TIME))
    ends = np.cumsum([each.size for each in outputs])[:-1]
    return {
        v: part.astype(each.dtype).reshape(*each.shape, -1)
        for v, part, each in zip(plan.columns, jnp.split(rows, ends), outputs, strict=True)
    }
