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

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcam import plans
from jaxcam.jaxprs import typed_as
from jaxcam.linearity import Step
from jaxcam.plans import Plan

ROWS_AT_A_TIME = 32


def run(steps: tuple[Step, ...], values: dict[int, Any]) -> dict[int, Any]:
    """The values, with those added that the steps make."""
    values = dict(values)
    for step in steps:
        values.update(zip(step.outputs, step.run(*(values[v] for v in step.inputs)), strict=True))
    return values


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


class _Unit(NamedTuple):
    """Unit directions, not written out: the i-th is one at `indices[i]` of the axes that are not apart."""

    indices: jax.Array
    like: jax.Array
    apart: tuple[int, ...]

    def dense(self):
        rest = [1 if axis in self.apart else n for axis, n in enumerate(self.like.shape)]
        units = jax.nn.one_hot(self.indices, math.prod(rest), dtype=self.like.dtype).reshape(-1, *rest)
        units = typed_as(units, self.like)
        return jnp.broadcast_to(units, (units.shape[0], *self.like.shape))


def _dense(coefficient):
    return coefficient.dense() if isinstance(coefficient, _Unit) else coefficient


def _scale(plan, values):
    """s_n: the derivative of the one element of `start` that A_n feeds."""
    (A,) = plan.program.inputs
    if plan.start == A:
        return jnp.ones_like(values[A])
    _, pull = jax.vjp(lambda x: run(_steps_to(plan.program, plan.start), {**values, A: x})[plan.start], values[A])
    return pull(jnp.ones_like(values[plan.start]))[0]


def _reaches(plan, values):
    """1 for each element of `start` that moves anything the smooth steps read, 0 where max pooling or relu stop it.

    Its column of the frontier's Jacobian is zero: two random combinations of the rows are zero there, and, but for
    a coincidence of rounding twice over, nowhere else.
    """
    x = values[plan.start]
    read, before = plans.frontier(plan.program, plan.events)
    if plan.start in read:
        return jnp.ones(x.shape, jnp.int32)

    def frontier(x):
        now = {**values, plan.start: x}
        for event in before:
            now.update(zip(event.outputs, _apply(event, values, [now[v] for v in event.inputs]), strict=True))
        return [now[v] for v in read]

    outputs, pull = jax.vjp(frontier, x)

    def combination(key):
        keys = jax.random.split(key, len(outputs))
        drawn = [jax.random.normal(k, out.shape, out.dtype) for k, out in zip(keys, outputs, strict=True)]
        return pull([typed_as(value, out) for value, out in zip(drawn, outputs, strict=True)])[0]

    return jnp.any(jax.lax.map(combination, jax.random.split(jax.random.key(0), 2)) != 0, axis=0).astype(jnp.int32)


def _steps_to(program, value):
    wanted, kept = {value}, []
    for step in reversed(program.steps):
        if wanted.intersection(step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return tuple(reversed(kept))


def _apply(event, values, inputs):
    made = run(event.steps, {**values, **dict(zip(event.inputs, inputs, strict=True))})
    return [made[v] for v in event.outputs]


def _gradients(plan, values):
    """The gradient of u with respect to each value that a curved event makes, each with the others' inputs held."""
    (u,) = plan.program.outputs
    curved = [v for event in plan.pushed if event.kind != "linear" for v in event.outputs]

    def tail(added):
        now = dict(values)
        for event in plan.events:
            made = _apply(event, values, [now[v] for v in event.inputs])
            added_to = [value + added[v] if v in added else value for v, value in zip(event.outputs, made, strict=True)]
            now.update(zip(event.outputs, added_to, strict=True))
        return now[u]

    return jax.grad(tail)({v: jnp.zeros_like(values[v]) for v in curved})


def _columns(plan, values):
    """The Jacobian's columns of the frontier, `[*shape directions]` for each of its values, a row a backward pass."""
    if not plan.columns:
        return {}

    def frontier(x):
        now = {**values, plan.start: x}
        for event in plan.before:
            now.update(zip(event.outputs, _apply(event, values, [now[v] for v in event.inputs]), strict=True))
        return [now[v] for v in plan.columns]

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


# ---- What each kind of event does: `ready(coefficients of its inputs)` gives those of its outputs, and, where it is
# curved, the second and third coefficient that it adds by itself. Coefficients are `(first, second)`, `[batch *shape]`,
# or None for zero.


def _prepare(event, values, program):
    if event.kind == "linear":
        return _linear(event, values, program)
    return {"curve": _curve, "product": _product, "quotient": _quotient, "nested": _nested}[event.kind](event, values)


def _linear(event, values, program):
    base = [values[v] for v in event.inputs]
    first, shapes = event.steps[0], {program.avals[v].shape for v in (*event.inputs, *event.outputs)}
    if len(event.inputs) == 1 and len(shapes) == 1 and all(plans.is_elementwise(program, step) for step in event.steps):
        (slope,) = jax.jvp(lambda x: _apply(event, values, [x]), base, [jnp.ones_like(base[0])])[1]
        return lambda inputs: (
            [tuple(None if c is None else slope[None] * _dense(c).astype(slope.dtype) for c in inputs[0])],
            None,
        )
    _, linear = jax.linearize(lambda *inputs: _apply(event, values, inputs), *base)

    def act(some):
        if isinstance(some[0], _Unit) and len(some) == 1 and plans.reads_rows(program, first, event.inputs[0]):
            return [_rows(first, values, event.inputs[0], some[0].indices, program)]
        return _batched(linear, some, base)

    def ready(inputs):
        made = [act([c[k] for c in inputs]) if any(c[k] is not None for c in inputs) else None for k in (0, 1)]
        count = range(len(event.outputs))
        return [tuple(None if each is None else each[i] for each in made) for i in count], None

    return ready


def _rows(step, values, value, indices, program):
    side = step.inputs.index(value)
    contracted, _ = step.params["dimension_numbers"]
    weights = values[step.inputs[1 - side]]
    # The weights' contracted axes in the order of the value's own, then the free ones.
    by_axis = dict(zip(contracted[side], contracted[1 - side], strict=True))
    front = [by_axis[axis] for axis in sorted(by_axis)]
    free = [axis for axis in range(weights.ndim) if axis not in front]
    rows = weights.transpose(*front, *free).reshape(values[value].size, -1)[indices]
    out = program.avals[step.outputs[0]]
    return rows.astype(out.dtype).reshape(-1, *out.shape)


def _batched(f, some, base):
    """f over a batch of coefficients, those that are None being zero."""
    axes = [None if c is None else 0 for c in some]
    return jax.vmap(f, in_axes=axes)(
        *(jnp.zeros_like(x) if c is None else _dense(c) for c, x in zip(some, base, strict=True))
    )


def _derivatives(f, x):
    """f's first three derivatives at x along ones, from one nest of jvp."""

    def d(f):
        return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))

    (_, (_, second)), ((first, _), (_, third)) = d(d(d(f)))(x)
    return first, second, third


def _curve(event, values):
    """v = phi(r), elementwise: phi's derivatives are taken once, not for each direction."""
    derivatives = _derivatives(lambda x: _apply(event, values, [x])[0], values[event.inputs[0]])
    d1 = derivatives[0][None]
    d2, d3 = (_wide(d)[None] for d in derivatives[1:])
    half, sixth = d2 / 2, d3 / 6

    def ready(inputs):
        ((r1, r2),) = inputs
        r1 = _dense(r1)
        r = _wide(r1)
        own2 = half * r**2
        own3 = sixth * r**3 if r2 is None else r * (d2 * _wide(r2) + sixth * r**2)
        # A run may change the type on its way: half precision in, float32 out.
        first, second = d1 * r1.astype(d1.dtype), own2.astype(d1.dtype)
        if r2 is not None:
            second = d1 * r2.astype(d1.dtype) + second
        return [(first, second)], [(own2, own3)]

    return ready


def _sum(*terms):
    some = [term for term in terms if term is not None]
    return functools.reduce(jnp.add, some) if some else None


def _product(event, values):
    (step,) = event.steps
    a, b = step.inputs
    moving = [v if v in event.inputs else None for v in step.inputs]

    def times(x, y):
        if x is None or y is None:
            return None
        axes = [None if each is base else 0 for each, base in ((x, values[a]), (y, values[b]))]
        return jax.vmap(lambda x, y: step.run(x, y)[0], in_axes=axes)(_dense(x), _dense(y))

    def ready(inputs):
        of = dict(zip(event.inputs, inputs, strict=True))
        (a1, a2), (b1, b2) = (of[v] for v in moving)
        own2, own3 = times(a1, b1), _sum(times(a1, b2), times(a2, b1))
        first = _sum(times(a1, values[b]), times(values[a], b1))
        second = _sum(times(a2, values[b]), times(values[a], b2), own2)
        return [(first, second)], [(own2, own3)]

    return ready


def _quotient(event, values):
    (step,) = event.steps
    a0, b0 = (values[v][None] for v in step.inputs)
    q0 = a0 / b0

    def ready(inputs):
        (a1, a2), (b1, b2) = ((_dense(first), second) for first, second in inputs)
        q1 = (a1 - q0 * b1) / b0
        own2 = -q1 * b1 / b0
        q2 = _sum(own2, None if a2 is None else a2 / b0, None if b2 is None else -q0 * b2 / b0)
        own3 = _sum(-q2 * b1 / b0, None if b2 is None else -q1 * b2 / b0)
        return [(q1, q2)], [(own2, own3)]

    return ready


def _nested(event, values):
    base = [values[v] for v in event.inputs]

    def along(t, firsts, seconds):
        at = [
            x + t.astype(x.dtype) * a + (t * t).astype(x.dtype) * b
            for x, a, b in zip(base, firsts, seconds, strict=True)
        ]
        return _apply(event, values, at)

    def derivatives(firsts, seconds):
        zero = jax.lax.full_like(
            base[0], 0, jnp.finfo(_wide(base[0]).dtype).dtype, shape=()
        )  # real, of complex values too
        one, two, three = _derivatives(lambda t: along(t, firsts, seconds), zero)
        _, own2, _ = _derivatives(lambda t: along(t, firsts, [jnp.zeros_like(b) for b in seconds]), zero)
        return one, two, own2, three

    def ready(inputs: list[Any]) -> tuple[list[Any], list[Any]]:
        some = [c for pair in zip(*inputs, strict=True) for c in pair]
        half = len(inputs)
        one, two, own2, own3 = _batched(lambda *c: derivatives(c[:half], c[half:]), some, [*base, *base])
        made = [(first, second / 2) for first, second in zip(one, two, strict=True)]
        return made, [(second / 2, third / 6) for second, third in zip(own2, own3, strict=True)]

    return ready


def _inner_product(gradient, own, kept):
    """<gradient, own> for each direction and each index of the axes that are apart."""
    if own is None:
        return 0
    summed = tuple(1 + axis for axis in range(gradient.ndim) if axis not in kept)
    # The kept axes in the order in which they are listed.
    # The gradient of a real function of complex values is already conjugate.
    return (_wide(gradient)[None] * _wide(own)).real.sum(summed).transpose(0, *(1 + np.argsort(np.argsort(kept))))


def _wide(x):
    """At least float32: squares and cubes of half-precision derivatives underflow."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
