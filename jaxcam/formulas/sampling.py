"""Channel weights of Grad-CAM++ from some locations that are drawn at random: unbiased, with their standard errors.

w_k = sum over space of alpha relu(Y1) is a sum over locations. If location p is drawn with probability
pi_p = relu(Y1_p) / sum over space of relu(Y1), then alpha_p relu(Y1_p) / pi_p has the expectation w_k, and so has its
mean over n independent draws. The standard error of that mean is the deviation of the n values, divided by sqrt(n).
Only drawn locations need a second and third derivative.

    >>> Y1 = jax.random.normal(jax.random.key(0), [7, 7, 2])
    >>> A, Y2, Y3 = jnp.ones([7, 7, 2]), Y1**2, Y1**3
    >>> counts = draw_locations(jax.random.key(1), Y1, 10)
    >>> counts.sum((0, 1)).tolist()
    [10, 10]
    >>> estimated, exact = sampled_grad_cam_pp(A, Y1, Y2, Y3, counts), weights.grad_cam_pp(A, Y1, Y2, Y3)
    >>> bool((jnp.abs(estimated.weights - exact) < 4 * estimated.standard_error).all())
    True

Hansen & Hurwitz, "On the theory of sampling from finite populations", Annals of Mathematical Statistics 1943.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32, relu, safe_divide, times_power_of_two
from jaxcam.formulas import weights


class SampledWeights(NamedTuple):
    """Estimated channel weights, `[k]`, and the standard error of each, `[k]`."""

    weights: jax.Array
    standard_error: jax.Array


def draw_locations(key: jax.Array, Y1: jax.Array, n_locations: int) -> jax.Array:
    """The number of times that each location is drawn, with replacement and with probability proportional to relu(Y1).

    Args:
      key: a `jax.random.key`. Channels are drawn independently.
      Y1: the first derivative, `[*spatial k]`.
      n_locations: draws for each channel.

    Returns:
      Integers `[*spatial k]`. Their sum over space is n_locations, and 0 for a channel without a positive Y1.

    Example:
      >>> draw_locations(jax.random.key(0), jnp.array([[3.0, -1.0], [0.0, -2.0]]), 5).tolist()
      [[5, 0], [0, 0]]
    """
    channels = Y1.shape[-1]
    share = relu(at_least_float32(jax.lax.stop_gradient(Y1))).reshape(-1, channels)
    share = safe_divide(share, jnp.broadcast_to(share.max(0, keepdims=True), share.shape))  # tiny ones do not underflow
    # Sums are rounded: `cummax` keeps them in order.
    sums = jax.lax.cummax(jnp.cumsum(share, 0))
    draws = jax.random.uniform(key, (n_locations, channels), share.dtype) * sums[-1:]
    search = jax.vmap(lambda sums, values: jnp.searchsorted(sums, values, side="right"), in_axes=1, out_axes=1)
    places = search(sums, draws).clip(0, share.shape[0] - 1)
    numbers = jnp.broadcast_to(jnp.arange(channels)[None], places.shape)
    counts = jnp.zeros(share.shape, jnp.int32).at[places, numbers].add(1)
    return jnp.where(share > 0, counts, 0).reshape(Y1.shape)


def sampled_grad_cam_pp(
    A: jax.Array,
    Y1: jax.Array,
    Y2: jax.Array,
    Y3: jax.Array,
    counts: jax.Array,
    *,
    numerator: str = "second",
    alpha: str = "defined",
    exponents: weights.Exponents = (0, 0),
) -> SampledWeights:
    """`jaxcam.weights.grad_cam_pp` from drawn locations: an unbiased estimate, with its standard error.

    The gradient of the weights is an unbiased estimate of the gradient, because it takes the probabilities as
    constants. The standard error has no gradient.

    Args:
      A: activation `[*spatial k]`.
      Y1: the first derivative, of A's shape, at all locations.
      Y2: the second derivative; only drawn locations are read.
      Y3: the third derivative; only drawn locations are read.
      counts: what `draw_locations` returns for Y1.
      numerator: as in `jaxcam.weights.grad_cam_pp`.
      alpha: as in `jaxcam.weights.grad_cam_pp`.
      exponents: as in `jaxcam.weights.grad_cam_pp`.

    Returns:
      `SampledWeights(weights, standard_error)`; both are 0 for a channel without a positive Y1.

    Raises:
      ValueError: as `jaxcam.weights.grad_cam_pp`.

    Example:
      >>> A, Y1 = jnp.ones([2, 2, 1]), jnp.full([2, 2, 1], 0.5)
      >>> estimate = sampled_grad_cam_pp(A, Y1, Y1**2, Y1**3, jnp.array([[[2], [0]], [[0], [0]]]))
      >>> estimate.weights.round(6).tolist(), estimate.standard_error.round(6).tolist()  # all alphas are equal
      ([0.5], [0.0])
    """
    space = tuple(range(A.ndim - 1))
    alphas = weights._scaled_alpha(A, Y1, Y2, Y3, numerator, alpha, exponents)
    positive = relu(at_least_float32(Y1))
    total = jnp.broadcast_to(positive.sum(space, keepdims=True), positive.shape)
    is_drawn = counts > 0
    one_over_probability = jax.lax.stop_gradient(safe_divide(total, jnp.where(is_drawn, positive, 0)))
    terms = alphas.array * times_power_of_two(positive, alphas.exponent) * one_over_probability
    terms, times_drawn = jnp.where(is_drawn, terms, 0), counts.astype(positive.dtype)
    draws = times_drawn.sum(space, keepdims=True)
    mean = safe_divide((times_drawn * terms).sum(space, keepdims=True), draws)
    error = _standard_error_of_mean(jax.lax.stop_gradient(terms - mean), times_drawn, draws, space)
    is_nan = jnp.isnan(total).any(space)  # nothing is drawn there
    return SampledWeights(*(jnp.where(is_nan, jnp.nan, values.reshape(-1)) for values in (mean, error)))


def _standard_error_of_mean(deviations, times_drawn, draws, space):
    """sqrt(sum of squared deviations / (n (n - 1))); scaled, because squares of tiny deviations are out of range."""
    deviations = jnp.where(times_drawn > 0, deviations, 0)
    top = jnp.abs(deviations).max(space, keepdims=True)
    scale = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    squares = (times_drawn * (deviations / scale) ** 2).sum(space, keepdims=True)
    return scale * jnp.sqrt(safe_divide(squares, draws * (draws - 1)))
