import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.metrics._faithfulness import (
    adcc,
    average_drop,
    average_gain,
    coherency,
    complexity,
    increase,
    masked_score,
    win,
)
from jaxcam.perturbations._mask import as_mask, masked

probability_of = jax.jit(lambda model, image: jax.nn.softmax(model(image[None])[0]))
score_of = jax.jit(masked_score, static_argnames="score")
rng = np.random.default_rng(0)
COARSE = rng.random((4, 6)).astype(np.float32)


@pytest.mark.parametrize("value", [0.3, 1e-30, 7e5, 1.0])
@pytest.mark.parametrize("shape", [(224, 224), (5, 3), (14, 14)])
def test_a_constant_map_is_ones_also_after_resizing(value, shape):
    ones = as_mask(np.full((14, 14), value, np.float32), shape)
    np.testing.assert_array_equal(ones, np.ones(shape, np.float32))


def test_zeros_and_what_resizes_to_a_constant():
    np.testing.assert_array_equal(as_mask(np.zeros((4, 6), np.float32), (8, 9)), np.zeros((8, 9)))
    np.testing.assert_array_equal(as_mask(np.array([[0, 1], [1, 0]], np.float32), (1, 1)), [[1]])


def test_as_mask_ends_at_0_and_1_after_resizing():
    mask = np.asarray(as_mask(COARSE, (12, 18)))
    assert mask.min() == 0 and 1 - 1e-6 < mask.max() <= 1
    # Bilinear with half-pixel centres, written out: fine pixel i is at (i + 1/2) / 3 - 1/2 of the coarse ones.
    wanted = np.empty((12, 18))
    for i, j in np.ndindex(12, 18):
        r, c = np.clip((i + 0.5) / 3 - 0.5, 0, 3), np.clip((j + 0.5) / 3 - 0.5, 0, 5)
        (r0, c0), (r1, c1) = (int(r), int(c)), (min(int(r) + 1, 3), min(int(c) + 1, 5))
        upper = COARSE[r0, c0] * (1 - (c - c0)) + COARSE[r0, c1] * (c - c0)
        lower = COARSE[r1, c0] * (1 - (c - c0)) + COARSE[r1, c1] * (c - c0)
        wanted[i, j] = upper * (1 - (r - r0)) + lower * (r - r0)
    np.testing.assert_allclose(mask, (wanted - wanted.min()) / (wanted.max() - wanted.min()), atol=1e-6)


def test_scale_and_offset_and_flips_change_no_mask():
    mask = as_mask(COARSE, (12, 18))
    np.testing.assert_array_equal(as_mask(COARSE * 2**40, (12, 18)), mask)
    np.testing.assert_allclose(as_mask(COARSE * 3 + 5, (12, 18)), mask, atol=1e-5)
    np.testing.assert_allclose(as_mask(COARSE[::-1, ::-1], (12, 18)), mask[::-1, ::-1], atol=1e-6)


def test_the_gradient_of_a_mask_is_finite_where_it_is_constant():
    gradient = jax.grad(lambda saliency: as_mask(saliency, (3, 3)).sum())
    for saliency in (jnp.zeros([2, 2]), jnp.ones([2, 2])):
        np.testing.assert_array_equal(gradient(saliency), np.zeros((2, 2)))


@pytest.mark.parametrize("baseline", [0.25, np.array([0.1, 0.2, 0.3], np.float32), np.full((4, 6, 3), 0.5, np.float32)])
def test_masked_by_hand(baseline):
    image = rng.random((4, 6, 3)).astype(np.float32)
    found = masked(image, COARSE, baseline=baseline)
    for i, j, c in np.ndindex(4, 6, 3):
        nothing = baseline if np.ndim(baseline) == 0 else baseline[c] if np.ndim(baseline) == 1 else baseline[i, j, c]
        np.testing.assert_allclose(found[i, j, c], image[i, j, c] * COARSE[i, j] + nothing * (1 - COARSE[i, j]), 1e-5)
    np.testing.assert_array_equal(masked(image, np.ones((4, 6), np.float32), baseline=baseline), image)
    order = np.array([2, 0, 1])
    turned = baseline if np.ndim(baseline) == 0 else baseline[..., order]
    np.testing.assert_array_equal(masked(image[..., order], COARSE, baseline=turned), found[..., order])


def test_half_precision_images_stay_so():
    assert masked(jnp.ones([4, 6, 3], jnp.bfloat16), COARSE, baseline=0.5).dtype == jnp.bfloat16


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
    grey = score_of(cut, image, np.zeros((16, 16), np.float32), 3, baseline=0.5)
    np.testing.assert_allclose(grey, probability_of(digits, np.full_like(image, 0.5))[3], rtol=1e-5)


def test_masked_score_under_vmap(cut, image):
    maps = np.stack([rng.random((16, 16)).astype(np.float32), np.ones((16, 16), np.float32)])
    several = jax.jit(jax.vmap(masked_score, (None, None, 0, 0)))(cut, image, maps, np.array([3, 5]))
    alone = [score_of(cut, image, each, target) for each, target in zip(maps, (3, 5), strict=True)]
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
    wanted = (np.corrcoef(a.ravel(), b.ravel())[0, 1] + 1) / 2
    for found in (coherency(a, b), coherency(b, a), coherency(a[::-1], b[::-1]), coherency(2 * a, b)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(coherency(a * 1e-12, b * 1e-12), wanted, rtol=1e-5)
    np.testing.assert_allclose([coherency(a, a), coherency(a, 1 - a)], [1, 0], atol=1e-6)
    ones, zeros = np.ones_like(a), np.zeros_like(a)
    pairs = [(ones, ones), (zeros, zeros), (ones, zeros), (a, ones), (zeros, a)]
    assert [float(coherency(*pair)) for pair in pairs] == [1, 1, 0.5, 0.5, 0.5]
    stacked = jax.vmap(coherency)(np.stack([a, ones]), np.stack([b, ones]))
    np.testing.assert_allclose(stacked, [wanted, 1], rtol=1e-5)


@pytest.mark.parametrize("shape", [(224, 224), (7, 9), (1, 1), (33, 101)])
def test_complexity_is_a_mean_and_exactly_1_for_ones(shape):
    mask = rng.random(shape).astype(np.float32)
    np.testing.assert_allclose(complexity(mask), mask.astype(np.float64).mean(), rtol=1e-5)
    for f in (complexity, jax.jit(complexity)):
        assert f(np.ones(shape, np.float32)) == 1


def test_adcc_by_hand():
    c, x, d = np.array([[0.9, 0.3, 0.25], [1, 0.5, 0.5], [0, 0.5, 0.5], [1, 1, 0], [1, 0, 1]], np.float32).T
    wanted = [3 / (1 / 0.9 + 1 / 0.7 + 1 / 0.75), 0.6, 0, 0, 0]
    np.testing.assert_allclose(adcc(c, x, d), wanted, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(adcc)(c, x, d), wanted, rtol=1e-6)
    assert np.isfinite(np.array(jax.grad(adcc, (0, 1, 2))(1.0, 1.0, 0.0))).all()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda cut, image: as_mask(np.ones((2, 4, 4)), (8, 8)), ValueError, "2 axes are wanted"),
        (
            lambda cut, image: masked(image, np.ones((3, 3))),
            ValueError,
            r"mask has shape \(3, 3\): \(64, 64\) is wanted",
        ),
        (
            lambda cut, image: masked(image, np.ones((64, 64)), baseline=np.ones(2)),
            ValueError,
            r"baseline has .* \(3,\)",
        ),
        (
            lambda cut, image: masked(np.ones((2, 2, 3), np.uint8), np.ones((2, 2))),
            TypeError,
            "expected an image of floats .* got uint8",
        ),
        (lambda cut, image: masked_score(cut, image, COARSE, None), TypeError, "target is None: give the class"),
        (lambda cut, image: masked_score(cut, image, COARSE, 10), ValueError, "target 10 is out of range"),
        (lambda cut, image: masked_score("no", image, COARSE, 1), TypeError, "str is not a Cut"),
        (lambda cut, image: coherency(COARSE, COARSE[0]), ValueError, r"shapes \(4, 6\) and \(6,\)"),
    ],
)
def test_errors(cut, image, call, kind, message):
    with pytest.raises(kind, match=message):
        call(cut, image)
