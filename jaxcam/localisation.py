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

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxcam.derivatives import at_least_float32


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


def largest_component(region: jax.Array) -> jax.Array:
    """The largest 8-connected component of a region, `[h w]` bool to `[h w]` bool; of equal ones the first to be read.

    Every pixel points to one of its component that is read before it, and pointers are followed two at a time, so the
    passes grow with the logarithm of the component's length, also for spirals.

    Zhang, Azad & Hu, "FastSV: a distributed-memory connected component algorithm with fast convergence", 2020.

    Example:
      >>> largest_component(jnp.array([[True, False, False, True], [False, False, True, False]])).astype(int).tolist()
      [[0, 0, 0, 1], [0, 0, 1, 0]]
    """
    region = jnp.asarray(region)
    if region.ndim != 2 or region.dtype != bool:
        raise TypeError(f"region is {region.dtype} {list(region.shape)}: bool [h w] is wanted")
    size = region.size
    places = jnp.arange(size)

    def lowest_near(points):
        points = jnp.where(region, points.reshape(region.shape), size)
        for axis in (0, 1):
            beyond = jnp.pad(points, [(int(axis == i),) * 2 for i in (0, 1)], constant_values=size)
            length = region.shape[axis]
            shifted = [jax.lax.slice_in_dim(beyond, i, i + length, axis=axis) for i in range(3)]
            points = jnp.minimum(jnp.minimum(shifted[0], shifted[1]), shifted[2])
        return jnp.where(region, points, places.reshape(region.shape)).ravel()

    def step(state):
        first, second, _ = state
        lowest = lowest_near(second)
        first = jnp.minimum(first.at[first].min(lowest), jnp.minimum(lowest, second))
        following = first[first]
        return first, following, (following != second).any()

    roots = jax.lax.while_loop(lambda state: state[2], step, (places, places, region.any()))[1]
    counts = jnp.zeros(size, places.dtype).at[roots].add(region.ravel().astype(places.dtype))
    return region & (roots == counts.argmax()).reshape(region.shape)


def largest_box(saliency: jax.Array, *, threshold: float = 0.15) -> jax.Array:
    """The box round the largest 8-connected component of the pixels at or above threshold * max, `[4]` int32.

    Args:
      saliency: map `[h w]`, at least 0.
      threshold: share of the maximum, in 0..1.

    Returns:
      row0, column0, row1, column1, the last two excluded; zeros for a map of zeros.

    Selvaraju et al., "Grad-CAM", ICCV 2017, section 4.1, which does not say how pixels connect.

    Example:
      >>> largest_box(jnp.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.1, 0.2, 0.9]])).tolist()
      [0, 1, 2, 4]
    """
    component = largest_component(_bright(_checked_map(saliency), threshold))
    rows, columns = component.any(1), component.any(0)
    last = [each.size - each[::-1].argmax() for each in (rows, columns)]
    return jnp.where(component.any(), jnp.stack([rows.argmax(), columns.argmax(), *last]), 0).astype(jnp.int32)


def overlap(box: jax.Array, boxes: jax.Array) -> jax.Array:
    """IoU of one box `[4]` with each of several, `[m 4]` to `[m]`, in 0..1; 0 where either has no area.

    Example:
      >>> overlap(jnp.array([0, 0, 2, 2]), jnp.array([[0, 0, 2, 2], [0, 1, 2, 3], [0, 0, 0, 0]])).round(3).tolist()
      [1.0, 0.333..., 0.0]
    """
    box, boxes = jnp.asarray(box, jnp.float32), _checked_boxes(boxes)
    if box.shape != (4,):
        raise ValueError(f"box has shape {box.shape}: (4,) is wanted, row0 column0 row1 column1")
    start, end = jnp.maximum(box[None, :2], boxes[:, :2]), jnp.minimum(box[None, 2:], boxes[:, 2:])
    both = _area(jnp.concatenate([start, end], 1))
    return _quotient(both, _area(box)[None] + _area(boxes) - both)


def box_iou(saliency: jax.Array, boxes: jax.Array, *, threshold: float = 0.15) -> jax.Array:
    """The best IoU of the map's box with any of the object's boxes; higher is better, and ILSVRC counts 0.5 as found.

    max over m of overlap(largest_box(M), boxes)_m.

    Gamed by choosing the threshold for the data; and a map of all ones, whose box is the image, finds every object
    that fills half of it.

    Args:
      saliency: map `[h w]`, at least 0.
      boxes: `[m 4]`; those of no area do not count, and without others it is 0.
      threshold: as in `largest_box`.

    Raises:
      TypeError, ValueError: another shape or dtype.

    Selvaraju et al., "Grad-CAM", ICCV 2017, section 4.1; Russakovsky et al., "ImageNet large scale visual recognition
    challenge", IJCV 2015.

    Example:
      >>> float(box_iou(jnp.array([[0.0, 1.0, 1.0, 0.0]]), jnp.array([[0, 1, 1, 4], [0, 0, 0, 0]]))) > 0.66
      True
    """
    return overlap(largest_box(saliency, threshold=threshold), boxes).max(initial=0)


def found(saliency: jax.Array, boxes: jax.Array, *, threshold: float = 0.5) -> jax.Array:
    """The share of the occurrences, one box each, in which the map reaches threshold * max somewhere; higher is better.

    |{m : max of M over box m >= threshold max M}| / m.

    Gamed by a map that is bright everywhere: all ones finds all. Read it beside `spill`, which tells.

    Args:
      saliency: map `[h w]`, at least 0.
      boxes: `[m 4]`; those of no area do not count, and without others it is 0.
      threshold: share of the maximum, in 0..1.

    Raises:
      TypeError, ValueError: another shape or dtype.

    A measure of jaxcam's own, for the claim that Grad-CAM++ finds several occurrences of a class where Grad-CAM does
    not (Chattopadhay et al., WACV 2018).

    Example:
      >>> float(found(jnp.array([[1.0, 0.0, 0.4]]), jnp.array([[0, 0, 1, 1], [0, 2, 1, 3]])))
      0.5
    """
    bright = _bright(_checked_map(saliency), threshold)
    reached = (inside(boxes, bright.shape) & bright[None]).any((1, 2))
    return _quotient(reached.sum(), (_area(_checked_boxes(boxes)) > 0).sum())


def spill(saliency: jax.Array, boxes: jax.Array, *, threshold: float = 0.5) -> jax.Array:
    """The share of the image outside all boxes on which the map is at or above threshold * max; lower is better.

    |{p outside : M(p) >= threshold max M}| / |{p outside}|, and 0 where the boxes leave nothing outside.

    Gamed by a map with one bright pixel, or none: read it beside `found`.

    Args:
      saliency: map `[h w]`, at least 0.
      boxes: `[m 4]`; those of no area do not count.
      threshold: share of the maximum, in 0..1.

    Raises:
      TypeError, ValueError: another shape or dtype.

    A measure of jaxcam's own, as `found`.

    Example:
      >>> float(spill(jnp.array([[1.0, 0.0, 0.6]]), jnp.array([[0, 0, 1, 1]])))
      0.5
    """
    bright = _bright(_checked_map(saliency), threshold)
    outside = ~inside(boxes, bright.shape).any(0)
    return _quotient((bright & outside).sum(), outside.sum())


def inside(boxes: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The pixels whose centre is in each box, `[m 4]` to `[m h w]` bool; that of pixel 0 is at 0.5.

    Example:
      >>> inside(jnp.array([[0.0, 0.6, 1.0, 3.0]]), (1, 4)).tolist()
      [[[False, True, True, False]]]
    """
    boxes = _checked_boxes(boxes)
    rows, columns = (
        (boxes[:, i, None] <= centres[None]) & (centres[None] < boxes[:, i + 2, None])
        for i, centres in enumerate(jnp.arange(n, dtype=jnp.float32) + 0.5 for n in shape)
    )
    return rows[:, :, None] & columns[:, None, :]


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


def _bright(saliency, threshold):
    """The pixels at or above threshold * max; none of a map of zeros."""
    top = saliency.max()
    return (saliency >= threshold * top) & (top > 0)


def _quotient(a, b):
    """a / b, and 0 where b is."""
    a, b = _floats(a), _floats(b)
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _floats(x):
    return at_least_float32(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _area(boxes):
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def _checked_map(saliency):
    saliency = jnp.asarray(saliency)
    if saliency.ndim != 2:
        raise ValueError(f"saliency has shape {saliency.shape}: [h w] is wanted; use jax.vmap for several")
    return _floats(saliency)


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


def _checked_boxes(boxes):
    boxes = jnp.asarray(boxes, jnp.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have shape {boxes.shape}: [m 4] is wanted, row0 column0 row1 column1")
    return boxes
