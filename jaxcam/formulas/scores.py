"""Scores: functions `(outputs, target) -> u`, the scalar that a map explains.

Any callable of that form works, and outputs may be any pytree that the head returns: a sum of logits over a mask for
segmentation, one box's confidence for detection.

    >>> import jax.numpy as jnp
    >>> outputs = jnp.array([1.0, 2.0, 3.0])
    >>> float(logit(outputs, 2))
    3.0
    >>> round(float(log_softmax(outputs, 2)), 4)
    -0.4076

The link turns the score into Y, the quantity that the papers differentiate: Y = u for link "identity", Y = e^u for
"exp". The papers' Y = exp(logit) is `logit` with "exp"; the softmax probability is `log_softmax` with "exp".
"""

import jax
import jax.numpy as jnp


def logit(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The output `[classes]` of the target class, before softmax."""
    return outputs[target]


def log_softmax(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The logarithm of the target class's softmax probability, from logits `[classes]`; at most 0.

    It is -softplus(logsumexp of the other logits less the target's), which keeps its digits, and those of its
    derivatives, where the softmax is saturated: 1 - p is never formed from a p that has been rounded to 1.
    """
    margins = outputs - outputs[target][None]
    return -jax.nn.softplus(jax.nn.logsumexp(margins.at[target].set(jnp.finfo(outputs.dtype).min)))


def probability(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The target class's softmax probability, from logits `[classes]`: what metrics compare, in 0..1."""
    return jax.nn.softmax(outputs)[target]
