"""Does a map lie on the object? Measures of one map `[h w]` against a mask or boxes, each in 0..1.

>>> import jax.numpy as jnp
>>> saliency = jnp.array([[0.0, 4.0, 1.0], [0.0, 2.0, 1.0]])
>>> mask = jnp.array([[False, True, True], [False, False, False]])
>>> float(pointing_game(saliency, mask)), float(energy(saliency, mask)), round(float(mask_iou(saliency, mask)), 4)
(1.0, 0.625, 0.3333)
>>> largest_box(saliency).tolist(), float(box_iou(saliency, jnp.array([[0, 1, 1, 3]])))
([0, 1, 2, 3], 0.5)

A map is at least 0 and at the resolution of the mask; `jaxcam.resize` brings it there. A box is row0, column0, row1,
column1 in pixels, integers or floats, the last two excluded: PASCAL VOC's, which includes them, has 1 added there. A
box of no area is padding and does not count, so that `jax.vmap` takes images with different numbers of boxes;
`inside(boxes, shape).any(0)` is their mask. All are pure functions of one image, for jit and vmap. A map of zeros
points nowhere: it gets 0 in all of them, and they never give NaN.
"""

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32


def pointing_game(
    saliency: jax.Array, mask: jax.Array, *, ignore: jax.Array | None = None, tolerance: float = 0
) -> jax.Array:
    """The share of a map's largest pixels that lie on the mask: 1 for a hit, 0 for a miss; higher is better.

    |{p : M(p) = max M, d(p, mask) <= tolerance}| / |{p : M(p) = max M}|, with the Euclidean distance d. One largest
    pixel is a hit or a miss; several give what drawing one of them gives on average, so that no corner is preferred.
    The mean over images is the pointing game's accuracy.

    Gamed by a map that knows no more than that objects are in the middle, such as a centre Gaussian. All ones gets the
    mask's share of the image.

    Args:
      saliency: map `[h w]`, at least 0.
      mask: the object, `[h w]` bool.
      ignore: pixels that are not of the mask whatever it says, `[h w]` bool; a largest pixel there is a miss.
      tolerance: how far from the mask a hit may be, in pixels, a Python number; the paper has 15. Then a largest pixel
        near enough to the mask is a hit, also one on `ignore`.

    Raises:
      TypeError, ValueError: another shape or dtype; a negative tolerance.

    Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016.

    Example:
      >>> saliency = jnp.array([[3.0, 1.0, 3.0, 0.0]])
      >>> mask = jnp.array([[True, True, False, False]])
      >>> float(pointing_game(saliency, mask)), float(pointing_game(saliency, mask, tolerance=1))
      (0.5, 1.0)
    """
    saliency, mask, _ = _checked(saliency, mask, ignore)
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}: at least 0 is wanted, in pixels")
    top = saliency.max()
    largest = (saliency == top) & (top > 0)
    hits = largest & (mask if tolerance == 0 else _near(mask, tolerance))
    return _quotient(hits.sum(), largest.sum())


def energy(saliency: jax.Array, mask: jax.Array, *, ignore: jax.Array | None = None) -> jax.Array:
    """The share of a map's sum that lies on the mask, the energy-based pointing game; higher is better.

    sum of M over the mask / sum of M over all pixels that count.

    Gamed by sharpening: a map to a high power keeps its order and loses all but its peak. All ones gets the mask's
    share of the pixels that count.

    Args:
      saliency: map `[h w]`, at least 0.
      mask: the object, `[h w]` bool.
      ignore: pixels that do not count, on either side, `[h w]` bool.

    Raises:
      TypeError, ValueError: another shape or dtype.

    Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR workshops 2020,
    with a box for the mask. Arras et al., "CLEVR-XAI", 2022, call it relevance mass accuracy.

    Example:
      >>> float(energy(jnp.array([[3.0, 1.0]]), jnp.array([[True, False]])))
      0.75
    """
    saliency, mask, counted = _checked(saliency, mask, ignore)
    return _quotient(jnp.where(mask, saliency, 0).sum(), jnp.where(counted, saliency, 0).sum())


def mask_iou(
    saliency: jax.Array, mask: jax.Array, *, ignore: jax.Array | None = None, threshold: float | None = None
) -> jax.Array:
    """IoU of the mask and the map's brightest pixels: intersection / union; higher is better.

    By default the brightest are as many as the mask has, n, so that only the map's order counts. Those that tie for
    the last places share them, each in part: nothing depends on the order of pixels, and a constant map has the
    intersection that n pixels drawn at random have on average.

    Gamed, without a threshold, because the measure tells the map the object's size: one that spreads far too wide, in
    the right order, loses nothing. With one, by choosing the threshold for the data.

    Args:
      saliency: map `[h w]`, at least 0.
      mask: the object, `[h w]` bool.
      ignore: pixels that do not count, `[h w]` bool.
      threshold: None for the n brightest; else the pixels at or above threshold * max, in 0..1, the maximum being that
        of the pixels that count.

    Raises:
      TypeError, ValueError: another shape or dtype.

    With r the share of the n brightest that lie on the mask, Arras et al.'s relevance rank accuracy ("CLEVR-XAI",
    2022), IoU = r / (2 - r).

    Example:
      >>> saliency, mask = jnp.array([[4.0, 3.0, 2.0, 1.0]]), jnp.array([[True, False, True, False]])
      >>> round(float(mask_iou(saliency, mask)), 4), round(float(mask_iou(saliency, mask, threshold=0.4)), 4)
      (0.3333, 0.6667)
    """
    saliency, mask, counted = _checked(saliency, mask, ignore)
    shown = jnp.where(counted, saliency, 0)
    if threshold is None:
        members = jnp.where(shown.max() > 0, _brightest(jnp.where(counted, saliency, -1), mask.sum()), 0)
    else:
        members = (_bright(shown, threshold) & counted).astype(jnp.float32)
    both = jnp.where(mask, members, 0).sum()
    return _quotient(both, members.sum() + mask.sum().astype(both.dtype) - both)


def _near(mask, distance):
    """The pixels at most `distance` from the mask, Euclidean: down every column first, then along every row."""
    height, width = mask.shape
    far, reach = height + width + 1 + int(distance), min(int(distance), width)
    rows = jnp.broadcast_to(jnp.arange(height)[:, None], mask.shape)
    above = rows - jax.lax.cummax(jnp.where(mask, rows, -far))
    below = jax.lax.cummin(jnp.where(mask, rows, height + far), reverse=True) - rows
    down = jnp.pad(jnp.minimum(above, below), [(0, 0), (reach, reach)], constant_values=far)

    def nearer(i, nearest):
        along = (i - reach).astype(down.dtype)
        return jnp.minimum(nearest, jax.lax.dynamic_slice_in_dim(down, i, width, 1) ** 2 + along**2)

    nearest = jax.lax.fori_loop(0, 2 * reach + 1, nearer, jnp.full_like(rows, far**2))
    return nearest.astype(jnp.float32) <= float(distance) ** 2


def _brightest(values, count):
    """The `count` largest values: 1 for those, 0 for the rest, and an equal part for those that tie at the cut."""
    last = jnp.sort(values.ravel())[values.size - count]
    above, level = values > last, values == last
    part = _quotient(count - above.sum(), level.sum())
    return jnp.where(count > 0, jnp.where(above, 1, jnp.where(level, part, 0)), 0)


def _quotient(a, b):
    """a / b, and 0 where b is."""
    a, b = as_floats(a), as_floats(b)
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def as_floats(x):
    return at_least_float32(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _checked_map(saliency):
    saliency = jnp.asarray(saliency)
    if saliency.ndim != 2:
        raise ValueError(f"saliency has shape {saliency.shape}: [h w] is wanted; use jax.vmap for several")
    return as_floats(saliency)


def _checked(saliency, mask, ignore):
    """The map, the mask without what is ignored, and the pixels that count."""
    saliency, mask = _checked_map(saliency), jnp.asarray(mask)
    ignore = jnp.zeros(mask.shape, bool) if ignore is None else jnp.asarray(ignore)
    for name, each in (("mask", mask), ("ignore", ignore)):
        if each.dtype != bool:
            raise TypeError(f"{name} is {each.dtype}: bool is wanted, such as trimap == 1")
        if each.shape != saliency.shape:
            raise ValueError(
                f"saliency has shape {saliency.shape} and {name} {each.shape}: one shape is wanted, as of "
                f"jaxcam.resize(saliency, {name}.shape)"
            )
    return saliency, mask & ~ignore, ~ignore


def _bright(saliency, threshold):
    """The pixels at or above threshold * max; none of a map of zeros."""
    top = saliency.max()
    return (saliency >= threshold * top) & (top > 0)
