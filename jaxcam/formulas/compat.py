"""Grad-CAM++ as other libraries really compute it, so that a difference can be explained.

Each preset takes the activation A `[*spatial k]`, the class's score u, a scalar, and its gradient g with respect to A,
and returns the map `[*spatial]` that the library has before it resizes it to the image, normalized if the library
normalizes it. In the paper, with S the sum of A over space, the map is relu(sum_k w_k A^k) with

    w = sum over space of alpha relu(g), alpha = g^2 / (2 g^2 + S g^3), zero where the denominator is zero

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> A = cut.features(cut.params, image)
    >>> u, g = jax.value_and_grad(lambda A: cut.head(cut.params, A, image)[7])(A)
    >>> grad_cam_pp("torch-cam", A, u, g).shape
    (16, 16)

All of them take u as the model returns it, and none checks that it is a logit. A model that ends in a softmax, as those
of keras.applications do by default, gives them a probability and its gradient; the powers of that gradient are not its
derivatives. A is the output of the named layer. In Keras that is after the activation function that was given to the
layer, as in its VGG; in torchvision's VGG a convolution's output is before the relu, which is a separate layer. If a
library overflows or returns NaN, its preset does too. `tests/peers/test_compat.py` runs every library.
"""

import jax
import jax.numpy as jnp

from jaxcam.formulas import maps


def grad_cam_pp(peer: str, A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """A peer's Grad-CAM++.

    Args:
      peer: one of `PEERS`.
      A: activation `[*spatial k]`.
      u: the score of the class that the peer differentiates: a logit, if the peer is given logits.
      g: the gradient of u with respect to A, of A's shape.

    Returns:
      `[*spatial]`.

    Raises:
      ValueError: the peer is not known.

    Example:
      >>> A, g = jnp.full([2, 2, 1], 2.0), jnp.ones([2, 2, 1])
      >>> grad_cam_pp("xplique", A, jnp.array(3.0), g).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    if peer not in _PRESETS:
        raise ValueError(f"compat is {peer!r}: choose one of {', '.join(PEERS)}")
    return _PRESETS[peer](A, u, g)


def pytorch_grad_cam(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """pytorch-grad-cam 1.5.7: the paper's formula with a constant 1e-6 added to every denominator.

    The constant exceeds 2 g^2 where |g| < 7e-4, which is common in deep networks, so the map favors large gradients.
    The map is min-max scaled twice, each time with 1e-7 added to the maximum; the library resizes it to the image
    between the two.

    Without targets the library takes the largest output. The target layer is a module.
    """
    alpha = jnp.where(g != 0, g**2 / (2 * g**2 + _over_space(A) * g**3 + 1e-6), 0)
    saliency = maps.weighted_sum(A, (alpha * jax.nn.relu(g)).sum(_space(A)))
    return _min_max(_min_max(saliency, 1e-7), 1e-7)


def tf_keras_vis(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """tf-keras-vis 0.8.7: alpha is divided by its sum over space, and the factor e^u is kept.

    So the alphas of a channel sum to 1 for every S_k. The map is NaN if e^u overflows, in float32 for u > 88, and zero
    if it underflows. The denominator has 1 added where Y2 is zero, and the sum over space has 1 added where it is zero;
    a denominator that is zero because 2 + S g = 0 is not guarded. The map is min-max scaled with 1e-7 added to the
    range.

    The score is a function of the outputs (`CategoricalScore(7)` is output 7). The layer is found by name, or is the
    last convolution.
    """
    Y1 = jnp.exp(u).astype(g.dtype) * g
    Y2 = Y1 * g
    Y3 = Y2 * g
    alpha = Y2 / _one_where(Y2 == 0, 2 * Y2 + _over_space(A) * Y3)
    total = _over_space(alpha)
    alpha = alpha / _one_where(total == 0, total)
    return _min_max(maps.weighted_sum(A, (alpha * jax.nn.relu(Y1)).sum(_space(A))), 1e-7)


def xplique(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """xplique 2.0.2: S is the mean of A over space instead of the sum, and w is a mean over space. Not normalized.

    The mean moves alpha closer to 1/2 everywhere. A constant alpha only scales the map, so the result is close to that
    of the positive gradients alone, which is Grad-CAM+. A denominator of zero is replaced by 1e-4.

    The model's output is multiplied by one-hot targets. The option `output_layer`, meant to explain logits instead of
    probabilities, has no effect on this method: the whole model's output is differentiated (run with 2.0.2). The layer
    is found by name or number, or is the last layer that has filters.
    """
    mean = A.mean(_space(A), keepdims=True)
    denominator = 2 * g**2 + mean * g**3
    alpha = g**2 / jnp.where(denominator == 0, 1e-4, denominator)
    return maps.weighted_sum(A, (alpha * jax.nn.relu(g)).mean(_space(A)))


def torch_cam(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """torch-cam 0.5.0: alpha = g^2, without a division, so w = sum over space of relu(g)^3.

    The library divides in place on a copy that a boolean index makes, so the division is lost. The denominator of the
    lost division has sum of A g^3 instead of S g^3. Channels whose products are NaN count as zero. The map is min-max
    scaled with 1e-8 added to the range.

    The score is a column of the model's output. The layer is a module or its name, or the last layer with a map.
    """
    products = A * (g**2 * jax.nn.relu(g)).sum(_space(A), keepdims=True)
    return _min_max(jax.nn.relu(jnp.nansum(products, -1)), 1e-8)


def original(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """adityac94/Grad_CAM_plus_plus, `misc/utils.py` at 2b0d7b5: alpha is divided by its sum over space, unguarded.

    This is the authors' own code, which tf-keras-vis follows; the paper does not divide alpha by its sum. The whole map
    is NaN if the gradient of one channel is zero everywhere (0/0), if e^u overflows, or if the map is zero, because it
    is divided by its maximum.

    The score is the logit of VGG-16, fc8, and the layer is its conv5_3 after the relu; both are fixed.
    """
    Y1 = jnp.exp(u).astype(g.dtype) * g
    Y2 = Y1 * g
    denominator = 2 * Y2 + _over_space(A) * Y2 * g
    alpha = Y2 / jnp.where(denominator == 0, 1, denominator)
    alpha = alpha / _over_space(alpha)
    saliency = maps.weighted_sum(A, (alpha * jax.nn.relu(Y1)).sum(_space(A)))
    return saliency / saliency.max()


_PRESETS = {
    "pytorch-grad-cam": pytorch_grad_cam,
    "tf-keras-vis": tf_keras_vis,
    "xplique": xplique,
    "torch-cam": torch_cam,
    "original": original,
}
PEERS = tuple(_PRESETS)


def _space(A):
    return tuple(range(A.ndim - 1))


def _over_space(A):
    return A.sum(_space(A), keepdims=True)


def _one_where(zero, denominator):
    return denominator + zero.astype(denominator.dtype)


def _min_max(saliency, epsilon):
    shifted = saliency - saliency.min()
    return shifted / (shifted.max() + epsilon)
