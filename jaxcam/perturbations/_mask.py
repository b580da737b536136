"""A map as a mask, and an image behind a mask: masked, blurred, or removed pixel by pixel in the order of a map.

Images are `[*spatial c]` and maps `[*spatial]`, with any number of spatial axes.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.axes import channel_place, over_channels, spatial_shape
from jaxcam._base.numerics import as_floats
from jaxcam._base.types import Baseline, Image
from jaxcam.formulas import maps


def as_mask(saliency: Image, shape: Sequence[int]) -> jax.Array:
    """A map as a mask in 0..1: resized, then (M - min) / (max - min).

    A constant map has no such form. It gives ones, because it rates all pixels alike; a map of zeros gives zeros,
    because it shows nothing. A map counts as constant if its values are equal up to rounding, so that the rounding
    errors of resizing are not blown up to 0..1.

    The map is resized before it is scaled, so the mask reaches 0 and 1 (up to rounding) at the image's resolution.
    torch-cam scales the coarse map and then resizes it, and gives zeros for a constant map.

    Args:
      saliency: map `[*spatial]`, at any resolution.
      shape: the image's `spatial`.

    Returns:
      The mask, `[*shape]`, in 0..1.

    Raises:
      ValueError: the map and the shape have different numbers of axes.

    Example:
      >>> as_mask(jnp.array([[1.0, 3.0]]), (1, 4)).tolist(), as_mask(jnp.full([1, 1], 0.3), (1, 2)).tolist()
      ([[0.0, 0.25, 0.75, 1.0]], [[1.0, 1.0]])
    """
    saliency = jnp.asarray(saliency)
    if saliency.ndim != len(shape):
        raise ValueError(f"expected a map with the {len(shape)} axes of {tuple(shape)}, got shape {saliency.shape}")
    resized = maps.resize(as_floats(saliency), shape)
    low, high = resized.min(), resized.max()
    magnitude = jnp.maximum(abs(low), abs(high))
    is_constant = high - low <= 16 * jnp.finfo(resized.dtype).eps * magnitude
    # The minimum, because x * (1 / x) may round to a value above 1.
    scaled = jnp.minimum((resized - low) / jnp.where(is_constant, 1, high - low), 1)
    return jnp.where(is_constant, jnp.where(magnitude > 0, 1, 0).astype(scaled.dtype), scaled)


def masked(image: Image, mask: Image, *, baseline: Baseline = 0.0, channel_axis: int | None = -1) -> jax.Array:
    """The image behind a mask: image * mask + baseline * (1 - mask).

    Args:
      image: `[*spatial c]`, floats.
      mask: `[*spatial]`, in 0..1; 1 keeps a pixel and 0 removes it.
      baseline: the value of a removed pixel: a number, `[c]`, or an image. 0 is black for images in 0..1, and the mean
        color for normalized images.
      channel_axis: of the image; None for an image without channels.

    Returns:
      The masked image, in the image's layout and dtype.

    Raises:
      TypeError: the image is not floats.
      ValueError: the mask or the baseline has another shape than the image.

    Example:
      >>> masked(jnp.ones([1, 2, 3]), jnp.array([[1.0, 0.5]]), baseline=0.5)[..., 0].tolist()
      [[1.0, 0.75]]
    """
    image, mask = checks.checked_image(image), jnp.asarray(mask)
    spatial = spatial_shape(image.shape, channel_axis)
    if mask.shape != spatial:
        raise ValueError(f"expected a mask of the image's shape {spatial}, got {mask.shape}: see as_mask")
    baseline = checks.broadcast_baseline(baseline, image, channel_axis)
    mask = over_channels(mask.astype(image.dtype), image.ndim, channel_axis)
    return image * mask + baseline * (1 - mask)


def blurred(image: Image, *, size: int = 11, std: float = 5.0, channel_axis: int | None = -1) -> jax.Array:
    """The image under a Gaussian kernel of `size` pixels along each spatial axis, `[*spatial c]`, channel by channel.

    At the border the kernel is cut off and its remaining part scaled to a sum of 1. RISE's code pads with zeros
    instead, the mean color of its images, which would be a dark frame in other images. Its kernel is nearly flat: it
    is the response of a Gaussian filter to one pixel, with reflection at the edges of the 11 x 11 window.

    Args:
      image: `[*spatial c]`, floats, with any number of spatial axes.
      size: width of the kernel in pixels, odd.
      std: standard deviation of the Gaussian in pixels.
      channel_axis: of the image; None for an image without channels.

    Raises:
      TypeError: the image is not floats.

    Petsiuk et al., "RISE", BMVC 2018, and its code, for the size 11 and the std 5.

    Example:
      >>> bool(jnp.allclose(blurred(jnp.ones([16, 16, 3])), 1))
      True
    """
    image = checks.checked_image(image)
    # A Gaussian is a product over the axes, so one matrix along each axis blurs an image of any rank.
    channels = channel_place(image.ndim, channel_axis)
    for axis, length in enumerate(image.shape):
        if axis == channels:
            continue
        kernel = _gaussian_matrix(length, size, std).astype(image.dtype)
        image = jnp.moveaxis(jnp.tensordot(kernel, image, (1, axis), precision="highest"), 0, axis)
    return image


def _gaussian_matrix(length: int, size: int, std: float) -> np.ndarray:
    """The blur along one axis, `[length length]`; each row sums to 1."""
    distance = np.arange(length)[:, None] - np.arange(length)
    kernel = np.exp(-(distance**2) / (2 * std**2)) * (np.abs(distance) <= size // 2)
    return kernel / kernel.sum(1, keepdims=True)


def pixel_ranks(saliency: Image) -> jax.Array:
    """The rank of each pixel in a map: 0 for the most salient, n - 1 for the least salient of n pixels.

    Pixels with equal values are ranked in a random order, which is the same for every map of that shape. So a constant
    map gives a random order, and no corner comes first.

    Args:
      saliency: map `[*spatial]`. NaN counts as the least salient.

    Returns:
      int32 `[*spatial]`, each of 0 .. n - 1 once.

    Example:
      >>> pixel_ranks(jnp.array([[0.1, 0.9], [0.5, 0.3]])).tolist()
      [[3, 0], [1, 2]]
    """
    saliency = jnp.asarray(saliency)
    # NumPy guarantees that the numbers of RandomState never change.
    shuffled = np.random.RandomState(0).permutation(saliency.size).astype(np.int32)
    values = saliency.ravel()[shuffled]
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    sequence = jnp.asarray(shuffled)[jnp.argsort(values, descending=True)]
    ranks = jnp.arange(saliency.size, dtype=jnp.int32)
    return jnp.zeros_like(ranks).at[sequence].set(ranks, unique_indices=True).reshape(saliency.shape)
