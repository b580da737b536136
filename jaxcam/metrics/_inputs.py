"""Checks of what the metrics take: a map, a mask, and boxes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base.numerics import as_floats


def checked_map(saliency: ArrayLike, *, ndim: int | None = None) -> jax.Array:
    """A map as floats of at least 32 bits.

    Raises:
      ValueError: the map has no axes, or another number of axes than `ndim`.
    """
    saliency = jnp.asarray(saliency)
    if saliency.ndim == 0 or ndim not in (None, saliency.ndim):
        expected = "[h w], because boxes are two-dimensional" if ndim == 2 else "[*spatial]"
        raise ValueError(f"expected a map {expected}, got shape {saliency.shape}: use jax.vmap for several maps")
    return as_floats(saliency)


def checked_map_and_mask(
    saliency: ArrayLike, mask: ArrayLike, ignore: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The map, the mask without the ignored pixels, and the pixels that count.

    Raises:
      TypeError: the mask or `ignore` is not bool.
      ValueError: the shapes differ.
    """
    saliency, mask = checked_map(saliency), jnp.asarray(mask)
    ignore = jnp.zeros(mask.shape, bool) if ignore is None else jnp.asarray(ignore)
    for name, array in (("mask", mask), ("ignore", ignore)):
        if array.dtype != bool:
            raise TypeError(f"expected a {name} of bool, such as trimap == 1, got {array.dtype}")
        if array.shape != saliency.shape:
            raise ValueError(
                f"expected a map and a {name} of one shape, got {saliency.shape} and {array.shape}: "
                f"jaxcam.resize(saliency, {name}.shape) resizes the map, and jax.vmap takes several maps"
            )
    return saliency, mask & ~ignore, ~ignore


def unless_nan(saliency: jax.Array, measured: jax.Array) -> jax.Array:
    """What was measured, or NaN if the map has NaN: comparisons, orders and networks lose it.

    Example:
      >>> unless_nan(jnp.array([1.0, jnp.nan]), jnp.array([0.5, 1.0])).tolist()
      [nan, nan]
    """
    return jnp.where(jnp.isnan(saliency).any(), jnp.nan, measured)


def checked_boxes(boxes: Any) -> jax.Array:
    """Boxes as float32 `[m 4]`.

    Raises:
      ValueError: another shape.
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected boxes [m 4] of row0, column0, row1, column1, got shape {boxes.shape}")
    return boxes


def bright_pixels(saliency: jax.Array, threshold: float) -> jax.Array:
    """The pixels at or above threshold * max; none for a map of zeros."""
    top = saliency.max()
    return (saliency >= threshold * top) & (top > 0)
