"""Bounds of the values of a program, for every input and all parameters: which values cannot be negative.

Each value has an interval that holds all of its elements. A value that no rule knows may be anything. A NaN is in no
interval and is not counted.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.tracing._primitives import CALLS, CUSTOM_RULES
    >>> from jaxcam.tracing._steps import entering, flatten
    >>> def f(x):
    ...     return jax.nn.relu6(x + 3) / 6, jax.nn.softplus(x).mean(), jax.nn.silu(x)
    >>> program = flatten(jax.make_jaxpr(f)(jnp.ones(3)), entering(CALLS | CUSTOM_RULES))
    >>> bounds = bounds_of(program)
    >>> [bounds[v] for v in program.outputs]
    [(0.0, 1.0), (0.0, inf), (-inf, inf)]
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.tracing._marks import MARK
from jaxcam.tracing._primitives import CONTRACTIONS, PICKING_FROM_FIRST, SELECTIONS
from jaxcam.tracing._relus import ValueGraph, place_of_x
from jaxcam.tracing._steps import FlatProgram, Step

Bounds = tuple[float, float]
Narrow = Callable[[Step, Sequence[Bounds]], Bounds | None]
ANYTHING: Bounds = (-math.inf, math.inf)
UNIT: Bounds = (0.0, 1.0)
NOT_NEGATIVE: Bounds = (0.0, math.inf)
# Constants with more elements are not looked at.
MOST_ELEMENTS = 2**16

# Increasing functions, with the lower end of their domain.
_INCREASING: dict[str, tuple[Callable[[float], Any], float]] = {
    "exp": (np.exp, -math.inf), "exp2": (np.exp2, -math.inf), "expm1": (np.expm1, -math.inf),
    "log": (np.log, 0.0), "log1p": (np.log1p, -1.0), "sqrt": (np.sqrt, 0.0), "cbrt": (np.cbrt, -math.inf),
    "tanh": (np.tanh, -math.inf), "erf": (math.erf, -math.inf), "logistic": (lambda x: 1 / (1 + np.exp(-x)), -math.inf),
    "sign": (np.sign, -math.inf), "floor": (np.floor, -math.inf), "ceil": (np.ceil, -math.inf),
    "round": (np.round, -math.inf), "atan": (np.arctan, -math.inf), "sinh": (np.sinh, -math.inf),
    "asinh": (np.arcsinh, -math.inf),
}  # fmt: skip
_ALWAYS: dict[str, Bounds] = {
    "sin": (-1.0, 1.0), "cos": (-1.0, 1.0), "erfc": (0.0, 2.0), "cosh": (1.0, math.inf), "rsqrt": NOT_NEGATIVE,
    "argmax": NOT_NEGATIVE, "argmin": NOT_NEGATIVE, "iota": NOT_NEGATIVE,
}  # fmt: skip
# The elements of the result are elements of the first operand.
_PASSING = PICKING_FROM_FIRST | {MARK}
# They are elements of all operands, or each of its own operand.
_EACH_OF_ITS_OWN = frozenset({"sort", "optimization_barrier"})
_SUMMING = frozenset({"reduce_window_sum", "cumsum"})


def bounds_of(program: FlatProgram, narrow: Narrow | None = None) -> dict[int, Bounds]:
    """An interval for each value of a program whose calls are written out.

    Args:
      program: what `flatten` returns, with calls and functions with a custom rule written out.
      narrow: what a caller knows besides: the bounds of a step with one output, from the step and the bounds of what
        it reads; None where it knows nothing.
    """
    graph = ValueGraph(program.steps, program.constants, program.outputs, program.avals)
    bounds = {v: ANYTHING for v in program.inputs}
    bounds |= {v: _of_constant(constant) for v, constant in program.constants.items()}
    for step in program.steps:
        if not step.outputs:  # it is there for its effect, such as jax.debug.print
            continue
        inputs = [bounds[v] for v in step.inputs]
        known = narrow and narrow(step, inputs)
        bounds |= zip(step.outputs, [known] if known else _of_step(step, inputs, program, graph), strict=True)
    return bounds


def _of_constant(constant: Any) -> Bounds:
    if isinstance(constant, jax.core.Tracer) or not getattr(constant, "is_fully_addressable", True):
        return ANYTHING
    if not 0 < np.size(constant) <= MOST_ELEMENTS or not jnp.issubdtype(jnp.result_type(constant), jnp.number):
        return UNIT if jnp.result_type(constant) == jnp.bool_ else ANYTHING
    array = np.asarray(constant)
    if jnp.issubdtype(array.dtype, jnp.complexfloating) or np.isnan(array.astype(np.float64)).any():
        return ANYTHING
    return float(array.min()), float(array.max())


def _of_step(step: Step, inputs: list[Bounds], program: FlatProgram, graph: ValueGraph) -> list[Bounds]:
    """The interval of each output of a step."""
    if step.name in _EACH_OF_ITS_OWN:
        return inputs
    dtype = program.avals[step.outputs[0]].dtype
    if dtype == jnp.bool_:
        return [UNIT] * len(step.outputs)
    if step.name in _PASSING:
        return [inputs[0]] * len(step.outputs)
    if step.name in _ALWAYS:
        return [_ALWAYS[step.name]]
    if not jnp.issubdtype(dtype, jnp.floating) or len(step.outputs) > 1:  # integers wrap
        return [ANYTHING] * len(step.outputs)
    low, high = _of_float(step, inputs, graph)
    if place_of_x(graph, step) is not None:
        low, high = max(low, 0.0), max(high, 0.0)
    # An undefined end, such as inf - inf, is no bound.
    return [(-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)]


def _of_float(step: Step, inputs: list[Bounds], graph: ValueGraph) -> Bounds:
    """The interval of a step's one output, an array of floats."""
    name = step.name
    if name in _INCREASING:
        return _increasing(name, *inputs)
    if name in _RULES:
        return _RULES[name](*inputs)
    if name == "reduce_sum":
        terms = math.prod(graph.avals[step.inputs[0]].shape[axis] for axis in step.params["axes"])
        return _product(inputs[0], (terms, terms))
    if name in _SUMMING:
        ((low, high),) = inputs
        return (0.0 if low >= 0 else -math.inf), (0.0 if high <= 0 else math.inf)
    if name in ("mul", "square"):
        return _power(2, inputs[0]) if len(set(step.inputs)) == 1 else _product(*inputs)
    if name == "integer_pow":
        return _power(step.params["y"], inputs[0])
    if name in CONTRACTIONS:
        return NOT_NEGATIVE if all(low >= 0 for low, _ in inputs) else ANYTHING
    if name in ("concatenate", "stack"):  # of which older versions of JAX know the first alone
        return _union(inputs)
    if name in ("dynamic_update_slice", "pad"):
        return _union(inputs[:2])
    if name in SELECTIONS:
        return _union(_selected(step, inputs, graph))
    if name in ("reduce_window_max", "reduce_window_min"):
        windows = zip(step.params["window_dimensions"], step.params["padding"], strict=True)
        return inputs[0] if all(max(sides) < size for size, sides in windows) else ANYTHING
    if name == "gather":
        return _union([inputs[0], (0.0, 0.0)])  # what is out of range may be filled with zero
    if name in ("scatter", "scatter-add", "scatter_add"):
        low, high = _union([inputs[0], inputs[2]])
        return (low, high) if name == "scatter" else (0.0 if low >= 0 else -math.inf, math.inf)
    return ANYTHING


def _selected(step: Step, inputs: list[Bounds], graph: ValueGraph) -> Sequence[Bounds]:
    """The cases of a selection. What is taken where a value is not equal to itself, a NaN, is not counted."""
    name, compared = graph.made_by(step.inputs[0])
    if name in ("ne", "eq") and len(set(compared)) == 1:
        return [inputs[1 if name == "ne" else 2]]
    return inputs[1:]


def _union(cases: Sequence[Bounds]) -> Bounds:
    return min(low for low, _ in cases), max(high for _, high in cases)


def _increasing(name: str, x: Bounds) -> Bounds:
    function, least = _INCREASING[name]
    with np.errstate(all="ignore"):
        low, high = (float(function(max(end, least))) for end in x)
    return low, high


def _product(a: Bounds, b: Bounds) -> Bounds:
    ends = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


def _power(exponent: int, x: Bounds) -> Bounds:
    low, high = x
    if exponent < 0:
        return NOT_NEGATIVE if exponent % 2 == 0 or low >= 0 else ANYTHING
    if exponent % 2 == 0:
        low, high = _absolute(x)
    with np.errstate(over="ignore"):
        return float(np.float64(low) ** exponent), float(np.float64(high) ** exponent)


def _absolute(x: Bounds) -> Bounds:
    low, high = x
    return (low, high) if low >= 0 else (-high, -low) if high <= 0 else (0.0, max(-low, high))


def _quotient(a: Bounds, b: Bounds) -> Bounds:
    if b[0] < 0 and b[1] <= 0:
        return _quotient((-a[1], -a[0]), (-b[1], -b[0]))
    if b[0] < 0 or b[1] == 0:
        return ANYTHING
    least, most = (math.inf if b[0] == 0 else 1 / b[0]), 1 / b[1]
    return _product(a, (most, least))


_RULES: dict[str, Callable[..., Bounds]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "add_any": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "neg": lambda a: (-a[1], -a[0]),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "clamp": lambda least, x, most: (max(least[0], min(x[0], most[0])), min(most[1], max(x[1], least[1]))),
    "abs": _absolute,
    "div": _quotient,
    "pow": lambda a, b: NOT_NEGATIVE if a[0] >= 0 else ANYTHING,
}
