"""Grad-CAM++ as other libraries really compute it, so that a difference can be explained.

Each preset takes the activation A `[*spatial k]`, the class's score u, a scalar, and its gradient g on A, and gives the
map `[*spatial]` as that library has it before it resizes it to the image, normalised where it normalises. In the paper,
with S the sum of A over space, the map is relu(sum_k w_k A^k) with

    w = sum over space of alpha relu(g), alpha = g^2 / (2 g^2 + S g^3), zero where the denominator is

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> A = cut.features(cut.params, image)
    >>> u, g = jax.value_and_grad(lambda A: cut.head(cut.params, A, image)[7])(A)
    >>> grad_cam_pp("torch-cam", A, u, g).shape
    (16, 16)

All take u as the model gives it, and none looks whether it is a logit: a model that ends in a softmax, as those of
keras.applications do unless they are told otherwise, gives them a probability and its gradient, and the powers of that
gradient are no derivatives of it. A is the output of the layer that was named. In Keras that is after the activation
that was given to the layer, as in its VGG; in torchvision's VGG a convolution's output is before the relu, which is a
layer of its own. Where a library overflows, or gives NaN, the preset does. Each peer is run in
`tests/test_compat_peers.py`.
"""

import jax
import jax.numpy as jnp

from jaxcam.formulas import maps


def grad_cam_pp(peer: str, A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """A peer's Grad-CAM++.

    Args:
      peer: one of `PEERS`.
      A: activation `[*spatial k]`.
      u: the class's score, as the peer differentiates it: a logit, if the peer is given logits.
      g: its gradient, of A's shape.

    Returns:
      `[*spatial]`.

    Raises:
      ValueError: no such peer.

    Example:
      >>> A, g = jnp.full([2, 2, 1], 2.0), jnp.ones([2, 2, 1])
      >>> grad_cam_pp("xplique", A, jnp.array(3.0), g).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    if peer not in _PRESETS:
        raise ValueError(f"compat is {peer!r}: choose one of {', '.join(PEERS)}")
    return _PRESETS[peer](A, u, g)


def pytorch_grad_cam(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """pytorch-grad-cam 1.5.7: the paper's formula, but for a constant 1e-6 added to every denominator.

    It outweighs 2 g^2 wherever |g| < 7e-4, as it often is in a deep network, and so favours the large gradients.
    Min-max twice, each with 1e-7 added to the maximum; the library resizes to the image between the two.

    Without targets it takes the largest output. The target layer is a module.
    """
    alpha = jnp.where(g != 0, g**2 / (2 * g**2 + _over_space(A) * g**3 + 1e-6), 0)
    saliency = maps.saliency(A, (alpha * jax.nn.relu(g)).sum(_space(A)))
    return _min_max(_min_max(saliency, 1e-7), 1e-7)


def tf_keras_vis(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """tf-keras-vis 0.8.7: alpha divided by its sum over space, and the factor e^u carried along.

    So the alphas of a channel have the sum 1, whatever its S_k. Where e^u overflows, in float32 for u > 88, the map is
    NaN; where it underflows, zero. 1 is added to a denominator, and to a sum, where Y2, and the sum, are zero; not
    where 2 + S g is. Min-max, 1e-7 added to the range.

    The score is a function of the outputs (`CategoricalScore(7)`: output 7 as it is). The layer is found by name, or as
    the last convolution.
    """
    Y1 = jnp.exp(u).astype(g.dtype) * g
    Y2 = Y1 * g
    Y3 = Y2 * g
    alpha = Y2 / _one_where(Y2 == 0, 2 * Y2 + _over_space(A) * Y3)
    total = _over_space(alpha)
    alpha = alpha / _one_where(total == 0, total)
    return _min_max(maps.saliency(A, (alpha * jax.nn.relu(Y1)).sum(_space(A))), 1e-7)


def xplique(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """xplique 2.0.2: the mean of A over space where the paper has the sum, and w a mean over space. Not normalised.

    That brings alpha closer to 1/2 everywhere, a constant that only scales the map: positive gradients alone, which is
    Grad-CAM+. The denominator is 1e-4 where it is zero.

    The model's output is multiplied by one-hot targets. Its `output_layer`, meant to explain logits instead of
    probabilities, has no effect on this method: the whole model's output is differentiated (2.0.2, tried). The layer is
    found by name or number, or is the last that has filters.
    """
    mean = A.mean(_space(A), keepdims=True)
    denominator = 2 * g**2 + mean * g**3
    alpha = g**2 / jnp.where(denominator == 0, 1e-4, denominator)
    return maps.saliency(A, (alpha * jax.nn.relu(g)).mean(_space(A)))


def torch_cam(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """torch-cam 0.5.0: alpha = g^2, never divided, so w = sum over space of relu(g)^3.

    The division is done in place on a copy, which a boolean index makes, and is lost. So is what it would divide by,
    where the indices of A and g^3 are mixed: sum of A g^3 for S g^3. Channels whose products are NaN count as zero.
    Min-max, 1e-8 added to the range.

    The score is a column of what the model returned. The layer is a module or its name, or the last with a map.
    """
    products = A * (g**2 * jax.nn.relu(g)).sum(_space(A), keepdims=True)
    return _min_max(jax.nn.relu(jnp.nansum(products, -1)), 1e-8)


def original(A: jax.Array, u: jax.Array, g: jax.Array) -> jax.Array:
    """adityac94/Grad_CAM_plus_plus, `misc/utils.py` at 2b0d7b5: alpha divided by its sum over space, unguarded.

    This is the authors' own code, and what tf-keras-vis follows; the paper does not divide alpha so. One channel whose
    gradient is zero everywhere is 0/0 and makes the whole map NaN; so does e^u that overflows, and a map of zeros, as
    it is divided by its maximum.

    The score is VGG-16's logit, fc8, and the layer its conv5_3 after the relu; both are fixed.
    """
    Y1 = jnp.exp(u).astype(g.dtype) * g
    Y2 = Y1 * g
    denominator = 2 * Y2 + _over_space(A) * Y2 * g
    alpha = Y2 / jnp.where(denominator == 0, 1, denominator)
    alpha = alpha / _over_space(alpha)
    saliency = maps.saliency(A, (alpha * jax.nn.relu(Y1)).sum(_space(A)))
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
