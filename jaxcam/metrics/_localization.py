"""Does a map lie on the object? Measures of one map `[*spatial]` against a mask, each in 0..1.

>>> import jax.numpy as jnp
>>> saliency = jnp.array([[0.0, 4.0, 1.0], [0.0, 2.0, 1.0]])
>>> mask = jnp.array([[False, True, True], [False, False, False]])
>>> float(pointing_game(saliency, mask)), float(energy(saliency, mask)), round(float(mask_iou(saliency, mask)), 4)
(1.0, 0.625, 0.3333)

A map is at least 0 and has the mask's resolution; `jaxcam.resize` resizes it. Maps and masks have any number of
spatial axes. All functions are pure functions of one image, for `jit` and `vmap`. A map of zeros points nowhere: it
scores 0 in all of them, and none of them returns NaN.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base.numerics import as_floats, safe_divide
from jaxcam.metrics._inputs import bright_pixels, checked_map_and_mask


def pointing_game(
    saliency: ArrayLike, mask: ArrayLike, *, ignore: ArrayLike | None = None, tolerance: float = 0
) -> jax.Array:
    """The share of a map's largest pixels that lie on the mask: 1 for a hit, 0 for a miss; higher is better.

    |{p : M(p) = max M, d(p, mask) <= tolerance}| / |{p : M(p) = max M}|, with the Euclidean distance d. A unique
    maximum is a hit or a miss. Ties score the expected value of picking one of them at random, so no corner is
    favored. The mean over images is the pointing game's accuracy.

    Gamed by a map that only knows that objects are in the middle, such as a center Gaussian. All ones scores the
    mask's share of the image.

    Args:
      saliency: map `[*spatial]`, at least 0.
      mask: the object, `[*spatial]` bool.
      ignore: pixels that do not belong to the mask, whatever the mask says, `[*spatial]` bool; a largest pixel there
        is a miss.
      tolerance: the largest distance from the mask that still counts as a hit, in pixels, a Python number; the paper
        uses 15. A largest pixel near enough to the mask is a hit, even if it is ignored.

    Returns:
      A scalar in 0..1.

    Raises:
      TypeError: the mask or `ignore` is not bool.
      ValueError: the shapes differ, or the tolerance is negative.

    Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016.

    Example:
      >>> saliency = jnp.array([[3.0, 1.0, 3.0, 0.0]])
      >>> mask = jnp.array([[True, True, False, False]])
      >>> float(pointing_game(saliency, mask)), float(pointing_game(saliency, mask, tolerance=1))
      (0.5, 1.0)
    """
    saliency, mask, _ = checked_map_and_mask(saliency, mask, ignore)
    if tolerance < 0:
        raise ValueError(f"expected a tolerance of at least 0 pixels, got {tolerance}")
    top = saliency.max()
    largest = (saliency == top) & (top > 0)
    hits = largest & (mask if tolerance == 0 else _within_distance(mask, tolerance))
    return safe_divide(as_floats(hits.sum()), as_floats(largest.sum()))


def energy(saliency: ArrayLike, mask: ArrayLike, *, ignore: ArrayLike | None = None) -> jax.Array:
    """The share of a map's sum that lies on the mask, the energy-based pointing game; higher is better.

    sum of M over the mask / sum of M over all pixels that count.

    Gamed by sharpening: a map raised to a high power keeps its order and loses everything except its peak. All ones
    scores the mask's share of the pixels that count.

    Args:
      saliency: map `[*spatial]`, at least 0.
      mask: the object, `[*spatial]` bool.
      ignore: pixels that do not count, in either sum, `[*spatial]` bool.

    Returns:
      A scalar in 0..1.

    Raises:
      TypeError: the mask or `ignore` is not bool.
      ValueError: the shapes differ.

    Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR workshops 2020,
    with a box as the mask. Arras et al., "CLEVR-XAI", 2022, call it relevance mass accuracy.

    Example:
      >>> float(energy(jnp.array([[3.0, 1.0]]), jnp.array([[True, False]])))
      0.75
    """
    saliency, mask, counted = checked_map_and_mask(saliency, mask, ignore)
    return safe_divide(jnp.where(mask, saliency, 0).sum(), jnp.where(counted, saliency, 0).sum())


def mask_iou(
    saliency: ArrayLike, mask: ArrayLike, *, ignore: ArrayLike | None = None, threshold: float | None = None
) -> jax.Array:
    """IoU of the mask and the map's brightest pixels: intersection / union; higher is better.

    By default the brightest pixels are as many as the mask has, n, so only the map's order counts. Pixels that tie for
    the last places share these places in equal parts. So the result does not depend on the order of pixels, and a
    constant map has the mean intersection of n pixels that are drawn at random.

    Gamed, without a threshold, by the measure itself, which tells the map the object's size: a map that spreads far
    too wide, in the right order, loses nothing. Gamed, with a threshold, by tuning the threshold to the data.

    Args:
      saliency: map `[*spatial]`, at least 0.
      mask: the object, `[*spatial]` bool.
      ignore: pixels that do not count, `[*spatial]` bool.
      threshold: None for the n brightest pixels. Otherwise the pixels at or above threshold * max, in 0..1, where the
        maximum is taken over the pixels that count.

    Returns:
      A scalar in 0..1.

    Raises:
      TypeError: the mask or `ignore` is not bool.
      ValueError: the shapes differ.

    With r the share of the n brightest pixels that lie on the mask, which is the relevance rank accuracy of Arras et
    al. ("CLEVR-XAI", 2022), IoU = r / (2 - r).

    Example:
      >>> saliency, mask = jnp.array([[4.0, 3.0, 2.0, 1.0]]), jnp.array([[True, False, True, False]])
      >>> round(float(mask_iou(saliency, mask)), 4), round(float(mask_iou(saliency, mask, threshold=0.4)), 4)
      (0.3333, 0.6667)
    """
    saliency, mask, counted = checked_map_and_mask(saliency, mask, ignore)
    shown = jnp.where(counted, saliency, 0)
    if threshold is None:
        membership = jnp.where(shown.max() > 0, _brightest_pixels(jnp.where(counted, saliency, -1), mask.sum()), 0)
    else:
        membership = (bright_pixels(shown, threshold) & counted).astype(jnp.float32)
    intersection = jnp.where(mask, membership, 0).sum()
    return safe_divide(intersection, membership.sum() + mask.sum().astype(intersection.dtype) - intersection)


def _within_distance(mask: jax.Array, distance: float) -> jax.Array:
    """The pixels at a Euclidean distance of at most `distance` from the mask.

    The squared distance is built up axis by axis: d^2 = min over shifts s of (d^2 along the axes so far, at s) + s^2.
    Ours, because JAX has no distance transform.
    """
    far = sum(mask.shape) + 1 + int(distance)
    squared = _distance_along_first_axis(mask, far) ** 2
    for axis in range(1, mask.ndim):
        squared = _min_over_shifts(squared, axis, min(int(distance), mask.shape[axis]), far**2)
    return squared.astype(jnp.float32) <= float(distance) ** 2


def _distance_along_first_axis(mask: jax.Array, far: int) -> jax.Array:
    """The distance to the nearest pixel of the mask in the same line along axis 0; at least `far` if there is none."""
    length = mask.shape[0]
    places = jax.lax.broadcasted_iota(jnp.int32, mask.shape, 0)
    to_previous = places - jax.lax.cummax(jnp.where(mask, places, -far))
    to_next = jax.lax.cummin(jnp.where(mask, places, length + far), reverse=True) - places
    return jnp.minimum(to_previous, to_next)


def _min_over_shifts(squared: jax.Array, axis: int, reach: int, far: int) -> jax.Array:
    """min over |s| <= reach of squared(p + s) + s^2, with shifts along one axis."""
    length = squared.shape[axis]
    padding = [(reach, reach) if i == axis else (0, 0) for i in range(squared.ndim)]
    padded = jnp.pad(squared, padding, constant_values=far)

    def nearer(i, nearest):
        shift = (i - reach).astype(padded.dtype)
        return jnp.minimum(nearest, jax.lax.dynamic_slice_in_dim(padded, i, length, axis) + shift**2)

    return jax.lax.fori_loop(0, 2 * reach + 1, nearer, squared)


def _brightest_pixels(values: jax.Array, count: jax.Array) -> jax.Array:
    """1 for the `count` largest values, 0 for the others, and an equal part for those that tie for the last places."""
    last = jnp.sort(values.ravel())[values.size - count]
    above, level = values > last, values == last
    part = safe_divide(as_floats(count - above.sum()), as_floats(level.sum()))
    return jnp.where(count > 0, jnp.where(above, 1, jnp.where(level, part, 0)), 0)
