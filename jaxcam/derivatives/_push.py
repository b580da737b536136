"""How one stage acts on Taylor coefficients: a rule for each kind of stage.

Along a direction, a value v becomes v(t) = v + t v1 + t^2 v2 + t^3 v3 + ... A stage with one input r has outputs whose
coefficients follow from those of r:

- linear, with slope s: v1 = s r1, v2 = s r2.
- elementwise, v = phi(r): v1 = phi' r1, v2 = phi' r2 + phi''/2 r1^2.
- product, v = a b: v1 = a1 b + a b1, v2 = a2 b + a1 b1 + a b2 (Leibniz).
- quotient, v = a / b: solve a = v b for the coefficients of v.
- nested: any function; three nested `jvp` along t.

Only v1 and v2 are carried. For the derivatives of u, `_taylor.py` needs what each stage *adds by itself* to its second
and third coefficient, beyond what a linear stage would pass on: for phi, phi''/2 r1^2 and phi'' r1 r2 + phi'''/6 r1^3.

An example, phi = exp at 0 along r1 = 2, r2 = 0. Then v(t) = e^(2t) = 1 + 2 t + 2 t^2 + 4/3 t^3 + ...

    >>> import jax.numpy as jnp
    >>> from jaxcam.derivatives._plan import make_plan
    >>> from jaxcam.derivatives._program import trace
    >>> plan = make_plan(trace(lambda r: jnp.exp(r).sum(), jnp.zeros(1)))
    >>> rule = taylor_rule(plan.program, plan.stages[0], {plan.seed: jnp.zeros(1)})
    >>> outputs, added = rule([(jnp.full([1, 1], 2.0), None)])  # one direction of one element; None is zero
    >>> [v1.item() for v1 in outputs[0]], [round(v.item(), 4) for v in added[0]]
    ([2.0, 2.0], [2.0, 1.3333])
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32
from jaxcam.derivatives._plan import Stage
from jaxcam.derivatives._program import Program
from jaxcam.derivatives._structure import is_elementwise, picks_weight_rows
from jaxcam.tracing import evaluate, typed_as

# Two coefficients of a value, `[directions *shape]` each: the first and second, or the second and third.
# None is zero. The first may be `UnitDirections`.
Coefficients = tuple[Any, Any]
# From the (first, second) of a stage's inputs to the (first, second) of its outputs, and the (second, third) that the
# stage adds by itself to each output; None for a linear stage, which adds nothing.
TaylorRule = Callable[[Sequence[Coefficients]], tuple[list[Coefficients], list[Coefficients] | None]]


class UnitDirections(NamedTuple):
    """Unit directions of a value, which are written out only where a rule needs the zeros.

    Attributes:
      indices: the i-th direction is 1 at the element `indices[i]`, counted over the axes that are not independent.
      value: the value.
      independent_axes: the axes along which each direction has copies.
      length: the number in the place of the 1, a power of two.
    """

    indices: jax.Array
    value: jax.Array
    independent_axes: tuple[int, ...]
    length: jax.Array

    def dense(self) -> jax.Array:
        """The directions as an array, `[directions *shape]`."""
        shape = [1 if axis in self.independent_axes else n for axis, n in enumerate(self.value.shape)]
        units = jax.nn.one_hot(self.indices, math.prod(shape), dtype=self.value.dtype).reshape(-1, *shape)
        units = typed_as(units * self.length.astype(units.dtype), self.value)
        return jnp.broadcast_to(units, (units.shape[0], *self.value.shape))


def taylor_rule(program: Program, stage: Stage, values: dict[int, Any]) -> TaylorRule:
    """The rule of a stage. All that does not depend on the direction is computed here, once.

    Args:
      program: the program of the stage.
      stage: a stage of its plan.
      values: all values of the program that the stage reads.
    """
    if stage.kind == "linear":
        return _linear_rule(program, stage, values)
    rules = {
        "elementwise": _elementwise_rule,
        "product": _product_rule,
        "quotient": _quotient_rule,
        "nested": _nested_rule,
    }
    return rules[stage.kind](stage, values)


def apply_stage(stage: Stage, values: dict[int, Any], inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a stage for other inputs; what else its steps read is in `values`."""
    made = evaluate(stage.steps, values | dict(zip(stage.inputs, inputs, strict=True)))
    return [made[v] for v in stage.outputs]


# ---- Linear stages.
def _linear_rule(program, stage, values):
    point = [values[v] for v in stage.inputs]
    shapes = {program.avals[v].shape for v in (*stage.inputs, *stage.outputs)}
    one_shape = len(stage.inputs) == 1 and len(shapes) == 1
    if one_shape and all(is_elementwise(program, step) for step in stage.steps):
        (slope,) = jax.jvp(lambda x: apply_stage(stage, values, [x]), point, [jnp.ones_like(point[0])])[1]
        return functools.partial(_scale_by_slope, slope)
    _, tangent_map = jax.linearize(lambda *inputs: apply_stage(stage, values, inputs), *point)

    def tangents(coefficients):
        (first, *others), step = coefficients, stage.steps[0]
        if isinstance(first, UnitDirections) and not others and picks_weight_rows(program, step, stage.inputs[0]):
            rows = _weight_rows(program, step, values, stage.inputs[0], first.indices)
            return [rows * first.length.astype(rows.dtype)]
        return _map_over_directions(tangent_map, coefficients, point)

    def rule(inputs):
        outputs = []
        for order in (0, 1):
            coefficients = [pair[order] for pair in inputs]
            is_zero = all(coefficient is None for coefficient in coefficients)
            outputs.append([None] * len(stage.outputs) if is_zero else tangents(coefficients))
        return list(zip(*outputs, strict=True)), None

    return rule


def _scale_by_slope(slope, inputs):
    (coefficients,) = inputs
    return [tuple(None if c is None else slope[None] * _as_array(c).astype(slope.dtype) for c in coefficients)], None


def _weight_rows(program, step, values, value, indices):
    """The tangents of a dense layer along unit directions: rows of its weights."""
    side = step.inputs.index(value)
    contracted, _ = step.params["dimension_numbers"]
    weights = values[step.inputs[1 - side]]
    # The weights' contracted axes in the order of the value's axes, then the free ones.
    weight_axis_of = dict(zip(contracted[side], contracted[1 - side], strict=True))
    front = [weight_axis_of[axis] for axis in sorted(weight_axis_of)]
    free = [axis for axis in range(weights.ndim) if axis not in front]
    rows = weights.transpose(*front, *free).reshape(values[value].size, -1)[indices]
    out = program.avals[step.outputs[0]]
    return rows.astype(out.dtype).reshape(-1, *out.shape)


# ---- Smooth stages.
def _elementwise_rule(stage, values):
    derivatives = _three_derivatives(lambda x: apply_stage(stage, values, [x])[0], values[stage.inputs[0]])
    d1 = derivatives[0][None]
    d2, d3 = (at_least_float32(d)[None] for d in derivatives[1:])
    half_d2, sixth_d3 = d2 / 2, d3 / 6

    def rule(inputs):
        ((r1, r2),) = inputs
        r1 = _as_array(r1)
        wide_r1 = at_least_float32(r1)
        added2 = half_d2 * wide_r1**2
        if r2 is None:
            added3 = sixth_d3 * wide_r1**3
        else:
            added3 = wide_r1 * (d2 * at_least_float32(r2) + sixth_d3 * wide_r1**2)
        # A chain may change the type on its way: half precision in, float32 out.
        v1, v2 = d1 * r1.astype(d1.dtype), added2.astype(d1.dtype)
        if r2 is not None:
            v2 = d1 * r2.astype(d1.dtype) + v2
        return [(v1, v2)], [(added2, added3)]

    return rule


def _product_rule(stage, values):
    (step,) = stage.steps
    a, b = (values[v] for v in step.inputs)

    def multiply(x, y):
        if x is None or y is None:
            return None
        # The operands themselves have no axis of directions.
        axes = [None if x is a else 0, None if y is b else 0]
        return jax.vmap(lambda x, y: step.run(x, y)[0], in_axes=axes)(_as_array(x), _as_array(y))

    def rule(inputs):
        coefficients = dict(zip(stage.inputs, inputs, strict=True))
        (a1, a2), (b1, b2) = (coefficients.get(v, (None, None)) for v in step.inputs)
        added2 = multiply(a1, b1)
        added3 = sum_of_present(multiply(a1, b2), multiply(a2, b1))
        v1 = sum_of_present(multiply(a1, b), multiply(a, b1))
        v2 = sum_of_present(multiply(a2, b), multiply(a, b2), added2)
        return [(v1, v2)], [(added2, added3)]

    return rule


def _quotient_rule(stage, values):
    (step,) = stage.steps
    a, b = (values[v][None] for v in step.inputs)
    v = a / b

    def rule(inputs):
        (a1, a2), (b1, b2) = ((_as_array(first), second) for first, second in inputs)
        v1 = (a1 - v * b1) / b
        added2 = -v1 * b1 / b
        v2 = sum_of_present(added2, None if a2 is None else a2 / b, None if b2 is None else -v * b2 / b)
        added3 = sum_of_present(-v2 * b1 / b, None if b2 is None else -v1 * b2 / b)
        return [(v1, v2)], [(added2, added3)]

    return rule


def _nested_rule(stage, values):
    point = [values[v] for v in stage.inputs]
    # t is real, of complex values too.
    zero = jax.lax.full_like(point[0], 0, jnp.finfo(at_least_float32(point[0]).dtype).dtype, shape=())

    def along(t, firsts, seconds):
        curve = [
            x + t.astype(x.dtype) * first + (t * t).astype(x.dtype) * second
            for x, first, second in zip(point, firsts, seconds, strict=True)
        ]
        return apply_stage(stage, values, curve)

    def derivatives(firsts, seconds):
        d1, d2, d3 = _three_derivatives(lambda t: along(t, firsts, seconds), zero)
        straight = [jnp.zeros_like(second) for second in seconds]
        _, added_d2, _ = _three_derivatives(lambda t: along(t, firsts, straight), zero)
        return d1, d2, added_d2, d3

    def rule(inputs: Sequence[Coefficients]) -> tuple[list[Coefficients], list[Coefficients]]:
        count = len(inputs)
        coefficients = [first for first, _ in inputs] + [second for _, second in inputs]
        d1, d2, added_d2, added_d3 = _map_over_directions(
            lambda *c: derivatives(c[:count], c[count:]), coefficients, [*point, *point]
        )
        outputs = [(first, second / 2) for first, second in zip(d1, d2, strict=True)]
        return outputs, [(second / 2, third / 6) for second, third in zip(added_d2, added_d3, strict=True)]

    return rule


# ---- Parts of the rules.
def _three_derivatives(f, x):
    """f's first three derivatives at x along ones, from one nest of jvp."""

    def with_derivative(f):
        return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))

    (_, (_, second)), ((first, _), (_, third)) = with_derivative(with_derivative(with_derivative(f)))(x)
    return first, second, third


def _map_over_directions(f, coefficients, point):
    """f for each direction. A coefficient that is None is replaced by zeros in the shape of the point."""
    axes = [None if c is None else 0 for c in coefficients]
    arrays = [jnp.zeros_like(x) if c is None else _as_array(c) for c, x in zip(coefficients, point, strict=True)]
    return jax.vmap(f, in_axes=axes)(*arrays)


def sum_of_present(*terms):
    present = [term for term in terms if term is not None]
    return functools.reduce(jnp.add, present) if present else None


def _as_array(coefficient):
    return coefficient.dense() if isinstance(coefficient, UnitDirections) else coefficient
