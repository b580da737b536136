"""Scores: functions `(outputs, target) -> u`, the scalar that a map explains.

Any function of that form is a score. The outputs may be any pytree that the head returns: a score can be a sum of
logits over a mask for segmentation, or the confidence of one box for detection.

    >>> import jax.numpy as jnp
    >>> outputs = jnp.array([1.0, 2.0, 3.0])
    >>> float(logit(outputs, 2))
    3.0
    >>> round(float(log_softmax(outputs, 2)), 4)
    -0.4076

A method's option `link` turns the score into Y, the quantity that the papers differentiate: Y = u for "identity",
Y = e^u for "exp". The papers' Y = exp(logit) is `logit` with "exp"; the softmax probability is `log_softmax` with
"exp".

What a score takes are the model's outputs, with one exception. `probability` and `log_softmax` ask for the model's
probability, so for a model that ends in a softmax or a sigmoid, which its program shows, methods and metrics give them
what the last activation is applied to; the probability of independent sigmoids, and of a single output, is the logistic
function of the logit. `logit` is the output itself: `jaxcam.cut(..., strip_activation=True)` makes it the logit.

The target is the score's business: a method gives it to the score as it was given. Only scores of classes ask for an
integer in range: the three of this module, and those that `of_classes` marks.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def logit(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The target's element of the outputs `[classes]`, before softmax."""
    return outputs[target]


def log_softmax(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The logarithm of the target class's softmax probability, from logits `[classes]`; at most 0.

    It is computed as -softplus(logsumexp(other logits - the target's logit)). This form and its derivatives are
    accurate where the softmax is saturated, because 1 - p is never computed from a p that was rounded to 1.
    """
    margins = outputs - outputs[target][None]
    return -jax.nn.softplus(jax.nn.logsumexp(margins.at[target].set(jnp.finfo(outputs.dtype).min)))


def probability(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The target class's softmax probability, from logits `[classes]`; in 0..1. Metrics compare it.

    Its derivatives are p times those of log_softmax. They keep their digits where p is rounded to 1: those of
    `jax.nn.softmax` are zero there.
    """
    return _softmax_at(outputs, target)


@jax.custom_jvp
def _softmax_at(outputs, target):
    return jax.nn.softmax(outputs)[target]


@_softmax_at.defjvp
def _jvp_of_softmax_at(primals, tangents):
    (outputs, target), (tangent, _) = primals, tangents
    masked = outputs[target] == -jnp.inf  # a class that the model masks has probability 0, whatever the others are
    finite = jnp.where(masked, 0, outputs)
    _, slope = jax.jvp(lambda outputs: log_softmax(outputs, target), (finite,), (tangent,))
    p = _softmax_at(outputs, target)
    return p, p * jnp.where(masked, 0, slope)


class _ScoreOfClasses:
    """A user's score with the mark of `of_classes`; equal to every other mark of the same score, as jit compares it."""

    def __init__(self, score: Callable[[Any, Any], jax.Array]):
        functools.update_wrapper(self, score)
        self._score = score

    def __call__(self, *arguments: Any, **options: Any) -> jax.Array:
        return self._score(*arguments, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ScoreOfClasses) and self._score == other._score

    def __hash__(self) -> int:
        return hash((_ScoreOfClasses, self._score))


def of_classes(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The score, marked as one whose target is a class of outputs `[classes]`; also a decorator.

    Methods check the target of such a score: it has to be one integer in range, or None for the largest output. The
    mark stays when options are bound by `functools.partial`.

    Args:
      function: a score, `(outputs, target, *, options) -> scalar`.

    Example:
      >>> @of_classes
      ... def margin(outputs, target):
      ...     return 2 * outputs[target] - outputs.sum()
      >>> float(margin(jnp.array([1.0, 2.0]), 1)), takes_class(margin), takes_class(lambda outputs, target: outputs[0])
      (1.0, True, False)
    """
    if isinstance(function, functools.partial):
        return functools.partial(of_classes(function.func), *function.args, **function.keywords)
    return function if takes_class(function) else _ScoreOfClasses(function)


def takes_class(function: Any) -> bool:
    """Whether a score's target is a class: a score of this module or one that `of_classes` marks, also in a partial.

    Example:
      >>> takes_class(functools.partial(functools.partial(log_softmax)))
      True
    """
    while isinstance(function, functools.partial):
        function = function.func
    return isinstance(function, _ScoreOfClasses) or function in (logit, log_softmax, probability)
