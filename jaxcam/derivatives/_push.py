"""TODO."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.derivatives._plan import is_elementwise
from jaxcam.derivatives._structure import reads_rows
from jaxcam.tracing import evaluate, typed_as

ROWS_AT_A_TIME = 32


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
    if len(event.inputs) == 1 and len(shapes) == 1 and all(is_elementwise(program, step) for step in event.steps):
        (slope,) = jax.jvp(lambda x: _apply(event, values, [x]), base, [jnp.ones_like(base[0])])[1]
        return lambda inputs: (
            [tuple(None if c is None else slope[None] * _dense(c).astype(slope.dtype) for c in inputs[0])],
            None,
        )
    _, linear = jax.linearize(lambda *inputs: _apply(event, values, inputs), *base)

    def act(some):
        if isinstance(some[0], _Unit) and len(some) == 1 and reads_rows(program, first, event.inputs[0]):
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


def _apply(event, values, inputs):
    made = evaluate(event.steps, {**values, **dict(zip(event.inputs, inputs, strict=True))})
    return [made[v] for v in event.outputs]
