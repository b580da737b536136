"""Curves of removed pixels: loops in NumPy on lines, images and volumes, hand values, and ROAD's dense system."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam.metrics import area, confidence_curve, deletion, insertion, road, road_combined
from jaxcam.perturbations import blurred
from tests.perturbations.test_impute import solved

KEY = jax.random.key(5)
SPATIAL = [(30,), (6, 5), (5, 3, 2)]  # 30 pixels each
every_rank = pytest.mark.parametrize("spatial", SPATIAL, ids=str)


def linear_cut(spatial=(6, 5)):
    """A cut whose outputs are three sums over the image, with a weight for each pixel."""
    weights = np.random.default_rng(1).normal(size=(3, *spatial, 2)).astype(np.float32)
    cut = jaxcam.Cut(
        jnp.asarray(weights), lambda p, x: x, lambda p, A, x: jnp.tensordot(p, A, A.ndim, precision="highest")
    )
    return cut, weights


def case(spatial=(6, 5), seed=0):
    """An image, and a map without ties."""
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(*spatial, 2)).astype(np.float32), rng.permutation(30).reshape(spatial).astype(np.float32)


def probability(weights, image, target):
    z = (weights.astype(np.float64) * image).sum(tuple(range(1, weights.ndim)))
    return (np.exp(z - z.max()) / np.exp(z - z.max()).sum())[target]


def without_pixels(image, saliency, count, empty, *, least=False):
    """The image with `count` pixels of the baseline, one after the other."""
    image = image.copy()
    places = sorted(np.ndindex(saliency.shape), key=lambda place: saliency[place], reverse=not least)
    for place in places[:count]:
        image[place] = np.broadcast_to(empty, image.shape)[place]
    return image


@every_rank
@pytest.mark.parametrize("baseline", [0.0, (0.5, -1.0), "image"])
@pytest.mark.parametrize("steps", [1, 4])
def test_deletion_and_insertion(spatial, baseline, steps):
    (cut, weights), (image, saliency) = linear_cut(spatial), case(spatial)
    empty = case(spatial, 9)[0] if baseline == "image" else np.float32(baseline)
    deleted, inserted = [], []
    for i in range(steps + 1):
        count = i * 30 // steps
        deleted.append(probability(weights, without_pixels(image, saliency, count, empty), 1))
        whole = np.broadcast_to(empty, image.shape)
        inserted.append(probability(weights, without_pixels(whole, saliency, count, image), 1))
    options = {"steps": steps, "baseline": empty}
    np.testing.assert_allclose(deletion(cut, image, saliency, 1, **options), deleted, rtol=1e-5, atol=1e-6)
    curve = insertion(cut, image, saliency, 1, **options, batch_size=3)
    np.testing.assert_allclose(curve, inserted, rtol=1e-5, atol=1e-6)
    ends = deleted[0], deleted[-1]
    np.testing.assert_allclose(deletion(cut, image, saliency, 1, **options, ends=ends), deleted, rtol=1e-5, atol=1e-6)


def test_known_ends_are_taken_as_they_are():
    (cut, _), (image, saliency) = linear_cut(), case()
    curve = insertion(cut, image, saliency, 1, steps=2, ends=(7, 9))
    assert (float(curve[0]), float(curve[-1]), curve.shape) == (7, 9, (3,))


def test_a_target_may_be_any_pytree_where_the_outputs_are_one():
    (cut, weights), (image, saliency) = linear_cut(), case()
    structured = jaxcam.Cut(cut.params, cut.features, lambda p, A, x: {"logits": cut.head(p, A, x)})
    score = lambda outputs, target: outputs["logits"][target["for"]] - outputs["logits"][target["against"]]
    curve = deletion(structured, image, saliency, {"for": 2, "against": 0}, steps=3, score=score)
    counts = (0, 10, 20, 30)
    expected = [((weights[2] - weights[0]) * without_pixels(image, saliency, n, 0.0)).sum() for n in counts]
    np.testing.assert_allclose(curve, expected, rtol=1e-4, atol=1e-5)


def test_area():
    assert float(area(jnp.array([1.0, 0.0, 1.0, 0.5]))) == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    np.testing.assert_allclose(area(jnp.array([[1.0, 0.0], [0.5, 0.5]])), 0.5)
    assert area(np.ones(11, np.float32)) == 1 and area(jnp.ones(11, jnp.bfloat16)).dtype == jnp.bfloat16


@every_rank
def test_insertion_starts_from_the_blurred_image(spatial):
    (cut, weights), (image, saliency) = linear_cut(spatial), case(spatial)
    expected = probability(weights, np.asarray(blurred(image)), 1)
    assert float(insertion(cut, image, saliency, 1)[0]) == pytest.approx(expected, abs=1e-6)


@every_rank
def test_confidence_curve(spatial):
    (cut, weights), (image, saliency) = linear_cut(spatial), case(spatial)
    quantiles = (0.0, 0.1, 0.5, 1.0)
    Y = probability(weights, image, 2)
    kept = [without_pixels(image, saliency, round(q * 30), 0.25, least=True) for q in quantiles]
    expected = [probability(weights, pixels, 2) / Y for pixels in kept]
    options = {"quantiles": quantiles, "baseline": 0.25}
    curve = confidence_curve(cut, image, saliency, 2, **options)
    np.testing.assert_allclose(curve, expected, rtol=1e-5)
    assert float(curve[0]) == 1
    np.testing.assert_allclose(confidence_curve(cut, image, saliency, 2, **options, whole=Y), expected, rtol=1e-5)


def test_confidence_curve_of_a_score_of_zero_is_zero():
    (cut, _), (image, saliency) = linear_cut(), case()
    zero = lambda outputs, target: jnp.zeros(())
    assert confidence_curve(cut, image, saliency, 0, score=zero).tolist() == [0.0] * 10


@every_rank
@pytest.mark.parametrize("first", ["most", "least"])
def test_road(spatial, first):
    (cut, weights), (image, saliency) = linear_cut(spatial), case(spatial)
    expected = []
    for count in (6, 21):
        threshold = np.sort(saliency.ravel())[count - 1 if first == "least" else -count]
        removed = saliency <= threshold if first == "least" else saliency >= threshold
        expected.append(probability(weights, solved(image, removed), 0))
    curve = road(cut, image, saliency, 0, KEY, shares=(0.2, 0.7), first=first, noise=0.0)
    np.testing.assert_allclose(curve, expected, atol=2e-3)


def test_road_combined():
    assert float(road_combined(jnp.array([0.2, 0.0]), jnp.array([0.9, 0.5]))) == pytest.approx(0.3)


def test_under_jit_and_vmap():
    (cut, _), (image, saliency) = linear_cut(), case()
    for metric in (deletion, insertion, confidence_curve):
        expected = [metric(cut, image, saliency, target) for target in range(3)]
        curves = jax.jit(jax.vmap(functools.partial(metric, cut, image, saliency)))(jnp.arange(3))
        np.testing.assert_allclose(curves, jnp.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "change", "kind", "message"),
    [
        (
            deletion,
            {"saliency": np.ones((3, 5))},
            ValueError,
            r"\[\*spatial\], got shapes \(6, 5, 2\) and \(3, 5\): jaxcam.resize",
        ),
        (deletion, {"target": None}, TypeError, "expected a target, got None: give the class"),
        (deletion, {"target": 3}, ValueError, r"target 3 is out of range: the model has 3 classes"),
        (insertion, {"steps": 0}, ValueError, "expected an integer of at least 1 for steps, got 0"),
        (insertion, {"baseline": "gray"}, ValueError, "expected a baseline that is 'blur', .*, got 'gray'"),
        (
            deletion,
            {"baseline": np.zeros(3)},
            ValueError,
            r"expected a baseline that is one number, \(2,\) or \(6, 5, 2\), got shape \(3,\)",
        ),
        (confidence_curve, {"quantiles": (0, 10)}, ValueError, "expected quantiles in 0..1, .*, got 10"),
        (road, {"key": KEY, "first": "last"}, ValueError, "expected first to be 'most' or 'least', got 'last'"),
        (deletion, {"score": "logit"}, TypeError, "expected a function for score"),
        (deletion, {"batch_size": 0}, ValueError, "expected an integer of at least 1 for batch_size, got 0"),
    ],
)
def test_errors(metric, change, kind, message):
    (cut, _), (image, saliency) = linear_cut(), case()
    with pytest.raises(kind, match=message):
        metric(**{"cut": cut, "image": image, "saliency": saliency, "target": 0, **change})


def test_every_metric_is_on_the_contents_page():
    assert {"deletion", "insertion", "area", "confidence_curve", "road", "road_combined"} <= set(vars(metrics))
