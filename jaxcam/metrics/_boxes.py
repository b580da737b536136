"""TODO."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxcam.metrics._localization import _bright, _checked_map, _quotient


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


def _area(boxes):
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def _checked_boxes(boxes):
    boxes = jnp.asarray(boxes, jnp.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have shape {boxes.shape}: [m 4] is wanted, row0 column0 row1 column1")
    return boxes
