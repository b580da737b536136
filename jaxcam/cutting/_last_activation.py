"""A head without the softmax or the logistic function at its end."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.cutting._cut import Cut, Cuts
from jaxcam.tracing import PLAIN_CALLS, LastActivation, entering, evaluate, flatten, last_activation, needed


@dataclasses.dataclass(frozen=True)
class WithoutLastActivation:
    """A head, or the function of `Cuts`, whose outputs are what its last activation is applied to.

    Equal functions make equal ones, so nothing is compiled again.

    Attributes:
      function: the head, or the function of `Cuts`.
      inverse_of: for outputs that do not end in an activation where it can be read: "softmax" or "logistic", which is
        inverted. None raises a ValueError for them.
    """

    function: Callable[..., Any]
    inverse_of: str | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns, the outputs without their last activation."""
        return _without_last_activation(self, *arguments)


def without_last_activation(cut: Cut | Cuts, *, inverse_of: str | None = None, outputs: str | None = None) -> Any:
    """The cut whose outputs are what the model's last activation is applied to; see `WithoutLastActivation`."""
    if isinstance(cut, Cuts):
        return dataclasses.replace(cut, tapped=WithoutLastActivation(cut.tapped, inverse_of), outputs=outputs)
    return dataclasses.replace(cut, head=WithoutLastActivation(cut.head, inverse_of), outputs=outputs)


# Jitted for the cache of traces and for calls outside jit; inlined where it is traced.
@functools.partial(jax.jit, static_argnums=0, inline=True)
def _without_last_activation(stripped: WithoutLastActivation, params: Any, *arguments: Any) -> Any:
    closed, shapes = jax.make_jaxpr(stripped.function, return_shape=True)(params, *arguments)
    program = flatten(closed, entering(PLAIN_CALLS))
    # The outputs of `Cuts` come after their activations.
    activations, outputs = shapes if isinstance(arguments[0], dict) else ((), shapes)
    count = len(jax.tree.leaves(activations))
    lasts = [None] * count + [last_activation(program, output) for output in program.outputs[count:]]
    known = [output if last is None or last.logits is None else last.logits for output, last in _pairs(program, lasts)]
    if stripped.inverse_of is None and not any(last is not None and last.logits is not None for last in lasts):
        raise ValueError(
            "expected outputs that end in a softmax or a sigmoid for strip_activation=True, got outputs that do not: "
            "leave it out"
        )
    steps, _ = needed(program.steps, known)
    values = evaluate(steps, program.given(jax.tree.leaves((params, arguments))))
    leaves = [
        _in_shape_of_output(values[v], last) if last is None or last.logits is not None else _inverse(values[v], last)
        for v, last in zip(known, lasts, strict=True)
    ]
    if stripped.inverse_of is not None and lasts[count] is None:
        leaves[count] = INVERSES[stripped.inverse_of](leaves[count])
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _pairs(program, lasts):
    return zip(program.outputs, lasts, strict=True)


def _in_shape_of_output(value: jax.Array, last: LastActivation | None) -> jax.Array:
    """The logits after the steps that the model applies to what the activation returns."""
    for step in () if last is None else last.behind:
        (value,) = step.run(value)
    return value


def _inverse(value: jax.Array, last: LastActivation) -> jax.Array:
    return INVERSES[last.name](value)


def _log_of_probability(p: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))


# From the activation's name to a function whose result the activation maps to the probabilities.
INVERSES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "softmax": _log_of_probability,
    "logistic": lambda p: _log_of_probability(p) - _log_of_probability(1 - p),
}
