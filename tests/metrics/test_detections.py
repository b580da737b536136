"""Non-maximum suppression and average precision against loops, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.metrics import average_precision, distinct_boxes


def iou(a, b):
    rows, columns = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return rows * columns / (area(a) + area(b) - rows * columns)


def suppressed_in_loops(scores, boxes, lowest, most):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if scores[i] >= lowest and all(iou(boxes[i], boxes[j]) <= most for j in kept):
            kept.append(i)
    return sorted(kept)


def drawn_boxes(rng, shape):
    corners = rng.uniform(0, 8, (*shape, 2))
    return np.concatenate([corners, corners + rng.uniform(2, 6, (*shape, 2))], -1).astype(np.float32)


def test_distinct_boxes_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    scores, boxes = rng.normal(size=(20, 12)).astype(np.float32), drawn_boxes(rng, (20, 12))
    kept = jax.jit(jax.vmap(lambda s, b: distinct_boxes(s, b, lowest=-0.5, max_overlap=0.3)))(scores, boxes)
    for i in range(len(scores)):
        assert np.flatnonzero(kept[i]).tolist() == suppressed_in_loops(scores[i], boxes[i], -0.5, 0.3)


def test_average_precision_by_hand():
    box, other, far = [0, 0, 4, 4], [0, 10, 4, 14], [20, 20, 24, 24]
    truth = [np.array([box, other]), np.array([box])]
    everything = [([0.9, 0.8], [box, other]), ([0.7], [box])]
    assert average_precision(everything, truth) == 1
    # Right at 0.9, wrong at 0.8, a second box of a taken object at 0.7, right at 0.6: 1/3 (1 + 2/4) of three objects.
    some = [([0.9, 0.8, 0.7], [box, far, box]), ([0.6], [box])]
    assert average_precision(some, truth) == pytest.approx((1 + 2 / 4) / 3)
    # Wrong at 0.9, right at 0.8 and 0.7: precisions 1/2 and 2/3, of which the larger counts at both recalls.
    assert average_precision([([0.9, 0.8, 0.7], [far, box, other])], truth[:1]) == pytest.approx(2 / 3)
    assert average_precision([([], np.zeros([0, 4]))] * 2, truth) == 0
    assert np.isnan(average_precision([([0.5], [box])], [np.zeros([0, 4])]))


def test_average_precision_asks_for_the_overlap():
    detections, truth = [([1.0], [[0, 0, 4, 3]])], [np.array([[0, 0, 4, 4]])]
    assert average_precision(detections, truth, min_overlap=0.75) == 1
    assert average_precision(detections, truth, min_overlap=0.76) == 0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected scores \[n\] and boxes \[n 4\], got \(2,\) and \(3, 4\)"):
        distinct_boxes(jnp.ones(2), jnp.ones([3, 4]))
    with pytest.raises(ValueError, match="expected detections of each image, got 1 for 0 images"):
        average_precision([([1.0], [[0, 0, 1, 1]])], [])


@pytest.mark.parametrize(
    "scores, boxes, options, message",
    [
        ([1.0, 2.0], [[0, 0, 1, 1]], {}, "for each of the 1 boxes of image 0"),
        ([np.nan], [[0, 0, 1, 1]], {}, "a score that is not NaN"),
        ([1.0], [0, 0, 1, 1], {}, r"expected boxes \[n 4\] of row0, column0, row1, column1, got shape \(4,\)"),
        ([1.0], [[0, 0, 1, 1]], {"min_overlap": 50}, "expected min_overlap above 0 and at most 1, got 50"),
    ],
)
def test_detections_that_do_not_fit_are_one_line(scores, boxes, options, message):
    with pytest.raises(ValueError, match=message) as error:
        average_precision([(scores, boxes)], [np.array([[0, 0, 1, 1]])], **options)
    assert "\n" not in str(error.value)


def test_no_boxes_are_no_boxes():
    assert distinct_boxes(jnp.zeros(0), jnp.zeros([0, 4])).shape == (0,)
