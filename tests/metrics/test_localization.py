"""Measures against a mask: loops over pixels in NumPy, on lines, images and volumes; hand values; singular points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam.metrics import energy, mask_iou, pointing_game

SHAPES = [(31,), (9, 12), (5, 6, 4)]
MEASURES = {
    "pointing": pointing_game,
    "pointing, tolerance": functools.partial(pointing_game, tolerance=1.5),
    "energy": energy,
    "IoU": mask_iou,
    "IoU, threshold": functools.partial(mask_iou, threshold=0.5),
}
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def example(shape, seed=0, levels=6):
    """A map with ties, also for the maximum, a mask, and ignored pixels."""
    rng = np.random.default_rng(seed)
    saliency = rng.integers(0, levels, shape).astype(np.float32)
    return saliency, rng.random(shape) < 0.4, rng.random(shape) < 0.2


def loops(saliency, mask, ignore):
    """Every measure, pixel by pixel, from the formulas in the docstrings."""
    pixels = list(np.ndindex(saliency.shape))
    top = max(saliency[p] for p in pixels)
    largest = [p for p in pixels if saliency[p] == top]
    on_object = [p for p in pixels if mask[p] and not ignore[p]]
    counted = [p for p in pixels if not ignore[p]]

    def is_near(p, tolerance):
        return any(sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) <= tolerance**2 for q in on_object)

    values = sorted((saliency[p] for p in counted), reverse=True)
    last, n = values[len(on_object) - 1], len(on_object)
    above, level = sum(v > last for v in values), sum(v == last for v in values)
    both = sum(1 if saliency[p] > last else (n - above) / level if saliency[p] == last else 0 for p in on_object)
    shown = {p for p in counted if saliency[p] >= max(values) / 2}
    return {
        "pointing": np.mean([p in on_object for p in largest]),
        "pointing, tolerance": np.mean([is_near(p, 1.5) for p in largest]),
        "energy": sum(saliency[p] for p in on_object) / sum(values),
        "IoU": both / (2 * n - both),
        "IoU, threshold": len(shown & set(on_object)) / len(shown | set(on_object)),
    }


def all_measures(saliency, mask, ignore):
    return {name: measure(saliency, mask, ignore=ignore) for name, measure in MEASURES.items()}


measured = jax.jit(all_measures)


@every_shape
@pytest.mark.parametrize("seed", range(4))
def test_all_equal_the_loops(shape, seed):
    inputs = example(shape, seed, levels=4 + 20 * seed)
    expected, values = loops(*inputs), measured(*inputs)
    for name in MEASURES:
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5, err_msg=name)


@every_shape
def test_scale_and_flips_change_nothing(shape):
    saliency, mask, ignore = example(shape)
    values = measured(saliency, mask, ignore)
    for name, value in measured(saliency * 1024, mask, ignore).items():
        assert value == values[name], name
    for name, value in measured(*map(np.flip, (saliency, mask, ignore))).items():
        np.testing.assert_allclose(value, values[name], rtol=1e-6, err_msg=name)


def test_vmap_and_no_jit_give_the_same():
    inputs = example((9, 12))
    several = [np.stack([array, array[::-1]]) for array in inputs]
    for name, values in jax.jit(jax.vmap(all_measures))(*several).items():
        for i in range(2):
            alone = measured(*(array[i] for array in several))[name]
            np.testing.assert_allclose(values[i], alone, rtol=1e-6, err_msg=name)
    for name in ("pointing", "IoU"):
        saliency, mask, ignore = inputs
        assert MEASURES[name](saliency, mask, ignore=ignore) == measured(*inputs)[name]


@every_shape
def test_the_mask_itself_and_all_ones_and_zeros(shape):
    _, mask, ignore = example(shape)
    nothing = np.zeros(shape, bool)
    assert set(map(float, measured(mask.astype(np.float32), mask, nothing).values())) == {1.0}
    ones = measured(np.ones(shape, np.float32), mask, ignore)
    n, counted = (mask & ~ignore).sum(), (~ignore).sum()
    np.testing.assert_allclose(ones["pointing"], n / mask.size, rtol=1e-6)
    np.testing.assert_allclose(ones["energy"], n / counted, rtol=1e-6)
    np.testing.assert_allclose(ones["IoU"], (n * n / counted) / (2 * n - n * n / counted), rtol=1e-6)
    assert set(map(float, measured(np.zeros(shape, np.float32), mask, ignore).values())) == {0.0}


@every_shape
def test_nothing_to_localize_is_zero_and_not_nan(shape):
    saliency, mask, _ = example(shape)
    nothing, everything = np.zeros(shape, bool), np.ones(shape, bool)
    assert set(map(float, measured(saliency, nothing, nothing).values())) == {0.0}
    assert set(map(float, measured(saliency, mask, everything).values())) == {0.0}


def test_a_largest_pixel_that_is_ignored_is_a_miss_but_near_enough_a_hit():
    saliency = jnp.array([[0.0, 1.0, 9.0, 0.0, 0.0]])
    mask = jnp.array([[True, True, True, False, False]])
    ignore = jnp.array([[False, False, True, False, False]])
    assert pointing_game(saliency, mask) == 1
    assert pointing_game(saliency, mask, ignore=ignore) == 0
    assert pointing_game(saliency, mask, ignore=ignore, tolerance=1) == 1
    assert pointing_game(saliency[:, ::-1], mask[:, ::-1], ignore=ignore[:, ::-1], tolerance=1) == 1


def test_a_trimap_by_hand():
    saliency, trimap = jnp.array([[3.0, 1.0, 2.0, 9.0]]), jnp.array([[1, 1, 2, 3]])
    inputs, ignore = (saliency, trimap == 1), trimap == 3
    assert pointing_game(*inputs, ignore=ignore) == 0
    np.testing.assert_allclose(energy(*inputs, ignore=ignore), 4 / 6, rtol=1e-6)
    np.testing.assert_allclose(mask_iou(*inputs, ignore=ignore), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(mask_iou(*inputs, ignore=ignore, threshold=0.3), 2 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("offset", "distance"), [((5,), 5), ((3, 4), 5), ((2, 3, 6), 7), ((0, 3, 4), 5), ((6, 0), 6)], ids=str
)
def test_tolerance_is_euclidean(offset, distance):
    saliency = jnp.zeros([8] * len(offset)).at[(0,) * len(offset)].set(1.0)
    mask = jnp.zeros(saliency.shape, bool).at[offset].set(True)
    for inputs in ((saliency, mask), (saliency.T, mask.T), (jnp.flip(saliency), jnp.flip(mask))):
        hits = [float(pointing_game(*inputs, tolerance=distance + step)) for step in (-0.1, 0, 0.1)]
        assert hits == [0, 1, 1]


def test_half_precision_and_bool_maps():
    mask = example((9, 12))[1]
    assert energy(mask, mask) == 1 and pointing_game(mask, mask) == 1
    large = jnp.full([300, 300], 100, jnp.float16)  # its sum is outside the range of float16
    assert energy(large, jnp.ones([300, 300], bool)) == 1


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: energy(jnp.ones([7, 7]), jnp.ones([9, 9], bool)),
            ValueError,
            r"one shape, got \(7, 7\) and \(9, 9\): jaxcam.resize\(saliency, mask.shape\)",
        ),
        (lambda: energy(jnp.ones([9, 9]), jnp.ones([9, 9])), TypeError, "expected a mask of bool.* got float32"),
        (lambda: mask_iou(jnp.ones([2, 9, 9]), jnp.ones([9, 9], bool)), ValueError, "jax.vmap takes several maps"),
        (lambda: mask_iou(jnp.ones([]), jnp.ones([], bool)), ValueError, r"expected a map \[\*spatial\], got shape"),
        (
            lambda: pointing_game(jnp.ones([2, 2]), jnp.ones([2, 2], bool), tolerance=-1),
            ValueError,
            "expected a finite tolerance of at least 0 pixels, got -1",
        ),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_map_with_nan_scores_nan():
    """An order, a comparison or a network would lose it, and a broken map would get the score of some map."""
    saliency, mask, boxes = (
        jnp.ones([64, 64]).at[3, 3].set(jnp.nan),
        jnp.zeros([64, 64], bool),
        jnp.array([[0, 0, 9, 9]]),
    )
    mask = mask.at[:30, :30].set(True)
    cut, image = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: jnp.nan_to_num(A).mean((0, 1))), jnp.ones([64, 64, 3])
    measured = {
        **{
            f.__name__: f(saliency, mask)
            for f in (metrics.pointing_game, metrics.energy, metrics.loc, metrics.mask_iou)
        },
        "inside_over_outside": metrics.inside_over_outside(saliency, mask),
        "mask_iou with a threshold": metrics.mask_iou(saliency, mask, threshold=0.3),
        "pointing_or_rejection": metrics.pointing_or_rejection(saliency, mask, reject_below=0.5),
        **{f.__name__: f(saliency, boxes) for f in (metrics.box_iou, metrics.copies_found, metrics.spill)},
        **{f.__name__: f(cut, image, saliency, 1) for f in (metrics.masked_score, metrics.confidence_curve)},
        **{f.__name__: f(cut, image, saliency, 1, steps=3) for f in (metrics.deletion, metrics.insertion)},
        "road": metrics.road(cut, image, saliency, 1, jax.random.key(0)),
        **{f.__name__: f(jnp.nan, 0.2) for f in (metrics.average_drop, metrics.increase, metrics.win)},
    }
    assert [name for name, value in measured.items() if not np.isnan(value).all()] == []
    with pytest.raises(ValueError, match="expected a finite tolerance of at least 0 pixels, got inf"):
        metrics.pointing_game(jnp.ones([64, 64]), mask, tolerance=float("inf"))
