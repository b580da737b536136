"""Curves of removed pixels against loops in NumPy and hand values; imputation against the system, solved densely."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.metrics import _removal
from jaxcam.perturbations import _impute as imputation
from jaxcam.perturbations import _mask

KEY = jax.random.key(5)
SHAPE = (6, 5, 2)


def linear():
    """A cut whose outputs are three sums over the image, each pixel with a weight of its own."""
    weights = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    return jaxcam.Cut(
        jnp.asarray(weights), lambda p, x: x, lambda p, A, x: jnp.tensordot(p, A, 3, precision="highest")
    ), weights


def case(seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=SHAPE).astype(np.float32), rng.permutation(30).reshape(SHAPE[:2]).astype(np.float32)


def probability(weights, image, target):
    z = (weights.astype(np.float64) * image).sum((1, 2, 3))
    return (np.exp(z - z.max()) / np.exp(z - z.max()).sum())[target]


def removed(image, saliency, count, empty, *, least=False):
    """The image with `count` pixels of the baseline, one after the other."""
    image = image.copy()
    places = sorted(np.ndindex(saliency.shape), key=lambda place: saliency[place], reverse=not least)
    for place in places[:count]:
        image[place] = np.broadcast_to(empty, image.shape)[place]
    return image


def test_order_by_hand():
    assert _removal.order(jnp.array([[0.1, 0.9], [-0.5, 0.3]])).tolist() == [[2, 0], [3, 1]]


def test_order_of_equal_values():
    """A random order, the same within any map, and no corner first."""
    constant = np.asarray(_removal.order(jnp.zeros([40, 30])))
    assert sorted(constant.ravel()) == list(range(1200))
    np.testing.assert_array_equal(constant, _removal.order(jnp.full([40, 30], 7.0)))
    for quarter in (constant[:20, :15], constant[:20, 15:], constant[20:, :15], constant[20:, 15:]):
        assert abs(quarter.mean() - 599.5) < 60  # three standard errors
    half = jnp.arange(1200).reshape(40, 30) < 600
    ranks = np.asarray(_removal.order(jnp.where(half, 1.0, 0.0)))
    np.testing.assert_array_equal(np.argsort(ranks[half]), np.argsort(constant[half]))


def test_order_of_nan():
    assert _removal.order(jnp.array([[jnp.nan, -jnp.inf], [0.0, 1.0]])).tolist()[1] == [1, 0]


@pytest.mark.parametrize("baseline", [0.0, (0.5, -1.0), "image"])
@pytest.mark.parametrize("steps", [1, 4])
def test_deletion_and_insertion(baseline, steps):
    (cut, weights), (image, saliency) = linear(), case()
    empty = case(9)[0] if baseline == "image" else np.float32(baseline)
    deleted, inserted = [], []
    for i in range(steps + 1):
        count = i * 30 // steps
        deleted.append(probability(weights, removed(image, saliency, count, empty), 1))
        whole = np.broadcast_to(empty, image.shape)
        inserted.append(probability(weights, removed(whole, saliency, count, image), 1))
    options = {"steps": steps, "baseline": empty}
    np.testing.assert_allclose(_removal.deletion(cut, image, saliency, 1, **options), deleted, rtol=1e-5, atol=1e-6)
    found = _removal.insertion(cut, image, saliency, 1, **options, batch_size=3)
    np.testing.assert_allclose(found, inserted, rtol=1e-5, atol=1e-6)
    ends = deleted[0], deleted[-1]
    np.testing.assert_allclose(
        _removal.deletion(cut, image, saliency, 1, **options, ends=ends), deleted, rtol=1e-5, atol=1e-6
    )


def test_the_ends_are_taken_as_they_are():
    (cut, _), (image, saliency) = linear(), case()
    found = _removal.insertion(cut, image, saliency, 1, steps=2, ends=(7, 9))
    assert (float(found[0]), float(found[-1]), found.shape) == (7, 9, (3,))


def test_area():
    assert float(_removal.area(jnp.array([1.0, 0.0, 1.0, 0.5]))) == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    np.testing.assert_allclose(_removal.area(jnp.array([[1.0, 0.0], [0.5, 0.5]])), 0.5)


def test_blurred():
    rng = np.random.default_rng(0)
    image, wanted = rng.uniform(size=(7, 9, 2)).astype(np.float32), np.zeros((7, 9, 2))
    for y, x in np.ndindex(7, 9):
        total = 0
        for v, u in np.ndindex(7, 9):
            if max(abs(v - y), abs(u - x)) <= 2:
                weight = np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * 1.5**2))
                wanted[y, x], total = wanted[y, x] + weight * image[v, u], total + weight
        wanted[y, x] /= total
    np.testing.assert_allclose(_mask.blurred(image, size=5, std=1.5), wanted, rtol=1e-5, atol=1e-6)


def test_insertion_starts_from_the_blurred_image():
    (cut, weights), (image, saliency) = linear(), case()
    wanted = probability(weights, np.asarray(_mask.blurred(image)), 1)
    assert float(_removal.insertion(cut, image, saliency, 1)[0]) == pytest.approx(wanted, abs=1e-6)


def test_confidence_curve():
    (cut, weights), (image, saliency) = linear(), case()
    quantiles = (0.0, 0.1, 0.5, 1.0)
    Y = probability(weights, image, 2)
    wanted = [probability(weights, removed(image, saliency, round(q * 30), 0.25, least=True), 2) / Y for q in quantiles]
    options = {"quantiles": quantiles, "baseline": 0.25}
    found = _removal.confidence_curve(cut, image, saliency, 2, **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert float(found[0]) == 1
    np.testing.assert_allclose(
        _removal.confidence_curve(cut, image, saliency, 2, **options, whole=Y), wanted, rtol=1e-5
    )


def test_confidence_curve_of_nothing_is_zero():
    (cut, _), (image, saliency) = linear(), case()
    nothing = lambda outputs, target: jnp.zeros(())
    assert _removal.confidence_curve(cut, image, saliency, 0, score=nothing).tolist() == [0.0] * 10


def solved(image, gone):
    """Each removed pixel the weighted mean of its neighbours, as a dense system in float64."""
    h, w, _ = image.shape
    places = [tuple(place) for place in np.argwhere(gone)]
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), image.shape[-1]))
    for row, (y, x) in enumerate(places):
        for dy, dx in np.ndindex(3, 3):
            v, u = y + dy - 1, x + dx - 1
            if (v, u) == (y, x) or not (0 <= v < h and 0 <= u < w):
                continue
            weight = 1 / 6 if v == y or u == x else 1 / 12
            matrix[row, row] += weight
            if gone[v, u]:
                matrix[row, places.index((v, u))] -= weight
            else:
                right[row] += weight * image[v, u]
    filled = image.astype(np.float64)
    filled[gone] = np.linalg.solve(matrix, right)
    return filled


def masks(h, w):
    rng, (y, x) = np.random.default_rng(3), np.mgrid[:h, :w]
    spot = (y - 0.4 * h) ** 2 + (x - 0.6 * w) ** 2
    single = np.ones((h, w), bool)
    single[2, 3] = False
    return {
        "spot": spot < np.quantile(spot, 0.4),
        "around": spot > np.quantile(spot, 0.2),
        "half": x >= w // 2,
        "random": rng.uniform(size=(h, w)) < 0.8,
        "stripes": y % 3 > 0,
        "all but one": single,
        "one": ~single,
        "none": np.zeros((h, w), bool),
    }


impute = jax.jit(imputation.impute)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(24, 31), (9, 4)])
def test_impute(shape):
    rng = np.random.default_rng(0)
    image = (200 * rng.uniform(size=(*shape, 2)) + 50).astype(np.float32)
    for name, gone in masks(*shape).items():
        found = np.asarray(impute(np.where(gone[..., None], 1e6, image).astype(np.float32), gone, KEY, noise=0.0))
        assert np.abs(found - solved(image, gone)).max() < 1e-3 * 200, name
        np.testing.assert_array_equal(found[~gone], image[~gone])


def test_impute_all_is_the_mean():
    image = case()[0]
    found = imputation.impute(image, np.ones(SHAPE[:2], bool), KEY, noise=0.0)
    np.testing.assert_allclose(found, np.broadcast_to(image.mean((0, 1)), SHAPE), rtol=1e-5)


def test_impute_one_pixel_images():
    image = jnp.full([1, 1, 3], 2.0)
    for gone in (True, False):
        assert imputation.impute(image, jnp.array([[gone]]), KEY, noise=0.0).tolist() == image.tolist()


@pytest.mark.long
def test_the_noise_is_on_removed_pixels_alone():
    image, gone = jnp.zeros([50, 60, 2]), np.random.default_rng(0).uniform(size=(50, 60)) < 0.5
    found = np.asarray(impute(image, gone, KEY, noise=0.2))
    assert (found[~gone] == 0).all()
    assert abs(found[gone].std() - 0.2) < 0.01 and abs(found[gone].mean()) < 0.01


@pytest.mark.long
def test_impute_under_vmap():
    images, gone = np.stack([case(0)[0], case(1)[0]]), np.stack([case(2)[1] > 8, case(3)[1] > 20])
    found = jax.vmap(functools.partial(impute, noise=0.0), (0, 0, None))(images, gone, KEY)
    for one, image, mask in zip(found, images, gone, strict=True):
        np.testing.assert_allclose(one, solved(image, mask), atol=1e-3)


@pytest.mark.parametrize("first", ["most", "least"])
def test_road(first):
    (cut, weights), (image, saliency) = linear(), case()
    wanted = []
    for count in (6, 21):
        threshold = np.sort(saliency.ravel())[count - 1 if first == "least" else -count]
        gone = saliency <= threshold if first == "least" else saliency >= threshold
        wanted.append(probability(weights, solved(image, gone), 0))
    found = _removal.road(cut, image, saliency, 0, KEY, shares=(0.2, 0.7), first=first, noise=0.0)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_road_combined():
    assert float(_removal.road_combined(jnp.array([0.2, 0.0]), jnp.array([0.9, 0.5]))) == pytest.approx(0.3)


def test_under_jit_and_vmap():
    (cut, _), (image, saliency) = linear(), case()
    for metric in (_removal.deletion, _removal.insertion, _removal.confidence_curve):
        wanted = [metric(cut, image, saliency, target) for target in range(3)]
        found = jax.jit(jax.vmap(functools.partial(metric, cut, image, saliency)))(jnp.arange(3))
        np.testing.assert_allclose(found, jnp.stack(wanted), rtol=1e-5, atol=1e-6)


def test_what_does_not_fit():
    (cut, _), (image, saliency) = linear(), case()
    with pytest.raises(ValueError, match=r"the map has shape \(3, 5\) and the image \(6, 5, 2\).* jaxcam.resize"):
        _removal.deletion(cut, image, saliency[:3], 0)
    with pytest.raises(TypeError, match="target is None: a class is wanted"):
        _removal.deletion(cut, image, saliency, None)
    with pytest.raises(ValueError, match=r"target 3 is out of range: the model has 3 classes"):
        _removal.deletion(cut, image, saliency, 3)
    with pytest.raises(ValueError, match=r"steps is 0: an integer of at least 1"):
        _removal.insertion(cut, image, saliency, 0, steps=0)
    with pytest.raises(ValueError, match=r"baseline is 'grey': 'blur', a number or an array is wanted"):
        _removal.insertion(cut, image, saliency, 0, baseline="grey")
    with pytest.raises(ValueError, match=r"baseline has shape \(3,\): a number, \(2,\) or \(6, 5, 2\) is wanted"):
        _removal.deletion(cut, image, saliency, 0, baseline=np.zeros(3))
    with pytest.raises(ValueError, match=r"quantiles has 10: shares of the pixels, 0 to 1"):
        _removal.confidence_curve(cut, image, saliency, 0, quantiles=(0, 10))
    with pytest.raises(ValueError, match=r"first is 'last': it must be 'most' or 'least'"):
        _removal.road(cut, image, saliency, 0, KEY, first="last")
    with pytest.raises(ValueError, match=r"removed \(5, 6\): \[h w c\] and \[h w\] are wanted"):
        imputation.impute(image, np.ones((5, 6)), KEY)
