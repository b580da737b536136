"""The named methods: each joins cut, noise, derivatives, weights and map in a few lines.

Every method is `method(cut, image, target=None, [key], *, options)` on **one example without a batch axis**, and
returns the map at the layer's resolution, `[*spatial]`, at least 0. `target=None` is the class of the largest output.
For more examples, classes or keys use `jax.vmap`: what they share is computed once.

    >>> import functools, jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> jaxcam.smooth_grad_cam_pp(cut, image, None, jax.random.key(0), n_samples=5, std=0.3).shape
    (16, 16)
    >>> ten = jax.vmap(functools.partial(jaxcam.grad_cam_pp, cut, image))(jax.numpy.arange(10))
    >>> ten.shape
    (10, 16, 16)

The methods are jitted; inside another `jit` they are part of it. Options are static, but for `std`: bind them with
`functools.partial` before `jit`. Values can be checked only outside: a NaN image or a target out of range raises there,
while under jit such a target makes a map of NaN.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam.derivatives
from jaxcam import linearity, maps, noise, scores, weights
from jaxcam.calls import method
from jaxcam.cut import Cut
from jaxcam.cut import cut as cut_model

Score = Callable[[Any, Any], jax.Array]
Image = jax.Array | np.ndarray
Target = jax.Array | int | None

DERIVATIVES = ("exact", "closed_form")


@method()
def cam(cut: Cut, image: Image, target: Target = None, *, select: maps.Select | None = None) -> jax.Array:
    """CAM: relu(sum_k w_k A^k), w_k the weights of the linear layer after global average pooling.

    Args:
      cut: a network whose head is global average pooling and one linear layer; `VGG(..., top="average")` cut at its
        last convolution, for one.
      image: one example, floats.
      target: the class; None for the one with the largest output.
      select: as in `jaxcam.select`.

    Returns:
      `[*spatial]`. The paper has no relu; here, as for the other methods, what speaks against the class is zero.

    Raises:
      ValueError: the head is not affine in A. Where it is affine but not the same at every location (a flattened
        activation and a dense layer) the map is NaN: CAM is not defined there, and Grad-CAM is.

    Zhou et al., "Learning deep features for discriminative localization", CVPR 2016, equations 1 and 2.

    Example:
      >>> import jaxcam
      >>> model = jaxcam.vgg_digits(top="average")
      >>> jaxcam.cam(jaxcam.cut(model, "block3_conv2"), jax.numpy.ones([64, 64, 3]), 7).shape
      (16, 16)
    """
    A, target, valid = _activation_and_target(cut, image, target)

    def u(A):
        return scores.logit(cut.head(cut.params, A, image), target)

    if not linearity.certify(u, A).affine_everywhere:
        raise ValueError(
            "CAM needs a head that is global average pooling and one linear layer: "
            f"the head after {cut.layer or 'this cut'!r} is not affine. Grad-CAM extends CAM to any head"
        )
    gradient = jax.grad(u)(A)
    first = gradient[(slice(0, 1),) * (A.ndim - 1)]
    uniform = jnp.abs(gradient - first).max() <= 1e-3 * jnp.abs(first).max()
    return _or_nan(maps.saliency(A, weights.cam(gradient), select=select), valid & uniform)


@method()
def grad_cam(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    score: Score = scores.logit,
    link: str = "identity",
    select: maps.Select | None = None,
) -> jax.Array:
    """Grad-CAM: relu(sum_k w_k A^k), w_k the mean over space of the derivative of Y.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = u for "identity", e^u for "exp"; the factor e^u is left out, it scales the map and no more.
      select: as in `jaxcam.select`.

    Returns:
      `[*spatial]`, or `[m *spatial]` for m chosen filters.

    Raises:
      TypeError: an image of integers.
      ValueError: an image with NaN or infinity, a target out of range, an option that is not known.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    equations 1 and 2.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.grad_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    A, target, valid = _activation_and_target(cut, image, target)
    u, u1 = jax.value_and_grad(lambda A: score(cut.head(cut.params, A, image), target))(A)
    _, (Y1, _, _) = jaxcam.derivatives.through_link(
        jaxcam.derivatives.Derivatives(u, u1, jnp.zeros_like(u1), jnp.zeros_like(u1)), link=link
    )
    return _or_nan(maps.saliency(A, weights.grad_cam(Y1), select=select), valid)


@method()
def grad_cam_pp(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    score: Score = scores.logit,
    link: str = "exp",
    derivatives: str = "exact",
    select: maps.Select | None = None,
    batch_size: int | None = None,
) -> jax.Array:
    """Grad-CAM++: w_k = sum over space of alpha * relu(Y1), alpha = Y2 / (2 Y2 + S_k Y3), S_k = sum over space of A^k.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = e^u for "exp", u for "identity"; the factor e^u is left out, it scales the map and no more.
      derivatives: "exact", or "closed_form": one backward pass, the same where the head is piecewise linear (relu) and
        an approximation where it is smooth (gelu, layer norm, attention); "exact" takes it where `jaxcam.certify`
        proves that they are the same.
      select: as in `jaxcam.select`.
      batch_size: the memory knob of `jaxcam.derivatives`: directions at a time on a smooth head.

    Returns:
      `[*spatial]`, or `[m *spatial]` for m chosen filters.

    Raises:
      TypeError, ValueError: as `grad_cam`; and for link="identity" with an affine score, where alpha is 0/0.

    Chattopadhay et al., "Grad-CAM++: improved visual explanations for deep convolutional networks", WACV 2018,
    equations 5, 10 and 11.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.grad_cam_pp(cut, image, score=jaxcam.scores.log_softmax).shape
      (16, 16)
    """
    A, target, valid = _activation_and_target(cut, image, target)
    _, Y = _derivatives(cut, image, A, target, score, link, derivatives, batch_size)
    return _or_nan(maps.saliency(A, weights.grad_cam_pp(A, *Y), select=select), valid)


@method()
def smooth_grad_cam_pp(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    n_samples: int = 5,
    std: jax.Array | float = 0.3,
    score: Score = scores.logit,
    link: str = "exp",
    derivatives: str = "exact",
    numerator: str = "second",
    select: maps.Select | None = None,
    batch_size: int | None = None,
) -> jax.Array:
    """Smooth Grad-CAM++: Grad-CAM++ with D_p, the means over noisy inputs of Y_p, in the place of Y_p.

    alpha = D2 / (2 D2 + S_k D3); w_k = sum over space of alpha * relu(D1); S_k and the A of the map are those of the
    clean image. Sample m enters the means with its own factor e^(u_m), as the formula says.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output on the clean image.
      key: a `jax.random.key`; not needed for n_samples=0.
      n_samples: how many noisy copies; 0 for no noise, which is Grad-CAM++.
      std: the noise's standard deviation, as a share of the image's range.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = e^u for "exp", u for "identity"; the largest factor e^u is left out, it scales the map and no more.
      derivatives: "exact", or "closed_form": one backward pass, the same where the head is piecewise linear (relu) and
        an approximation where it is smooth (gelu, layer norm, attention); "exact" takes it where `jaxcam.certify`
        proves that they are the same.
      numerator: "second", D2 in alpha's numerator, or "first", D1, as equation 7 is printed; the maps differ.
      select: as in `jaxcam.select`.
      batch_size: the memory knob: samples at a time; on a smooth head one sample, and this many directions, at a time.

    Returns:
      `[*spatial]`, or `[m *spatial]` for m chosen filters.

    Raises:
      TypeError, ValueError: as `grad_cam_pp`; and for a key that is missing, a negative n_samples or std.

    Omeiza et al., "Smooth Grad-CAM++: an enhanced inference level visualization technique for deep convolutional neural
    network models", 2019, equations 5 to 8.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.smooth_grad_cam_pp(cut, image, None, jax.random.key(0), n_samples=20, std=0.15).shape
      (16, 16)
    """
    A, target, valid = _activation_and_target(cut, image, target)

    def features(x):
        return cut.features(cut.params, x)

    def Y_at(x, A):
        return _derivatives(cut, x, A, target, score, link, derivatives, batch_size)

    if n_samples == 0 or key is None:  # a missing key has been refused where there are samples
        _, D = Y_at(image, A)
    else:
        # On a smooth head the directions of one sample fill the machine and the memory.
        alone = derivatives == "exact" and not linearity.certify(lambda A: cut.head(cut.params, A, image), A).affine
        _, D = noise.mean_over_noise(
            features, Y_at, jnp.asarray(image), key, n_samples=n_samples, std=std, batch_size=1 if alone else batch_size
        )
    return _or_nan(maps.saliency(A, weights.grad_cam_pp(A, *D, numerator=numerator), select=select), valid)


def grad_cam_plus_smooth(
    model: Any,
    img: Image,
    layer_name: str = "block5_conv3",
    nsamples: int = 0,
    std_dev: float = 0.15,
    filters: Sequence[int] | None = None,
    region: bool = False,
    subset: Sequence[Sequence[int]] | None = None,
    *,
    target: Target = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """The Smooth Grad-CAM++ paper's own call, word for word, for those who come from it.

    Args:
      model: a model that `jaxcam.cut` takes.
      img: one image, floats, without a batch axis.
      layer_name: the layer to explain.
      nsamples: noisy copies; 0 for Grad-CAM++.
      std_dev: the noise's standard deviation, as a share of the image's range.
      filters: feature maps to draw, one map for each; None for the map of all.
      region: whether `subset` is two corners of a rectangle (True) or a list of neurons (False).
      subset: coordinates of neurons on the layer.
      target: the class; None for the one with the largest output.
      key: where the noise comes from; `jax.random.key(0)` where absent.

    Returns:
      `[*spatial]`, or `[len(filters) *spatial]`.

    Omeiza et al., "Smooth Grad-CAM++", 2019, section 3.7.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.grad_cam_plus_smooth(jaxcam.digits(), image, "block3_conv2", nsamples=5, filters=[3, 7]).shape
      (2, 16, 16)
    """
    whole = filters is None and subset is None and not region
    return smooth_grad_cam_pp(
        cut_model(model, layer_name),
        img,
        target,
        jax.random.key(0) if key is None else key,
        n_samples=nsamples,
        std=std_dev,
        select=None if whole else maps.select(filters=filters, region=region, subset=subset),
    )


def _derivatives(cut, x, A, target, score, link, derivatives, batch_size):
    """`(scale, (Y1, Y2, Y3))` of one input at its activation."""
    if derivatives not in DERIVATIVES:
        raise ValueError(f"derivatives is {derivatives!r}: choose one of {', '.join(DERIVATIVES)}")

    def head(A):
        return cut.head(cut.params, A, x)

    piecewise = derivatives == "closed_form" or linearity.certify(head, A).affine
    if link == "identity" and piecewise and jaxcam.derivatives.score_is_affine(head, A, score, target):
        raise ValueError(
            "link='identity' with an affine score makes Y2 = Y3 = 0 at every location of a piecewise linear network: "
            "alpha is 0/0 and the map is zero. Use link='exp', or another score"
        )
    if piecewise:
        u = jaxcam.derivatives.closed_form(head, A, score, target, batch_size=batch_size)
    else:
        u = jaxcam.derivatives.exact(lambda A: score(head(A), target), A, batch_size=batch_size)
    return jaxcam.derivatives.through_link(u, link=link)


def _activation_and_target(cut, image, target):
    """The clean activation, the target as an index, and whether it is in range (traced: it cannot be raised)."""
    A = cut.features(cut.params, image)
    if A.ndim < 2:
        raise ValueError(
            f"{cut.layer or 'this cut'!r} gives {list(A.shape)}: a map needs at least one spatial axis, [*spatial k]"
        )
    outputs = cut.head(cut.params, A, image)
    if target is None:
        return A, outputs.argmax(), True
    if getattr(outputs, "ndim", None) != 1:
        return A, target, True
    target = jnp.asarray(target).astype(jnp.int32)  # a uint8 would wrap against 256 classes and more
    return A, target, (target >= 0) & (target < outputs.shape[0])


def _or_nan(saliency_map, valid):
    return jnp.where(valid, saliency_map, jnp.nan)
