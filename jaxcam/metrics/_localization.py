"""Does a map lie on the object? Measures of one map `[*spatial]` against a mask, each in 0..1.

>>> import jax.numpy as jnp
>>> saliency = jnp.array([[0.0, 4.0, 1.0], [0.0, 2.0, 1.0]])
>>> mask = jnp.array([[False, True, True], [False, False, False]])
>>> float(pointing_game(saliency, mask)), float(energy(saliency, mask)), round(float(mask_iou(saliency, mask)), 4)
(1.0, 0.625, 0.3333)

A map is at least 0 and has the mask's resolution; `jaxcam.resize` resizes it. Maps and masks have any number of
spatial axes. All functions are pure functions of one image, for `jit` and `vmap`. A map of zeros points nowhere: it
scores 0 in all of them; a map with NaN scores NaN.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats, safe_divide
from jaxcam.metrics._inputs import bright_pixels, checked_map_and_mask, unless_nan


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
      ValueError: the shapes differ, or the tolerance is negative or not finite.

    Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016.

    Example:
      >>> saliency = jnp.array([[3.0, 1.0, 3.0, 0.0]])
      >>> mask = jnp.array([[True, True, False, False]])
      >>> float(pointing_game(saliency, mask)), float(pointing_game(saliency, mask, tolerance=1))
      (0.5, 1.0)
    """
    saliency, mask, _ = checked_map_and_mask(saliency, mask, ignore)
    if not checks.is_real_number(tolerance) or not 0 <= tolerance < math.inf:
        raise ValueError(f"expected a finite tolerance of at least 0 pixels, got {tolerance!r}")
    top = saliency.max()
    largest = (saliency == top) & (top > 0)
    hits = largest & (mask if tolerance == 0 else _within_distance(mask, tolerance))
    return unless_nan(saliency, safe_divide(as_floats(hits.sum()), as_floats(largest.sum())))


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


def inside_over_outside(saliency: ArrayLike, mask: ArrayLike, *, ignore: ArrayLike | None = None) -> jax.Array:
    """The map's mean on the mask divided by its mean beside it; 1 for a uniform map, higher is better.

    mean of M over the mask / mean of M over the other pixels that count.

    Unlike the energy it does not favor large objects. Gamed by sharpening: it is infinite for a map that is zero
    outside.

    Args:
      saliency: map `[*spatial]`, at least 0.
      mask: the object, `[*spatial]` bool.
      ignore: pixels that do not count, `[*spatial]` bool.

    Returns:
      A scalar, at least 0; 0 for a map of zeros, infinity if only the outside is zero, and NaN if the mask has no
      pixels, or all.

    Raises:
      TypeError: the mask or `ignore` is not bool.
      ValueError: the shapes differ.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", IJCV 2019,
    section 8.1.

    Example:
      >>> saliency, mask = jnp.array([[3.0, 3.0, 1.0, 0.0]]), jnp.array([[True, True, False, False]])
      >>> float(inside_over_outside(saliency, mask)), float(inside_over_outside(jnp.ones([1, 4]), mask))
      (6.0, 1.0)
    """
    saliency, mask, counted = checked_map_and_mask(saliency, mask, ignore)
    outside = counted & ~mask
    means = [jnp.where(where, saliency, 0).sum() / as_floats(where.sum()) for where in (mask, outside)]
    return jnp.where((means[0] == 0) & (means[1] == 0), 0 * means[0], means[0] / means[1])


def loc(saliency: ArrayLike, mask: ArrayLike, *, threshold: float = 0.0, ignore: ArrayLike | None = None) -> jax.Array:
    """Loc(delta) of the Grad-CAM++ paper: how much of the object is bright, and how much of the rest; higher is better.

    bright pixels inside / (pixels of the object + bright pixels outside), where the map is scaled to 0..1 by its
    minimum and maximum, and its values above delta are bright.

    Gamed by tuning delta to the data. All ones, which has no bright pixel, scores 0.

    Args:
      saliency: map `[*spatial]`, at least 0.
      mask: the object, or the inside of its box (`jaxcam.metrics.inside`), `[*spatial]` bool.
      threshold: delta, in 0..1; the paper has 0, 0.25 and 0.5.
      ignore: pixels that do not count, `[*spatial]` bool.

    Returns:
      A scalar in 0..1.

    Raises:
      TypeError: the mask or `ignore` is not bool.
      ValueError: the shapes differ, or the threshold is not in 0..1.

    Chattopadhay et al., "Grad-CAM++: generalized gradient-based visual explanations for deep convolutional networks",
    WACV 2018, equation 26.

    Example:
      >>> saliency, mask = jnp.array([[8.0, 0.0, 4.0, 1.0]]), jnp.array([[True, True, False, False]])
      >>> float(loc(saliency, mask)), float(loc(saliency, mask, threshold=0.5))
      (0.25, 0.5)
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold in 0..1, got {threshold}")
    saliency, mask, counted = checked_map_and_mask(saliency, mask, ignore)
    low = jnp.where(counted, saliency, jnp.inf).min()
    high = jnp.where(counted, saliency, -jnp.inf).max()
    bright = counted & (saliency - low > threshold * (high - low))
    share = safe_divide(as_floats((bright & mask).sum()), as_floats(mask.sum() + (bright & ~mask).sum()))
    return unless_nan(saliency, share)


def pointing_or_rejection(
    saliency: ArrayLike,
    mask: ArrayLike,
    *,
    reject_below: float,
    ignore: ArrayLike | None = None,
    tolerance: float = 0,
) -> jax.Array:
    """The pointing game for a class that may be absent: a map whose maximum is low says that it is not there.

    If the mask has no pixel, the class is absent: 1 if max M < reject_below, and 0 otherwise. If it has some, the
    pointing game of a map with max M >= reject_below, and 0 for a map below, which rejects what is there.

    Gamed by the scale of the map, which the threshold is chosen for: choose it on other images than it is scored on.

    Args:
      saliency: map `[*spatial]`, at least 0, not scaled to its maximum.
      mask: the object, `[*spatial]` bool; no pixel if the class is absent.
      reject_below: the threshold.
      ignore: as in `pointing_game`.
      tolerance: as in `pointing_game`.

    Returns:
      A scalar in 0..1.

    Raises:
      TypeError, ValueError: as `pointing_game`.

    Selvaraju et al., IJCV 2019, section 4.3, for the five most probable classes of an image.

    Example:
      >>> saliency, absent = jnp.array([[0.2, 0.9]]), jnp.array([[False, False]])
      >>> [float(pointing_or_rejection(saliency, absent, reject_below=t)) for t in (0.5, 1.0)]
      [0.0, 1.0]
    """
    hit = pointing_game(saliency, mask, ignore=ignore, tolerance=tolerance)
    saliency, mask, _ = checked_map_and_mask(saliency, mask, ignore)
    rejected = saliency.max() < reject_below
    return unless_nan(saliency, jnp.where(mask.any(), jnp.where(rejected, 0, hit), rejected.astype(hit.dtype)))


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
    union = membership.sum() + mask.sum().astype(intersection.dtype) - intersection
    return unless_nan(saliency, safe_divide(intersection, union))


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
