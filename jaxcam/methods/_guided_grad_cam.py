"""Guided Grad-CAM: a class activation map times guided backprop."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.axes import over_channels
from jaxcam._base.types import Image, Method, Score, Target
from jaxcam.cutting import Cut, image_axis, image_spatial, resolve_target
from jaxcam.formulas import maps, scores
from jaxcam.methods._average import average_maps
from jaxcam.methods._call import explanation_method
from jaxcam.methods._cam import grad_cam
from jaxcam.methods._gradients import guided_backprop, model_of
from jaxcam.methods._sampled import map_of
from jaxcam.methods._signature import takes_key
from jaxcam.methods._smooth_grad import AVERAGE_OF_GRADIENTS


@explanation_method(options_of=AVERAGE_OF_GRADIENTS)
def guided_grad_cam(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    method: Method = grad_cam,
    score: Score = scores.logit,
    n_samples: int = 0,
    std: jax.Array | float = 0.15,
    **options: Any,
) -> jax.Array:
    """Guided Grad-CAM: guided backprop times a class activation map at the image's resolution.

    With noise it is the product of two averages over the same noise. The first is that of guided backprop. The second
    is that of the map's derivatives if the method averages derivatives (it has the option `n_samples`, as every
    gradient-weighted method does), and otherwise that of its maps. (`jaxcam.average_maps(jaxcam.guided_grad_cam)`
    averages the products.)

    Args:
      cut: a `Cut`, at the layer of the map.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output on the clean image.
      key: a `jax.random.key`, for the noise and for a method that draws its own.
      method: the method of the map, one of `jaxcam.methods`, also with options bound to it, such as
        `functools.partial(jaxcam.grad_cam_pp, link="exp")`. The map is resized bilinearly.
      score: `(outputs, target) -> u`, for both factors. A score that is bound to the method is kept.
      n_samples: number of noisy copies for both factors; 0 for none.
      std: standard deviation of the noise for both factors.
      options: of the noise, except standard_error; see `jaxcam.average_maps`.

    Returns:
      `[*spatial c]`, signed; `[m *spatial c]` for a method that returns m maps.

    Raises:
      TypeError, ValueError: as `guided_backprop` and the method; also a ValueError if the method's map has the image's
        shape, channels included.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    section 3.3.

    Example:
      >>> import functools, jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.guided_grad_cam(cut, image, 3, method=jaxcam.grad_cam_pp).shape
      (64, 64, 3)
      >>> jaxcam.guided_grad_cam(cut, image, 3, jax.random.key(0), n_samples=4, std=0.1).shape
      (64, 64, 3)
    """
    if options.get("standard_error") is not None:
        raise ValueError("a product of two averages has no standard_error here: average_maps(guided_grad_cam) has")
    x = jnp.asarray(image)
    target, _ = resolve_target(model_of(cut)(x), target)
    guided = functools.partial(guided_backprop, score=score)
    method = _with_score(method, score)
    if n_samples == 0:
        gradient = guided(cut, x, target)
        saliency = method(cut, x, target, *([key] if key is not None and takes_key(method) else []))
    else:
        sampling = {"n_samples": n_samples, "std": std, **options}
        averages_derivatives = _takes(method, "n_samples")
        gradient = average_maps(guided)(cut, x, target, key, **sampling)
        saliency = (method if averages_derivatives else average_maps(method))(cut, x, target, key, **sampling)
    saliency, channels = map_of(saliency), image_axis(cut, x)
    if saliency.shape == x.shape and channels is not None:
        raise ValueError(f"expected the map of a layer, got a map {list(saliency.shape)} of the image's shape")
    enlarged = over_channels(maps.resize(saliency, image_spatial(cut, x)), x.ndim, channels).astype(x.dtype)
    return gradient.reshape((1,) * (enlarged.ndim - x.ndim) + x.shape) * enlarged


def _takes(method, parameter):
    return parameter in inspect.signature(method).parameters


def _with_score(method, score):
    """The method with the score bound to it, if it has that option and no score is bound to it already."""
    is_bound = isinstance(method, functools.partial) and "score" in method.keywords
    return functools.partial(method, score=score) if _takes(method, "score") and not is_bound else method
