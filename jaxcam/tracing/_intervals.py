"""Bounds of what a program returns, whatever it is given: are the outputs bound to lie in 0..1?

    >>> import jax, jax.numpy as jnp
    >>> closed = jax.make_jaxpr(lambda x: (jnp.clip(x, 0, 1), (jax.nn.sigmoid(x) + jax.nn.sigmoid(-x)) / 4, x))(1.0)
    >>> bounds_of_outputs(closed)
    [(0.0, 1.0), (0.0, 0.5), (-inf, inf)]

Each value has an interval, from those of the values that its step reads. A quotient whose denominator is a sum with the
numerator among its terms is taken to lie in 0..1, and so is the exponential of a difference from a logsumexp.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxcam.tracing._endings import Graph
from jaxcam.tracing._primitives import (
    CALLS,
    COMPARISONS_AND_ROUNDING,
    CUSTOM_JVP,
    INSIDE_DENOMINATORS,
    INSIDE_LOGSUMEXP,
    PASSING_ON,
    PICKING,
    PICKING_FROM_ALL,
    STOP_GRADIENT,
)
from jaxcam.tracing._steps import Step, entering, flatten

Interval = tuple[float, float]
EVERYTHING: Interval = (-np.inf, np.inf)
MOST_CONSTANTS = 4096  # elements of a constant that is looked at
NEAR = 12  # steps between a numerator and the sum in the denominator


def bounds_of_outputs(closed: ClosedJaxpr) -> list[Interval]:
    """An interval for each output of a program that all its elements lie in, unless they are NaN."""
    program = flatten(closed, entering(CALLS | CUSTOM_JVP))
    intervals = {v: _of_constant(value) for v, value in program.constants.items()}
    graph = Graph(program)
    for step in program.steps:
        read = [intervals.get(v, EVERYTHING) for v in step.inputs]
        bounds = _bounds(step, read, graph)
        intervals.update(dict.fromkeys(step.outputs, bounds))
    return [intervals.get(v, EVERYTHING) for v in program.outputs]


def _of_constant(value: Any) -> Interval:
    if isinstance(value, jax.core.Tracer) or not 0 < np.size(value) <= MOST_CONSTANTS:
        return EVERYTHING
    if not getattr(value, "is_fully_addressable", True) or not np.issubdtype(np.asarray(value).dtype, np.number):
        return EVERYTHING
    array = np.asarray(value, np.float64)
    return (float(array.min()), float(array.max())) if not np.isnan(array).any() else EVERYTHING


def _bounds(step: Step, read: list[Interval], graph: Graph) -> Interval:
    """The interval of a step's outputs."""
    name = step.name
    with np.errstate(all="ignore"):
        if name in PICKING:
            return read[0]
        if name in INCREASING:
            low, high = (float(INCREASING[name](np.float64(end))) for end in read[0])
            return _with_logsumexp(step, graph.maker, low, high) if name == "exp" else _checked(low, high)
        if name in COMPARISONS_AND_ROUNDING and name not in ("floor", "ceil", "round", "sign"):
            return (0.0, 1.0)
        if name in JOINING:
            joined = _joined_operands(step, read, graph.maker)
            return min(low for low, _ in joined), max(high for _, high in joined)
        if name in ("div", "mul") and _is_normalized(step, read, graph):
            return (0.0, 1.0)
        if name in ARITHMETIC_OF_ENDS:
            return _checked(*ARITHMETIC_OF_ENDS[name](*read))
        if name == "clamp":
            return _limits(read[1], read[0], read[2])
        if name == "reduce_sum":
            count = np.prod([graph.shape(step.inputs[0])[axis] for axis in step.params["axes"]])
            return _checked(*(float(end * count) for end in read[0]))
        if name == "div":
            return _quotient(*read)
        if name == "integer_pow" and read[0][0] >= 0 and step.params["y"] > 0:
            return _checked(*(float(end ** step.params["y"]) for end in read[0]))
    return EVERYTHING


def _checked(low: float, high: float) -> Interval:
    """The interval, everything on the side of an undefined end such as inf - inf."""
    return (-np.inf if np.isnan(low) else low), (np.inf if np.isnan(high) else high)


def _limits(x: Interval, low: Interval, high: Interval) -> Interval:
    return min(max(x[0], low[0]), high[0]), min(max(x[1], low[1]), high[1])


def _product(a: Interval, b: Interval) -> Interval:
    ends = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


def _square(a: Interval) -> Interval:
    ends = a[0] ** 2, a[1] ** 2
    return 0.0 if a[0] <= 0 <= a[1] else min(ends), max(ends)


def _magnitude(a: Interval) -> Interval:
    ends = abs(a[0]), abs(a[1])
    return 0.0 if a[0] <= 0 <= a[1] else min(ends), max(ends)


def _joined_operands(step: Step, read: list[Interval], maker: dict[int, Step]) -> list[Interval]:
    """The intervals of the operands that a step picks its elements from."""
    if step.name != "select_n":
        return read
    predicate = maker.get(step.inputs[0])
    if predicate is not None and predicate.name == "ne" and predicate.inputs[0] == predicate.inputs[1]:
        return read[1:2]  # x != x asks for NaN, as logaddexp does
    return read[1:]


def _quotient(a: Interval, b: Interval) -> Interval:
    """The interval of a / b."""
    if b[0] > 0 or b[1] < 0:
        return _product(a, (1 / b[1], 1 / b[0]))
    return (0.0, np.inf) if a[0] >= 0 and b[0] >= 0 else EVERYTHING


def _is_normalized(step: Step, read: list[Interval], graph: Graph) -> bool:
    """Whether a step divides a value that is not negative by a sum that has the value among its terms."""
    if all(low < 0 for low, _ in read):
        return False
    lows = dict(zip(step.inputs, (low for low, _ in read), strict=True))
    return any(lows[a] >= 0 and _is_among_terms(a, b, graph) for a, b in graph.quotients(step.outputs[0]))


def _is_among_terms(a: int, b: int, graph: Graph) -> bool:
    """Whether a sum b has the value a, or one that is computed alike, among its terms."""
    maker = graph.maker
    origins = _origins(a, maker, PASSED)
    parts = _origins(b, maker, PASSED | INSIDE_DENOMINATORS)
    sums = [maker[v] for v in parts if v in maker and maker[v].name == "reduce_sum"]
    terms = parts.union(*(_origins(step.inputs[0], maker, PASSED | {"select_n", "mul"}) for step in sums))
    computed = {v for v in terms if v in maker}
    return any(v in terms or any(graph.same(v, w) for w in computed) for v in origins if v in maker)


def _with_logsumexp(step: Step, maker: dict[int, Step], low: float, high: float) -> Interval:
    """The interval of exp(x), at most 1 if x is a difference from a logarithm of a sum of exponentials."""

    def made_by(v: int, names: frozenset[str], name: str) -> list[Step]:
        """The steps of this name that a value is made of, by steps of the other names."""
        return [maker[w] for w in _origins(v, maker, PASSED | names) if w in maker and maker[w].name == name]

    for difference in made_by(step.inputs[0], frozenset(), "sub"):
        for log in made_by(difference.inputs[1], INSIDE_LOGSUMEXP, "log"):
            if made_by(log.inputs[0], INSIDE_LOGSUMEXP, "exp"):
                return (0.0, 1.0)
    return _checked(low, high)


def _origins(v: int, maker: dict[int, Step], names: frozenset[str]) -> set[int]:
    """The value, and those that it is made of by steps of these names; at most some steps back."""
    known, frontier = {v}, {v}
    for _ in range(NEAR):
        steps = [maker[w] for w in frontier if w in maker and maker[w].name in names]
        frontier = {w for step in steps for w in step.inputs} - known
        known |= frontier
    return known


PASSED = PASSING_ON | STOP_GRADIENT
JOINING = PICKING_FROM_ALL | {"stack"}  # which older versions of JAX do not have
INCREASING: dict[str, Callable[[np.float64], Any]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "erf": lambda x: np.clip(x, -1, 1) if np.isinf(x) else (-1 if x < 0 else 1 if x > 0 else 0),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
}
ARITHMETIC_OF_ENDS: dict[str, Callable[..., Interval]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "add_any": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "neg": lambda a: (-a[1], -a[0]),
    "mul": _product,
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "abs": _magnitude,
    "square": _square,
}
