"""Boxes that a detector predicts: the distinct ones among them, and how precise they are.

A box is row0, column0, row1, column1, the last two excluded.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcam._base.numerics import as_floats
from jaxcam.metrics._boxes import overlap
from jaxcam.metrics._inputs import checked_boxes


def distinct_boxes(
    scores: ArrayLike, boxes: ArrayLike, *, lowest: float = -jnp.inf, max_overlap: float = 0.5
) -> jax.Array:
    """Which boxes are kept by non-maximum suppression, `[n]` bool.

    The box of the largest score is kept, those whose IoU with it is above `max_overlap` are dropped, and so on with the
    rest.

    Args:
      scores: `[n]`, logits or probabilities.
      boxes: `[n 4]`.
      lowest: boxes of a lower score are dropped.
      max_overlap: the largest IoU of two boxes that are kept, in 0..1.

    Raises:
      ValueError: the shapes are others.

    Example:
      >>> boxes = jnp.array([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]])
      >>> distinct_boxes(jnp.array([1.0, 2.0, 0.5]), boxes).tolist()
      [False, True, True]
    """
    scores, boxes = as_floats(scores), checked_boxes(boxes)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(f"expected scores [n] and boxes [n 4], got {scores.shape} and {boxes.shape}")
    if not scores.size:
        return jnp.zeros(0, bool)
    order = jnp.argsort(-scores, stable=True)
    overlaps = jax.vmap(lambda box: overlap(box, boxes))(boxes)

    def visit(i, kept):
        candidate = order[i]
        is_distinct = ~(kept & (overlaps[candidate] > max_overlap)).any()
        return kept.at[candidate].set(is_distinct & (scores[candidate] >= lowest))

    return jax.lax.fori_loop(0, scores.size, visit, jnp.zeros(scores.shape, bool))


def average_precision(
    detections: Sequence[tuple[ArrayLike, ArrayLike]], truth: Sequence[ArrayLike], *, min_overlap: float = 0.5
) -> float:
    """The area under the curve of precision over recall of one class, in 0..1; higher is better.

    In the order of their scores, over all images, a detection is right if its IoU with an object that no earlier one
    has taken is at least `min_overlap`. The precision at a recall is the largest at that recall or a higher one.

    Args:
      detections: for each image scores `[n]` and boxes `[n 4]`.
      truth: for each image the objects' boxes `[m 4]`.
      min_overlap: the least IoU of a right detection.

    Returns:
      A float; NaN if there are no objects.

    Raises:
      ValueError: not as many detections as images, scores that are NaN or not one for each box, boxes of another shape,
        or `min_overlap` outside 0..1.

    Everingham et al., "The PASCAL visual object classes challenge: a retrospective", IJCV 2015, section 2.2; each
    detection takes the object of the largest IoU among those that are left, as COCO's evaluation does.

    Example:
      >>> detections = [(np.array([0.9, 0.8]), np.array([[0, 0, 4, 4], [5, 5, 9, 9]]))]
      >>> average_precision(detections, [np.array([[5, 5, 9, 9]])])
      0.5
    """
    if len(detections) != len(truth):
        raise ValueError(f"expected detections of each image, got {len(detections)} for {len(truth)} images")
    if not 0 < min_overlap <= 1:
        raise ValueError(f"expected min_overlap above 0 and at most 1, got {min_overlap}")
    objects = [_boxes_of_image(boxes) for boxes in truth]
    count = sum(map(len, objects))
    if not count:
        return float("nan")
    ranked = []
    for number, (scores, boxes) in enumerate(detections):
        scores, boxes = np.asarray(scores, np.float64), _boxes_of_image(boxes)
        if scores.shape != boxes.shape[:1] or np.isnan(scores).any():
            raise ValueError(
                f"expected a score that is not NaN for each of the {len(boxes)} boxes of image {number}, got {scores}"
            )
        ranked += [(score, number, box) for score, box in zip(scores, boxes, strict=True)]
    ranked.sort(key=lambda detection: -detection[0])
    is_free = [np.ones(len(boxes), bool) for boxes in objects]
    right = np.zeros(len(ranked))
    for place, (_, number, box) in enumerate(ranked):
        overlaps = np.where(is_free[number], _overlaps(box, objects[number]), -1)
        if overlaps.size and overlaps.max() >= min_overlap:
            is_free[number][overlaps.argmax()] = False
            right[place] = 1
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_from_here * right).sum() / count)


def _boxes_of_image(boxes: ArrayLike) -> np.ndarray:
    """Boxes as float64 `[n 4]`; an empty list is no boxes."""
    array = np.asarray(boxes, np.float64)
    if array.size and (array.ndim != 2 or array.shape[1] != 4):
        raise ValueError(f"expected boxes [n 4] of row0, column0, row1, column1, got shape {array.shape}")
    return array.reshape(-1, 4)


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of a box `[4]` with `[m 4]`, in NumPy, because the numbers of boxes differ from image to image."""
    start, end = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.maximum(end - start, 0).prod(1)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1) + np.maximum(box[2:] - box[:2], 0).prod() - common
    return np.divide(common, areas, out=np.zeros(len(boxes)), where=areas > 0)
