import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import metrics as localisation
from jaxcam.metrics._boxes import box_iou, found, inside, largest_box, largest_component, overlap, spill
from jaxcam.metrics._localization import energy, mask_iou, pointing_game

SHAPE = (9, 12)
component_of = jax.jit(largest_component)


@functools.cache
def example():
    rng = np.random.default_rng(0)
    saliency = rng.integers(0, 6, SHAPE).astype(np.float32)  # many ties, also for the first place
    return saliency, rng.random(SHAPE) < 0.4, rng.random(SHAPE) < 0.2


BOXES = np.array([[1, 2, 5, 6], [0, 0, 0, 0], [4, 5, 9, 12], [3, 3, 3, 9], [0, 8, 2, 11]], np.int32)

MEASURES = {
    "pointing": lambda m, mask, ignore, boxes: pointing_game(m, mask, ignore=ignore),
    "pointing, tolerance": lambda m, mask, ignore, boxes: pointing_game(m, mask, ignore=ignore, tolerance=1.5),
    "energy": lambda m, mask, ignore, boxes: energy(m, mask, ignore=ignore),
    "IoU": lambda m, mask, ignore, boxes: mask_iou(m, mask, ignore=ignore),
    "IoU, threshold": lambda m, mask, ignore, boxes: mask_iou(m, mask, ignore=ignore, threshold=0.5),
    "box IoU": lambda m, mask, ignore, boxes: box_iou(m, boxes, threshold=0.9),
    "found": lambda m, mask, ignore, boxes: found(m, boxes, threshold=0.9),
    "spill": lambda m, mask, ignore, boxes: spill(m, boxes),
}


def loops(saliency, mask, ignore, boxes):
    """Every measure, pixel by pixel, as the docstrings have them."""
    height, width = saliency.shape
    pixels = list(itertools.product(range(height), range(width)))
    top = max(saliency[p] for p in pixels)
    largest = [p for p in pixels if saliency[p] == top]
    object_ = [p for p in pixels if mask[p] and not ignore[p]]
    counted = [p for p in pixels if not ignore[p]]

    def near(p, tolerance):
        return any((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= tolerance**2 for q in object_)

    values = sorted((saliency[p] for p in counted), reverse=True)
    last, n = values[len(object_) - 1], len(object_)
    above, level = sum(v > last for v in values), sum(v == last for v in values)
    both = sum(1 if saliency[p] > last else (n - above) / level if saliency[p] == last else 0 for p in object_)
    shown = {p for p in counted if saliency[p] >= max(values) / 2}
    real = [b for b in boxes if b[2] > b[0] and b[3] > b[1]]

    def box_of(b):
        return {p for p in pixels if b[0] <= p[0] < b[2] and b[1] <= p[1] < b[3]}

    outside = set(pixels) - set().union(*map(box_of, real))
    component = flooded(saliency >= np.float32(0.9) * top)
    rows, columns = np.nonzero(component)
    own = box_of((rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
    return {
        "pointing": np.mean([p in object_ for p in largest]),
        "pointing, tolerance": np.mean([near(p, 1.5) for p in largest]),
        "energy": sum(saliency[p] for p in object_) / sum(values),
        "IoU": both / (2 * n - both),
        "IoU, threshold": len(shown & set(object_)) / len(shown | set(object_)),
        "box IoU": max(len(own & box_of(b)) / len(own | box_of(b)) for b in real),
        "found": np.mean([any(saliency[p] >= np.float32(0.9) * top for p in box_of(b)) for b in real]),
        "spill": np.mean([saliency[p] >= top / 2 for p in outside]),
    }


def flooded(region):
    """The largest 8-connected component by flood fill, the first in reading order among equals."""
    left = {(int(r), int(c)) for r, c in zip(*np.nonzero(region), strict=True)}
    best = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        reached = [start]
        for r, c in reached:
            for near in itertools.product((r - 1, r, r + 1), (c - 1, c, c + 1)):
                if near in left:
                    left.remove(near)
                    reached.append(near)
        best = max(best, reached, key=len)
    filled = np.zeros(region.shape, bool)
    for place in best:
        filled[place] = True
    return filled


@functools.cache
def measured():
    return jax.jit(lambda *args: {name: measure(*args) for name, measure in MEASURES.items()})


@pytest.mark.parametrize("seed", range(4))
def test_all_as_loops_have_it(seed):
    rng = np.random.default_rng(seed)
    saliency = rng.integers(0, 4 + 20 * seed, SHAPE).astype(np.float32)
    mask, ignore = rng.random(SHAPE) < 0.4, rng.random(SHAPE) < 0.2
    wanted = loops(saliency, mask, ignore, BOXES)
    got = measured()(saliency, mask, ignore, BOXES)
    for name in MEASURES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, err_msg=name)


def test_scale_and_flips_change_nothing():
    saliency, mask, ignore = example()
    once = measured()(saliency, mask, ignore, BOXES)
    turned = [each[::-1, ::-1] for each in (saliency, mask, ignore)]
    boxes = np.array([SHAPE * 2], np.int32) - BOXES[:, [2, 3, 0, 1]]
    for name, again in measured()(saliency * 1024, mask, ignore, BOXES).items():
        assert again == once[name], name
    for name, again in measured()(*turned, boxes).items():
        if name != "box IoU":  # of equal components the first to be read is another one
            np.testing.assert_allclose(again, once[name], rtol=1e-6, err_msg=name)


def test_vmap_and_no_jit_give_the_same():
    saliency, mask, ignore = example()
    several = [np.stack([each, each[::-1]]) for each in (saliency, mask, ignore)]
    boxes = np.stack([BOXES, np.roll(BOXES, 1, 0)])
    stacked = jax.jit(jax.vmap(lambda *args: {name: measure(*args) for name, measure in MEASURES.items()}))
    for name, values in stacked(*several, boxes).items():
        for i in range(2):
            alone = measured()(*(each[i] for each in several), boxes[i])[name]
            np.testing.assert_allclose(values[i], alone, rtol=1e-6, err_msg=name)
    for name in ("pointing", "IoU"):
        assert MEASURES[name](saliency, mask, ignore, BOXES) == measured()(saliency, mask, ignore, BOXES)[name]


def test_the_mask_itself_and_all_ones_and_zeros():
    _, mask, ignore = example()
    boxes = BOXES[[0, 1, 1, 1]]
    own = inside(boxes, SHAPE).any(0)
    exact = measured()(own.astype(np.float32), own, np.zeros(SHAPE, bool), boxes)
    for name in MEASURES:
        assert exact[name] == (0 if name == "spill" else 1), name
    ones = measured()(np.ones(SHAPE, np.float32), mask, ignore, BOXES)
    n, counted = (mask & ~ignore).sum(), (~ignore).sum()
    np.testing.assert_allclose(ones["pointing"], n / mask.size, rtol=1e-6)
    np.testing.assert_allclose(ones["energy"], n / counted, rtol=1e-6)
    np.testing.assert_allclose(ones["IoU"], (n * n / counted) / (2 * n - n * n / counted), rtol=1e-6)
    assert ones["found"] == 1 and ones["spill"] == 1
    zeros = np.zeros(SHAPE, np.float32)
    assert set(map(float, measured()(zeros, mask, ignore, BOXES).values())) == {0.0}


def test_nothing_to_find_is_zero_and_not_nan():
    saliency, mask, _ = example()
    nothing, everything = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    none = measured()(saliency, nothing, nothing, np.zeros_like(BOXES))
    assert {name: float(value) for name, value in none.items() if name != "spill"} == dict.fromkeys(
        set(MEASURES) - {"spill"}, 0.0
    )
    none_counted = measured()(saliency, mask, everything, BOXES)
    for name in ("pointing", "pointing, tolerance", "energy", "IoU", "IoU, threshold"):
        assert none_counted[name] == 0, name
    assert measured()(saliency, mask, nothing, np.tile(np.array([0, 0, *SHAPE], np.int32), (4, 1)))["spill"] == 0
    np.testing.assert_allclose(none["spill"], (saliency >= saliency.max() / 2).mean(), rtol=1e-6)
    assert float(found(saliency, jnp.zeros([0, 4]))) == 0 and float(box_iou(saliency, jnp.zeros([0, 4]))) == 0


def test_a_largest_pixel_on_the_ignored_is_a_miss_but_near_enough_a_hit():
    saliency = jnp.array([[0.0, 1.0, 9.0, 0.0, 0.0]])
    mask = jnp.array([[True, True, True, False, False]])
    ignore = jnp.array([[False, False, True, False, False]])
    assert pointing_game(saliency, mask) == 1
    assert pointing_game(saliency, mask, ignore=ignore) == 0
    assert pointing_game(saliency, mask, ignore=ignore, tolerance=1) == 1
    assert pointing_game(saliency[:, ::-1], mask[:, ::-1], ignore=ignore[:, ::-1], tolerance=1) == 1


def test_a_trimap_by_hand():
    saliency, trimap = jnp.array([[3.0, 1.0, 2.0, 9.0]]), jnp.array([[1, 1, 2, 3]])
    example = saliency, trimap == 1
    ignore = trimap == 3
    assert pointing_game(*example, ignore=ignore) == 0
    np.testing.assert_allclose(energy(*example, ignore=ignore), 4 / 6, rtol=1e-6)
    np.testing.assert_allclose(mask_iou(*example, ignore=ignore), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(mask_iou(*example, ignore=ignore, threshold=0.3), 2 / 3, rtol=1e-6)


@pytest.mark.parametrize(("tolerance", "hit"), [(4.9, 0), (5, 1), (5.1, 1)])
def test_tolerance_is_euclidean(tolerance, hit):
    saliency = jnp.zeros([8, 8]).at[0, 0].set(1.0)
    mask = jnp.zeros([8, 8], bool).at[3, 4].set(True)
    for turned in (slice(None), slice(None, None, -1)):
        for flipped in (slice(None), slice(None, None, -1)):
            both = saliency[turned, flipped], mask[turned, flipped]
            assert pointing_game(*both, tolerance=tolerance) == hit
            assert pointing_game(*(each.T for each in both), tolerance=tolerance) == hit


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
    comb = np.zeros((29, 29), bool)
    comb[:, ::2] = comb[-1] = True
    teeth = np.zeros((29, 29), bool)
    teeth[:, ::2] = True
    named = {"spiral": spiral(29), "turned spiral": spiral(29)[::-1, ::-1], "comb": comb, "comb down": comb[::-1]}
    named |= {
        "equal stripes": teeth,
        "diagonal": np.eye(29, dtype=bool),
        "other diagonal": np.eye(29, dtype=bool)[::-1],
    }
    named |= {"none": np.zeros((29, 29), bool), "all": np.ones((29, 29), bool)}
    return named | {f"noise {share}": rng.random((29, 29)) < share for share in (0.1, 0.25, 0.3, 0.35, 0.4, 0.45, 0.6)}


@pytest.mark.parametrize("name", regions())
def test_largest_component_is_that_of_a_flood_fill(name):
    region = regions()[name]
    np.testing.assert_array_equal(component_of(region), flooded(region))


def test_largest_component_is_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(1)
    for region in (
        spiral(101),
        rng.random((101, 101)) < 0.4,
        ndimage.gaussian_filter(rng.normal(size=(101, 101)), 4) > 0,
    ):
        labels, _ = ndimage.label(region, np.ones((3, 3)))
        wanted = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        np.testing.assert_array_equal(component_of(region), wanted)


def test_the_box_is_round_the_largest_component_and_not_the_brightest():
    saliency = np.zeros((6, 8), np.float32)
    saliency[0, 0] = 1
    saliency[2:4, 3:6], saliency[4, 6] = 0.2, 0.15  # joined at a corner
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


def test_inside_is_by_the_centre():
    boxes = jnp.array([[0.5, 0.0, 1.5, 1.0], [0.51, 0.0, 1.51, 1.0], [-3.0, -3.0, 0.5, 9.0], [0.0, 0.0, 2.0, 0.5]])
    assert inside(boxes, (2, 1)).squeeze(-1).tolist() == [[True, False], [False, True], [False, False], [False, False]]


def test_half_precision_and_bool_maps():
    _, mask, _ = example()
    assert energy(mask, mask) == 1 and pointing_game(mask, mask) == 1
    large = jnp.full([300, 300], 100, jnp.float16)  # its sum is beyond float16
    assert energy(large, jnp.ones([300, 300], bool)) == 1


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: energy(jnp.ones([7, 7]), jnp.ones([9, 9], bool)),
            ValueError,
            r"jaxcam.resize\(saliency, mask.shape\)",
        ),
        (lambda: energy(jnp.ones([9, 9]), jnp.ones([9, 9])), TypeError, "mask is float32: bool is wanted"),
        (lambda: mask_iou(jnp.ones([2, 9, 9]), jnp.ones([9, 9], bool)), ValueError, "use jax.vmap for several"),
        (lambda: pointing_game(jnp.ones([2, 2]), jnp.ones([2, 2], bool), tolerance=-1), ValueError, "tolerance is -1"),
        (lambda: found(jnp.ones([2, 2]), jnp.ones(4)), ValueError, r"boxes have shape \(4,\): \[m 4\] is wanted"),
        (lambda: overlap(jnp.ones([1, 4]), jnp.ones([1, 4])), ValueError, r"box has shape \(1, 4\): \(4,\) is wanted"),
        (lambda: largest_component(jnp.ones([2, 2])), TypeError, r"region is float32 \[2, 2\]: bool \[h w\] is wanted"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_every_public_function_is_here():
    public = {
        name for name, value in vars(localisation).items() if getattr(value, "__module__", "") == localisation.__name__
    }
    assert {name for name in public if not name.startswith("_")} <= set(globals())
