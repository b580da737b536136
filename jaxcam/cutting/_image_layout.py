"""Where a cut's image has its channels, for methods and metrics that mask, resize or reduce images."""

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.axes import channel_place, spatial_shape
from jaxcam.cutting._cut import Cut, Cuts

FEW_CHANNELS = 4  # an axis of so few elements is not taken for pixels


def image_axis(cut: Cut | Cuts, image: Any) -> int | None:
    """The axis of the image that holds its channels, from 0; None for an image without channels.

    Args:
      cut: a `Cut`, or `Cuts`.
      image: one example, or its shape and dtype.

    Raises:
      ValueError: the image has no such axis; or no axis is given, and the last one has pixels, as the layer has as many
        spatial axes as the image has axes.
    """
    axis, shape = cut.image_channel_axis, tuple(jnp.shape(image))
    place = channel_place(len(shape), axis)
    if axis == -1 and isinstance(cut, Cut) and shape[-1] > FEW_CHANNELS:
        A = jax.eval_shape(cut.features, cut.params, jax.ShapeDtypeStruct(shape, image.dtype))
        if A.ndim == len(shape) + 1:
            raise ValueError(
                f"expected an image [*spatial c], got {list(shape)} for {cut.layer or 'this cut'!r}, which gives "
                f"{list(A.shape)}: image_channel_axis=None is for images without channels, and "
                f"image_channel_axis={len(shape) - 1} says that the last axis has them"
            )
        if len(shape) == 3 and shape[0] <= FEW_CHANNELS < min(shape[1:]):
            warn_once(f"an image {list(shape)} looks channels-first: image_channel_axis=0 says so, 2 that it is not")
    return place


def image_spatial(cut: Cut | Cuts, image: Any) -> tuple[int, ...]:
    """The shape of the image without its channels, that of a map at the image's resolution."""
    return spatial_shape(jnp.shape(image), image_axis(cut, image))


@functools.lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Logs a warning on the logger "jaxcam"; the same one once."""
    logging.getLogger("jaxcam").warning(message)
