"""Where the channels of an image are: the axis of one example, without a batch axis; None for no channels.

>>> import numpy as np
>>> spatial_shape((3, 24, 32), 0), spatial_shape((24, 32, 3), -1), spatial_shape((24, 32), None)
((24, 32), (24, 32), (24, 32))
>>> over_channels(np.ones([24, 32]), 3, 0).shape
(1, 24, 32)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def channel_place(ndim: int, channel_axis: int | None) -> int | None:
    """The channel axis of an image with `ndim` axes as a number from 0; None for an image without channels.

    Raises:
      ValueError: the image has no such axis.

    Example:
      >>> channel_place(3, -1)
      2
    """
    if channel_axis is None:
        return None
    if not -ndim <= channel_axis < ndim:
        raise ValueError(f"expected a channel axis of an image with {ndim} axes, got {channel_axis}")
    return channel_axis % ndim


def spatial_shape(shape: Sequence[int], channel_axis: int | None) -> tuple[int, ...]:
    """The shape of an image without its channels."""
    place = channel_place(len(shape), channel_axis)
    return tuple(size for axis, size in enumerate(shape) if axis != place)


def over_channels(values: ArrayLike, ndim: int, channel_axis: int | None) -> jax.Array:
    """Values for each pixel, `[* *spatial]`, with an axis of 1 where an image of `ndim` axes has its channels."""
    place = channel_place(ndim, channel_axis)
    values = jnp.asarray(values)
    return values if place is None else jnp.expand_dims(values, place - ndim)


def channels_last(image: ArrayLike, channel_axis: int | None) -> jax.Array:
    """The image as `[*spatial c]`, with one channel if it has none.

    Example:
      >>> import numpy as np
      >>> channels_last(np.ones([3, 24, 32]), 0).shape, channels_last(np.ones([24, 32]), None).shape
      ((24, 32, 3), (24, 32, 1))
    """
    image = jnp.asarray(image)
    place = channel_place(image.ndim, channel_axis)
    return image[..., None] if place is None else jnp.moveaxis(image, place, -1)


def channels_back(image: jax.Array, channel_axis: int | None) -> jax.Array:
    """The inverse of `channels_last`."""
    place = channel_place(image.ndim, channel_axis) if channel_axis is not None else None
    return image[..., 0] if place is None else jnp.moveaxis(image, -1, place)
