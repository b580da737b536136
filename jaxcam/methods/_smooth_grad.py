"""SmoothGrad and its variants: statistics of the input gradient over noisy copies of the image."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax

from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut
from jaxcam.formulas import scores
from jaxcam.methods._average import average_maps
from jaxcam.methods._call import explanation_method
from jaxcam.methods._gradients import input_gradient
from jaxcam.methods._types import AverageMethod, Maps

AVERAGE_OF_GRADIENTS = average_maps(input_gradient)


def _average_method(compute: Callable[..., Maps]) -> AverageMethod[jax.Array]:
    """A decorator for a method whose `**options` are those of an average over noise."""
    return cast(AverageMethod[jax.Array], explanation_method(options_of=AVERAGE_OF_GRADIENTS)(compute))


@_average_method
def smooth_grad(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    score: Score = scores.logit,
    **options: Any,
) -> Maps:
    """SmoothGrad: the mean of du/dx over noisy copies of the image.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output on the clean image.
      key: a `jax.random.key`.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      options: of the noise, such as `n_samples=50` and `std=0.15`; see `jaxcam.average_maps`.

    Returns:
      `[*spatial c]`, signed; with standard_error=, a `Smoothed`.

    Raises:
      TypeError, ValueError: as `input_gradient`; also if the options of the noise cannot be used.

    Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, section 3.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.smooth_grad(cut, image, 3, jax.random.key(0), n_samples=4).shape
      (64, 64, 3)
    """
    gradient = functools.partial(input_gradient, score=score)
    return average_maps(gradient, statistic="mean")(cut, image, target, key, **options)


@_average_method
def var_grad(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    score: Score = scores.logit,
    **options: Any,
) -> Maps:
    """VarGrad: the variance of du/dx over noisy copies of the image.

    Arguments, options and errors are those of `smooth_grad`. The result is `[*spatial c]`, at least 0.

    Adebayo et al., "Local explanation methods for deep neural networks lack sensitivity to parameter values", 2018.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.var_grad(cut, image, 3, jax.random.key(0), n_samples=4).shape
      (64, 64, 3)
    """
    gradient = functools.partial(input_gradient, score=score)
    return average_maps(gradient, statistic="variance")(cut, image, target, key, **options)


@_average_method
def square_grad(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    score: Score = scores.logit,
    **options: Any,
) -> Maps:
    """SmoothGrad-Squared: the mean of (du/dx)^2 over noisy copies of the image.

    Arguments, options and errors are those of `smooth_grad`. The result is `[*spatial c]`, at least 0.

    Hooker et al., "A benchmark for interpretability methods in deep neural networks", NeurIPS 2019.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.square_grad(cut, image, 3, jax.random.key(0), n_samples=4).shape
      (64, 64, 3)
    """
    gradient = functools.partial(input_gradient, score=score)
    return average_maps(gradient, statistic="square")(cut, image, target, key, **options)
