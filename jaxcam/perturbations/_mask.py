"""TODO."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats
from jaxcam._base.types import Image
from jaxcam.formulas import maps


def as_mask(saliency: jax.Array, shape: Sequence[int]) -> jax.Array:
    """A map as a mask, in 0..1: resized, then (M - min) / (max - min).

    A constant map has no such form: it counts everything alike and gives ones; a map of zeros counts nothing and gives
    zeros. Constant means up to rounding, so that what resizing leaves of it is not blown up to 0..1. Which comes first
    matters: here the mask reaches 0 and 1, to rounding, at the image's resolution. torch-cam scales the coarse map and
    then resizes, and for it a constant map is zeros.

    Args:
      saliency: map `[*spatial]`, at any resolution.
      shape: of the image, `spatial`.

    Returns:
      `[*shape]`, in 0..1.

    Example:
      >>> as_mask(jnp.array([[1.0, 3.0]]), (1, 4)).tolist(), as_mask(jnp.full([1, 1], 0.3), (1, 2)).tolist()
      ([[0.0, 0.25, 0.75, 1.0]], [[1.0, 1.0]])
    """
    saliency = jnp.asarray(saliency)
    if saliency.ndim != len(shape):
        raise ValueError(f"saliency has shape {saliency.shape}: {len(shape)} axes are wanted, to become {tuple(shape)}")
    resized = maps.resize(as_floats(saliency), shape)
    low, high = resized.min(), resized.max()
    size = jnp.maximum(abs(low), abs(high))
    flat = high - low <= 16 * jnp.finfo(resized.dtype).eps * size
    scaled = jnp.minimum((resized - low) / jnp.where(flat, 1, high - low), 1)  # x * (1 / x) may round to above 1
    return jnp.where(flat, jnp.where(size > 0, 1, 0).astype(scaled.dtype), scaled)


def masked(image: jax.Array, mask: jax.Array, *, baseline: jax.Array | float = 0.0) -> jax.Array:
    """The image where the mask is 1, and nothing where it is 0: image * mask + baseline * (1 - mask).

    Args:
      image: `[*spatial c]`, floats.
      mask: `[*spatial]`, in 0..1.
      baseline: what nothing is for the model, a number, `[c]`, or an image; 0 is black for images in 0..1, and the mean
        colour for those that are normalised.

    Raises:
      TypeError, ValueError: an image that is not floats; another shape of the mask or baseline.

    Example:
      >>> masked(jnp.ones([1, 2, 3]), jnp.array([[1.0, 0.5]]), baseline=0.5)[..., 0].tolist()
      [[1.0, 0.75]]
    """
    image, mask, baseline = checks.checked_image(image), jnp.asarray(mask), jnp.asarray(baseline)
    if mask.shape != image.shape[:-1]:
        raise ValueError(f"mask has shape {mask.shape}: {image.shape[:-1]} is wanted, as the image; see as_mask")
    if baseline.shape not in ((), image.shape[-1:], image.shape):
        raise ValueError(
            f"baseline has shape {baseline.shape}: a number, {image.shape[-1:]} or {image.shape} is wanted"
        )
    mask = mask.astype(image.dtype)[..., None]
    return image * mask + jnp.broadcast_to(baseline.astype(image.dtype), image.shape) * (1 - mask)


def blurred(image: Image, *, size: int = 11, std: float = 5.0) -> jax.Array:
    """The image under a Gaussian kernel of size x size pixels, `[h w c]`, channel by channel.

    At the border the kernel is what lies inside, scaled to a sum of 1. RISE's code has zeros there, the mean colour of
    its images, which would be a dark frame in others; and its kernel, a Gaussian filter's answer to one pixel inside
    11 x 11 that reflect, is nearly flat.

    Args:
      image: `[h w c]`.
      size: of the kernel, odd.
      std: of the Gaussian, in pixels.

    Petsiuk et al., "RISE", BMVC 2018, and its code: 11 x 11 and 5.

    Example:
      >>> bool(jnp.allclose(blurred(jnp.ones([16, 16, 3])), 1))
      True
    """
    image = jnp.asarray(image)

    def along(length):
        distance = np.arange(length)[:, None] - np.arange(length)
        kernel = np.exp(-(distance**2) / (2 * std**2)) * (np.abs(distance) <= size // 2)
        return jnp.asarray(kernel / kernel.sum(1, keepdims=True), image.dtype)

    h, w, _ = image.shape
    return jnp.einsum("ih,hwc,jw->ijc", along(h), image, along(w), precision="highest")
