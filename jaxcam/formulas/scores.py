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
"""

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
    """The target class's softmax probability, from logits `[classes]`; in 0..1. Metrics compare it."""
    return jax.nn.softmax(outputs)[target]
