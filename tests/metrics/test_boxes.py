"""Measures against boxes: loops over pixels in NumPy; connected components against a flood fill, on any rank."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import metrics
from jaxcam.metrics import box_iou, copies_found, inside, largest_box, largest_component, overlap, spill

SHAPE = (9, 12)
BOXES = np.array([[1, 2, 5, 6], [0, 0, 0, 0], [4, 5, 9, 12], [3, 3, 3, 9], [0, 8, 2, 11]], np.int32)
MEASURES = {
    "box IoU": functools.partial(box_iou, threshold=0.9),
    "found": functools.partial(copies_found, threshold=0.9),
    "spill": spill,
}
component_of = jax.jit(largest_component)


def random_map(seed=0, levels=6):
    return np.random.default_rng(seed).integers(0, levels, SHAPE).astype(np.float32)


def loops(saliency, boxes):
    """Every measure, pixel by pixel, from the formulas in the docstrings."""
    pixels = list(np.ndindex(saliency.shape))
    top = max(saliency[p] for p in pixels)
    real = [b for b in boxes if b[2] > b[0] and b[3] > b[1]]

    def pixels_of(b):
        return {p for p in pixels if b[0] <= p[0] < b[2] and b[1] <= p[1] < b[3]}

    outside = set(pixels) - set().union(*map(pixels_of, real))
    rows, columns = np.nonzero(flooded(saliency >= np.float32(0.9) * top))
    own = pixels_of((rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
    return {
        "box IoU": max(len(own & pixels_of(b)) / len(own | pixels_of(b)) for b in real),
        "found": np.mean([any(saliency[p] >= np.float32(0.9) * top for p in pixels_of(b)) for b in real]),
        "spill": np.mean([saliency[p] >= top / 2 for p in outside]),
    }


def flooded(region):
    """The largest connected component by flood fill, the first in reading order among equals."""
    left = set(map(tuple, np.argwhere(region).tolist()))
    best = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        reached = [start]
        for place in reached:
            for neighbor in itertools.product(*((x - 1, x, x + 1) for x in place)):
                if neighbor in left:
                    left.remove(neighbor)
                    reached.append(neighbor)
        best = max(best, reached, key=len)
    filled = np.zeros(region.shape, bool)
    for place in best:
        filled[place] = True
    return filled


def all_measures(saliency, boxes):
    return {name: measure(saliency, boxes) for name, measure in MEASURES.items()}


measured = jax.jit(all_measures)


@pytest.mark.parametrize("seed", range(4))
def test_all_equal_the_loops(seed):
    saliency = random_map(seed, levels=4 + 20 * seed)
    expected, values = loops(saliency, BOXES), measured(saliency, BOXES)
    for name in MEASURES:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5, err_msg=name)


def test_scale_and_flips_change_nothing():
    saliency = random_map()
    values = measured(saliency, BOXES)
    for name, value in measured(saliency * 1024, BOXES).items():
        assert value == values[name], name
    flipped_boxes = np.array([SHAPE * 2], np.int32) - BOXES[:, [2, 3, 0, 1]]
    for name, value in measured(saliency[::-1, ::-1], flipped_boxes).items():
        if name != "box IoU":  # among equal components the first in reading order is another one
            np.testing.assert_allclose(value, values[name], rtol=1e-6, err_msg=name)


def test_vmap_gives_the_same():
    saliency = random_map()
    maps, boxes = np.stack([saliency, saliency[::-1]]), np.stack([BOXES, np.roll(BOXES, 1, 0)])
    for name, values in jax.jit(jax.vmap(all_measures))(maps, boxes).items():
        for i in range(2):
            np.testing.assert_allclose(values[i], measured(maps[i], boxes[i])[name], rtol=1e-6, err_msg=name)


def test_the_boxes_themselves_and_all_ones_and_zeros():
    boxes = BOXES[[0, 1, 1, 1]]
    own = inside(boxes, SHAPE).any(0).astype(np.float32)
    exact = {name: float(value) for name, value in measured(own, boxes).items()}
    assert exact == {"box IoU": 1, "found": 1, "spill": 0}
    ones = measured(np.ones(SHAPE, np.float32), BOXES)
    assert ones["found"] == 1 and ones["spill"] == 1
    assert set(map(float, measured(np.zeros(SHAPE, np.float32), BOXES).values())) == {0.0}


def test_nothing_to_localize_is_zero_and_not_nan():
    saliency = random_map()
    none = measured(saliency, np.zeros_like(BOXES))
    assert none["box IoU"] == none["found"] == 0
    np.testing.assert_allclose(none["spill"], (saliency >= saliency.max() / 2).mean(), rtol=1e-6)
    assert measured(saliency, np.tile(np.array([0, 0, *SHAPE], np.int32), (5, 1)))["spill"] == 0
    assert float(copies_found(saliency, jnp.zeros([0, 4]))) == 0 and float(box_iou(saliency, jnp.zeros([0, 4]))) == 0


def test_the_name_of_earlier_versions():
    assert metrics.found is copies_found


def spiral(side):
    """One arm a pixel wide, from the corner to the middle."""
    region, place = np.zeros((side, side), bool), np.array([0, 0])
    region[0, 0] = True
    for i, length in enumerate([side - 1, *(k for k in range(side - 1, 0, -2) for _ in (0, 1))]):
        for _ in range(length):
            place += ((0, 1), (1, 0), (0, -1), (-1, 0))[i % 4]
            region[tuple(place)] = True
    return region


def regions():
    rng = np.random.default_rng(0)
    comb, stripes = np.zeros((29, 29), bool), np.zeros((29, 29), bool)
    comb[:, ::2] = comb[-1] = True
    stripes[:, ::2] = True
    named = {"spiral": spiral(29), "turned spiral": spiral(29)[::-1, ::-1], "comb": comb, "comb down": comb[::-1]}
    named |= {
        "equal stripes": stripes,
        "diagonal": np.eye(29, dtype=bool),
        "other diagonal": np.eye(29, dtype=bool)[::-1],
    }
    named |= {"none": np.zeros((29, 29), bool), "all": np.ones((29, 29), bool)}
    return named | {f"noise {share}": rng.random((29, 29)) < share for share in (0.1, 0.25, 0.3, 0.35, 0.4, 0.45, 0.6)}


@pytest.mark.parametrize("name", regions())
def test_largest_component_is_that_of_a_flood_fill(name):
    region = regions()[name]
    np.testing.assert_array_equal(component_of(region), flooded(region))


@pytest.mark.parametrize("share", [0.08, 0.15, 0.5])
@pytest.mark.parametrize("shape", [(61,), (8, 9, 10), (4, 5, 3, 6)], ids=str)
def test_largest_component_of_any_rank(shape, share):
    region = np.random.default_rng(len(shape)).random(shape) < share
    np.testing.assert_array_equal(component_of(region), flooded(region))


def test_largest_component_is_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(1)
    for region in (
        spiral(101),
        rng.random((101, 101)) < 0.4,
        ndimage.gaussian_filter(rng.normal(size=(101, 101)), 4) > 0,
        ndimage.gaussian_filter(rng.normal(size=(20, 24, 22)), 2) > 0.03,
    ):
        labels, _ = ndimage.label(region, np.ones((3,) * region.ndim))
        expected = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        np.testing.assert_array_equal(component_of(region), expected)


def test_the_box_is_around_the_largest_component_and_not_the_brightest():
    saliency = np.zeros((6, 8), np.float32)
    saliency[0, 0] = 1
    saliency[2:4, 3:6], saliency[4, 6] = 0.2, 0.15  # connected at a corner
    saliency[5, 0] = 0.14
    assert largest_box(saliency).tolist() == [2, 3, 5, 7]
    assert largest_box(saliency).dtype == jnp.int32
    assert largest_box(saliency, threshold=0.5).tolist() == [0, 0, 1, 1]
    assert largest_box(np.zeros((6, 8), np.float32)).tolist() == [0, 0, 0, 0]


def test_overlap_by_hand():
    boxes = jnp.array([[0, 0, 4, 4], [2, 2, 6, 6], [4, 0, 8, 4], [1, 1, 1, 3], [3, 3, 1, 1], [0, 0, 4, 2]])
    np.testing.assert_allclose(overlap(boxes[0], boxes), [1, 4 / 28, 0, 0, 0, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(overlap(boxes[3], boxes), np.zeros(6))
    np.testing.assert_allclose(overlap(jnp.array([0.0, 0.0, 0.5, 1.0]), jnp.array([[0, 0, 1, 1]])), [0.5])


def test_inside_is_by_the_center():
    boxes = jnp.array([[0.5, 0.0, 1.5, 1.0], [0.51, 0.0, 1.51, 1.0], [-3.0, -3.0, 0.5, 9.0], [0.0, 0.0, 2.0, 0.5]])
    assert inside(boxes, (2, 1)).squeeze(-1).tolist() == [[True, False], [False, True], [False, False], [False, False]]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: copies_found(jnp.ones([2, 2]), jnp.ones(4)),
            ValueError,
            r"expected boxes \[m 4\] of row0, column0, row1, column1, got shape \(4,\)",
        ),
        (lambda: overlap(jnp.ones([1, 4]), jnp.ones([1, 4])), ValueError, r"expected a box \[4\].* got shape \(1, 4\)"),
        (lambda: largest_component(jnp.ones([2, 2])), TypeError, r"expected a region .* of bool, got float32 \[2, 2\]"),
        (lambda: inside(BOXES, (4, 4, 4)), ValueError, r"expected a shape \(h, w\), .*, got \(4, 4, 4\)"),
        *(
            (
                functools.partial(measure, jnp.ones([4, 4, 4]), BOXES),
                ValueError,
                r"expected a map \[h w\], because boxes are two-dimensional, got shape \(4, 4, 4\): use jax.vmap",
            )
            for measure in MEASURES.values()
        ),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
