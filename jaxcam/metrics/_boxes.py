"""Does a map lie in the object's boxes? Measures of one map `[h w]` against boxes, and the map's own box.

>>> import jax.numpy as jnp
>>> saliency = jnp.array([[0.0, 4.0, 1.0], [0.0, 2.0, 1.0]])
>>> largest_box(saliency).tolist(), float(box_iou(saliency, jnp.array([[0, 1, 1, 3]])))
([0, 1, 2, 3], 0.5)

A box is row0, column0, row1, column1 in pixels, integers or floats; the last two are excluded. PASCAL VOC includes
them: add 1 to its last two. A box without area is padding and does not count, so `jax.vmap` takes images with different
numbers of boxes. `inside(boxes, shape).any(0)` is the mask of all boxes. Boxes are two-dimensional, and so are the maps
here; `largest_component` takes any number of axes.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base.numerics import as_floats, safe_divide
from jaxcam.metrics._inputs import bright_pixels, checked_boxes, checked_map, unless_nan


def largest_component(region: ArrayLike) -> jax.Array:
    """The largest connected component of a region, `[*spatial]` bool to `[*spatial]` bool.

    Pixels connect along edges and corners: each of `[h w]` has 8 neighbors. The first in reading order wins a tie.

    Every pixel points to a pixel of its component that comes earlier in reading order, and pointers are followed two at
    a time. So the number of passes grows with the logarithm of the component's length, for spirals too. Ours, because
    JAX has no connected components, and those of SciPy do not trace.

    Args:
      region: `[*spatial]` bool, with any number of axes.

    Raises:
      TypeError: the region is not a bool array.

    Zhang, Azad & Hu, "FastSV: a distributed-memory connected component algorithm with fast convergence", 2020.

    Example:
      >>> largest_component(jnp.array([[True, False, False, True], [False, False, True, False]])).astype(int).tolist()
      [[0, 0, 0, 1], [0, 0, 1, 0]]
    """
    region = jnp.asarray(region)
    if region.ndim == 0 or region.dtype != bool:
        raise TypeError(f"expected a region [*spatial] of bool, got {region.dtype} {list(region.shape)}")
    size = region.size
    places = jnp.arange(size)

    def lowest_of_neighbors(pointers):
        pointers = jnp.where(region, pointers.reshape(region.shape), size)
        for axis, length in enumerate(region.shape):
            padding = [(1, 1) if i == axis else (0, 0) for i in range(region.ndim)]
            padded = jnp.pad(pointers, padding, constant_values=size)
            before, middle, after = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(3))
            pointers = jnp.minimum(jnp.minimum(before, middle), after)
        return jnp.where(region, pointers, places.reshape(region.shape)).ravel()

    def step(state):
        parents, grandparents, _ = state
        lowest = lowest_of_neighbors(grandparents)
        parents = jnp.minimum(parents.at[parents].min(lowest), jnp.minimum(lowest, grandparents))
        new_grandparents = parents[parents]
        return parents, new_grandparents, (new_grandparents != grandparents).any()

    _, roots, _ = jax.lax.while_loop(lambda state: state[2], step, (places, places, region.any()))
    counts = jnp.zeros(size, places.dtype).at[roots].add(region.ravel().astype(places.dtype))
    return region & (roots == counts.argmax()).reshape(region.shape)


def largest_box(saliency: ArrayLike, *, threshold: float = 0.15) -> jax.Array:
    """The box around the largest 8-connected component of the pixels at or above threshold * max, `[4]` int32.

    Args:
      saliency: map `[h w]`, at least 0.
      threshold: share of the maximum, in 0..1.

    Returns:
      row0, column0, row1, column1, the last two excluded; zeros for a map of zeros.

    Raises:
      ValueError: the map is not `[h w]`.

    Selvaraju et al., "Grad-CAM", ICCV 2017, section 4.1, which does not say how pixels connect.

    Example:
      >>> largest_box(jnp.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.1, 0.2, 0.9]])).tolist()
      [0, 1, 2, 4]
    """
    component = largest_component(bright_pixels(checked_map(saliency, ndim=2), threshold))
    rows, columns = component.any(1), component.any(0)
    ends = [line.size - line[::-1].argmax() for line in (rows, columns)]
    return jnp.where(component.any(), jnp.stack([rows.argmax(), columns.argmax(), *ends]), 0).astype(jnp.int32)


def overlap(box: ArrayLike, boxes: ArrayLike) -> jax.Array:
    """IoU of one box `[4]` with each of several, `[m 4]` to `[m]`, in 0..1; 0 if either has no area.

    Raises:
      ValueError: another shape.

    Example:
      >>> overlap(jnp.array([0, 0, 2, 2]), jnp.array([[0, 0, 2, 2], [0, 1, 2, 3], [0, 0, 0, 0]])).round(3).tolist()
      [1.0, 0.333..., 0.0]
    """
    box, boxes = jnp.asarray(box, jnp.float32), checked_boxes(boxes)
    if box.shape != (4,):
        raise ValueError(f"expected a box [4] of row0, column0, row1, column1, got shape {box.shape}")
    start, end = jnp.maximum(box[None, :2], boxes[:, :2]), jnp.minimum(box[None, 2:], boxes[:, 2:])
    intersection = _box_area(jnp.concatenate([start, end], 1))
    return safe_divide(intersection, _box_area(box)[None] + _box_area(boxes) - intersection)


def box_iou(saliency: ArrayLike, boxes: ArrayLike, *, threshold: float = 0.15) -> jax.Array:
    """The best IoU of the map's box with any of the object's boxes; higher is better. ILSVRC requires 0.5.

    max over m of overlap(largest_box(M), boxes)_m.

    Gamed by tuning the threshold to the data; and by a map of all ones, whose box is the image, which localizes every
    object that fills half of the image.

    Args:
      saliency: map `[h w]`, at least 0.
      boxes: `[m 4]`; boxes without area do not count, and the result is 0 if there are no others.
      threshold: share of the maximum, in 0..1; see `largest_box`.

    Returns:
      A scalar in 0..1.

    Raises:
      ValueError: the map is not `[h w]`, or the boxes are not `[m 4]`.

    Selvaraju et al., "Grad-CAM", ICCV 2017, section 4.1; Russakovsky et al., "ImageNet large scale visual recognition
    challenge", IJCV 2015.

    Example:
      >>> float(box_iou(jnp.array([[0.0, 1.0, 1.0, 0.0]]), jnp.array([[0, 1, 1, 4], [0, 0, 0, 0]]))) > 0.66
      True
    """
    best = overlap(largest_box(saliency, threshold=threshold), boxes).max(initial=0)
    return unless_nan(checked_map(saliency, ndim=2), best)


def copies_found(saliency: ArrayLike, boxes: ArrayLike, *, threshold: float = 0.5) -> jax.Array:
    """The share of an object's copies, one box each, in which the map reaches threshold * max; higher is better.

    |{m : max of M over box m >= threshold max M}| / m.

    Gamed by a map that is bright everywhere: all ones finds all copies. Read it together with `spill`, which reveals
    such a map.

    Args:
      saliency: map `[h w]`, at least 0.
      boxes: `[m 4]`; boxes without area do not count, and the result is 0 if there are no others.
      threshold: share of the maximum, in 0..1.

    Returns:
      A scalar in 0..1.

    Raises:
      ValueError: the map is not `[h w]`, or the boxes are not `[m 4]`.

    jaxcam's own measure, for the claim that Grad-CAM++ finds several occurrences of a class where Grad-CAM does not
    (Chattopadhay et al., WACV 2018). `jaxcam.metrics.found` is another name for it.

    Example:
      >>> float(copies_found(jnp.array([[1.0, 0.0, 0.4]]), jnp.array([[0, 0, 1, 1], [0, 2, 1, 3]])))
      0.5
    """
    saliency = checked_map(saliency, ndim=2)
    bright = bright_pixels(saliency, threshold)
    reached = (inside(boxes, bright.shape) & bright[None]).any((1, 2))
    found = safe_divide(as_floats(reached.sum()), as_floats((_box_area(checked_boxes(boxes)) > 0).sum()))
    return unless_nan(saliency, found)


def spill(saliency: ArrayLike, boxes: ArrayLike, *, threshold: float = 0.5) -> jax.Array:
    """The share of the image outside all boxes where the map is at or above threshold * max; lower is better.

    |{p outside : M(p) >= threshold max M}| / |{p outside}|, and 0 if the boxes cover the image.

    Gamed by a map with one bright pixel, or none: read it together with `copies_found`.

    Args:
      saliency: map `[h w]`, at least 0.
      boxes: `[m 4]`; boxes without area do not count.
      threshold: share of the maximum, in 0..1.

    Returns:
      A scalar in 0..1.

    Raises:
      ValueError: the map is not `[h w]`, or the boxes are not `[m 4]`.

    jaxcam's own measure, as `copies_found`.

    Example:
      >>> float(spill(jnp.array([[1.0, 0.0, 0.6]]), jnp.array([[0, 0, 1, 1]])))
      0.5
    """
    saliency = checked_map(saliency, ndim=2)
    bright = bright_pixels(saliency, threshold)
    outside = ~inside(boxes, bright.shape).any(0)
    return unless_nan(saliency, safe_divide(as_floats((bright & outside).sum()), as_floats(outside.sum())))


def inside(boxes: ArrayLike, shape: Sequence[int]) -> jax.Array:
    """The pixels whose center is in each box, `[m 4]` to `[m h w]` bool; the center of pixel 0 is at 0.5.

    Raises:
      ValueError: the boxes are not `[m 4]`, or the shape is not `(h, w)`.

    Example:
      >>> inside(jnp.array([[0.0, 0.6, 1.0, 3.0]]), (1, 4)).tolist()
      [[[False, True, True, False]]]
    """
    boxes = checked_boxes(boxes)
    if len(shape) != 2:
        raise ValueError(f"expected a shape (h, w), because boxes are two-dimensional, got {tuple(shape)}")
    rows, columns = (
        (boxes[:, i, None] <= centers[None]) & (centers[None] < boxes[:, i + 2, None])
        for i, centers in enumerate(jnp.arange(length, dtype=jnp.float32) + 0.5 for length in shape)
    )
    return rows[:, :, None] & columns[:, None, :]


def _box_area(boxes: jax.Array) -> jax.Array:
    """The area of each box, `[* 4]` to `[*]`."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]
