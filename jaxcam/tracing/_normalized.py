"""Bounds of what a program returns, whatever it is given: are the outputs bound to lie in 0..1?

    >>> import jax, jax.numpy as jnp
    >>> closed = jax.make_jaxpr(lambda x: (jnp.clip(x, 0, 1), (jax.nn.sigmoid(x) + jax.nn.sigmoid(-x)) / 4, x))(1.0)
    >>> bounds_of_outputs(closed)
    [(0.0, 1.0), (0.0, 0.5), (-inf, inf)]

These are the bounds of `tracing/_ranges.py`, and two facts about normalized values: a quotient whose denominator is a
sum with the numerator among its terms lies in 0..1, and so does the exponential of a difference from a logsumexp.
"""

from collections.abc import Sequence

from jax.extend.core import ClosedJaxpr

from jaxcam.tracing._endings import Graph
from jaxcam.tracing._marks import past_marks
from jaxcam.tracing._primitives import (
    CALLS,
    CUSTOM_RULES,
    INSIDE_DENOMINATORS,
    INSIDE_LOGSUMEXP,
    PASSING_ON,
    STOP_GRADIENT,
)
from jaxcam.tracing._ranges import ANYTHING, UNIT, Bounds, bounds_of
from jaxcam.tracing._steps import Step, entering, flatten

NEAR = 12  # steps between a numerator and the sum in the denominator
PASSED = PASSING_ON | STOP_GRADIENT


def bounds_of_outputs(closed: ClosedJaxpr) -> list[Bounds]:
    """An interval for each output of a program that all its elements lie in, unless they are NaN.

    Marks are left out.
    """
    program = flatten(closed, past_marks(entering(CALLS | CUSTOM_RULES)))
    graph = Graph(program)

    def narrow(step: Step, read: Sequence[Bounds]) -> Bounds | None:
        if step.name in ("div", "mul") and _is_normalized(step, read, graph):
            return UNIT
        return UNIT if step.name == "exp" and _is_from_logsumexp(step.inputs[0], graph.maker) else None

    bounds = bounds_of(program, narrow)
    return [bounds.get(v, ANYTHING) for v in program.outputs]


def _is_normalized(step: Step, read: Sequence[Bounds], graph: Graph) -> bool:
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


def _is_from_logsumexp(v: int, maker: dict[int, Step]) -> bool:
    """Whether a value is a difference from a logarithm of a sum of exponentials."""

    def made_by(v: int, names: frozenset[str], name: str) -> list[Step]:
        """The steps of this name that a value is made of, by steps of the other names."""
        return [maker[w] for w in _origins(v, maker, PASSED | names) if w in maker and maker[w].name == name]

    differences = made_by(v, frozenset(), "sub")
    logs = [log for difference in differences for log in made_by(difference.inputs[1], INSIDE_LOGSUMEXP, "log")]
    return any(made_by(log.inputs[0], INSIDE_LOGSUMEXP, "exp") for log in logs)


def _origins(v: int, maker: dict[int, Step], names: frozenset[str]) -> set[int]:
    """The value, and those that it is made of by steps of these names; at most some steps back."""
    known, frontier = {v}, {v}
    for _ in range(NEAR):
        steps = [maker[w] for w in frontier if w in maker and maker[w].name in names]
        frontier = {w for step in steps for w in step.inputs} - known
        known |= frontier
    return known
