"""The model's score on masked images, and the measures made of it: by hand, and at their singular points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.metrics import (
    adcc,
    as_mask,
    average_drop,
    average_gain,
    coherency,
    complexity,
    increase,
    masked_score,
    win,
)

probability_of = jax.jit(lambda model, image: jax.nn.softmax(model(image[None])[0]))
score_of = jax.jit(masked_score, static_argnames="score")
rng = np.random.default_rng(0)
COARSE = rng.random((4, 6)).astype(np.float32)


@pytest.mark.parametrize("number", range(3))
def test_all_ones_has_no_drop_and_no_adcc(digits, cut, number):
    image, _ = jaxcam.pretrained.digits_canvas(number)
    chances = probability_of(digits, image)
    target = int(chances.argmax())
    Y = chances[target]
    ones = np.ones((16, 16), np.float32)
    kept = score_of(cut, image, ones, target)
    assert average_drop(Y, kept) == 0 and average_gain(Y, kept) == 0 and increase(Y, kept) == 0
    mask = as_mask(ones, image.shape[:2])
    assert complexity(mask) == 1 and adcc(coherency(mask, mask), complexity(mask), average_drop(Y, kept)) == 0


def test_masked_score_is_the_models_on_the_masked_image(digits, cut, image):
    saliency = jaxcam.grad_cam_pp(cut, image, 3)
    by_hand = np.asarray(image) * np.asarray(as_mask(saliency, (64, 64)))[..., None]
    logits = np.asarray(jax.jit(digits)(by_hand[None])[0], np.float64)
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(score_of(cut, image, saliency, 3), chances[3], rtol=1e-4)
    np.testing.assert_allclose(score_of(cut, image, saliency, 3, score=jaxcam.scores.logit), logits[3], rtol=1e-4)
    black = probability_of(digits, np.zeros_like(image))[3]
    np.testing.assert_allclose(score_of(cut, image, np.zeros((16, 16), np.float32), 3), black, rtol=1e-5)
    gray = score_of(cut, image, np.zeros((16, 16), np.float32), 3, baseline=0.5)
    np.testing.assert_allclose(gray, probability_of(digits, np.full_like(image, 0.5))[3], rtol=1e-5)


@pytest.mark.parametrize("spatial", [(8,), (4, 6), (3, 4, 2)], ids=str)
def test_masked_score_of_any_rank(spatial):
    weights = np.random.default_rng(2).normal(size=(3, *spatial, 2)).astype(np.float32)
    linear = jaxcam.Cut(
        jnp.asarray(weights), lambda p, x: x, lambda p, A, x: jnp.tensordot(p, A, A.ndim, precision="highest")
    )
    image, saliency = rng.random((*spatial, 2)).astype(np.float32), rng.random(spatial).astype(np.float32)
    mask = (saliency - saliency.min()) / np.ptp(saliency)
    pixels = {p: image[p] * mask[p[:-1]] + 0.5 * (1 - mask[p[:-1]]) for p in np.ndindex(*image.shape)}
    logits = [sum(w[p] * pixel for p, pixel in pixels.items()) for w in weights]
    chances = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(masked_score(linear, image, saliency, 1, baseline=0.5), chances[1], rtol=1e-4)


def test_masked_score_under_vmap(cut, image):
    maps = np.stack([rng.random((16, 16)).astype(np.float32), np.ones((16, 16), np.float32)])
    several = jax.jit(jax.vmap(masked_score, (None, None, 0, 0)))(cut, image, maps, np.array([3, 5]))
    alone = [score_of(cut, image, saliency, target) for saliency, target in zip(maps, (3, 5), strict=True)]
    np.testing.assert_allclose(several, np.array(alone), rtol=1e-4)


def test_each_formula_by_hand_and_at_its_singular_point():
    Y = np.array([0.8, 0.5, 0.0, 1.0, 0.0], np.float32)
    O = np.array([0.2, 0.75, 0.0, 1.0, 0.5], np.float32)  # noqa: E741
    for jitted in (lambda f: f, jax.jit, lambda f: jax.jit(jax.vmap(f))):
        np.testing.assert_allclose(jitted(average_drop)(Y, O), [0.75, 0, 0, 0, 0], rtol=1e-6)
        np.testing.assert_allclose(jitted(average_gain)(Y, O), [0, 0.5, 0, 0, 0.5], rtol=1e-6)
        np.testing.assert_array_equal(jitted(increase)(Y, O), [0, 1, 0, 0, 1])
        np.testing.assert_array_equal(jitted(win)(Y, O), [0, 1, 0.5, 0.5, 1])
    assert average_drop(0.5, 0.25) == 0.5  # Python numbers too
    for gradient in (jax.grad(average_drop, (0, 1))(0.0, 0.0), jax.grad(average_gain, (0, 1))(1.0, 1.0)):
        assert np.isfinite(np.array(gradient)).all()


def test_win_of_both_adds_up_to_one():
    a, b = rng.integers(0, 3, (2, 50)).astype(np.float32)
    np.testing.assert_array_equal(win(a, b) + win(b, a), np.ones(50))


def test_coherency_is_pearsons_and_has_its_singular_points():
    a, b = rng.random((2, 7, 9)).astype(np.float32)
    expected = (np.corrcoef(a.ravel(), b.ravel())[0, 1] + 1) / 2
    for value in (coherency(a, b), coherency(b, a), coherency(a[::-1], b[::-1]), coherency(2 * a, b)):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    for shape in ((63,), (3, 7, 3)):
        np.testing.assert_allclose(coherency(a.reshape(shape), b.reshape(shape)), expected, rtol=1e-5)
    np.testing.assert_allclose(coherency(a * 1e-12, b * 1e-12), expected, rtol=1e-5)
    np.testing.assert_allclose([coherency(a, a), coherency(a, 1 - a)], [1, 0], atol=1e-6)
    ones, zeros = np.ones_like(a), np.zeros_like(a)
    pairs = [(ones, ones), (zeros, zeros), (ones, zeros), (a, ones), (zeros, a)]
    assert [float(coherency(*pair)) for pair in pairs] == [1, 1, 0.5, 0.5, 0.5]
    stacked = jax.vmap(coherency)(np.stack([a, ones]), np.stack([b, ones]))
    np.testing.assert_allclose(stacked, [expected, 1], rtol=1e-5)


@pytest.mark.parametrize("shape", [(224, 224), (7, 9), (1, 1), (33, 101), (50,), (6, 7, 8)])
def test_complexity_is_a_mean_and_exactly_1_for_ones(shape):
    mask = rng.random(shape).astype(np.float32)
    np.testing.assert_allclose(complexity(mask), mask.astype(np.float64).mean(), rtol=1e-5)
    for f in (complexity, jax.jit(complexity)):
        assert f(np.ones(shape, np.float32)) == 1


def test_adcc_by_hand():
    c, x, d = np.array([[0.9, 0.3, 0.25], [1, 0.5, 0.5], [0, 0.5, 0.5], [1, 1, 0], [1, 0, 1]], np.float32).T
    expected = [3 / (1 / 0.9 + 1 / 0.7 + 1 / 0.75), 0.6, 0, 0, 0]
    np.testing.assert_allclose(adcc(c, x, d), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(adcc)(c, x, d), expected, rtol=1e-6)
    assert np.isfinite(np.array(jax.grad(adcc, (0, 1, 2))(1.0, 1.0, 0.0))).all()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda cut, image: masked_score(cut, image, COARSE, None),
            TypeError,
            "expected a target, got None: give the class",
        ),
        (lambda cut, image: masked_score(cut, image, COARSE, 10), ValueError, "target 10 is out of range"),
        (lambda cut, image: masked_score("no", image, COARSE, 1), TypeError, "str is not a Cut"),
        (
            lambda cut, image: coherency(COARSE, COARSE[0]),
            ValueError,
            r"expected two masks of one shape, got \(4, 6\) and \(6,\)",
        ),
    ],
)
def test_errors(cut, image, call, kind, message):
    with pytest.raises(kind, match=message):
        call(cut, image)
