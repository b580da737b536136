"""Masks, masked and blurred images, and the ranks of pixels: loops in NumPy on lines, images and volumes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.perturbations import as_mask, blurred, masked, pixel_ranks

rng = np.random.default_rng(0)
COARSE = rng.random((4, 6)).astype(np.float32)


@pytest.mark.parametrize("value", [0.3, 1e-30, 7e5, 1.0])
@pytest.mark.parametrize("shape", [(224, 224), (5, 3), (14, 14)])
def test_a_constant_map_is_ones_also_after_resizing(value, shape):
    ones = as_mask(np.full((14, 14), value, np.float32), shape)
    np.testing.assert_array_equal(ones, np.ones(shape, np.float32))


def test_a_map_of_zeros_and_a_map_that_is_resized_to_a_constant():
    np.testing.assert_array_equal(as_mask(np.zeros((4, 6), np.float32), (8, 9)), np.zeros((8, 9)))
    np.testing.assert_array_equal(as_mask(np.array([[0, 1], [1, 0]], np.float32), (1, 1)), [[1]])


def interpolated(coarse, shape):
    """Multilinear with half-pixel centers: fine pixel i is at (i + 1/2) n / N - 1/2 of the coarse pixels."""
    fine = np.empty(shape)
    for place in np.ndindex(*shape):
        ends = []
        for i, n, total in zip(place, coarse.shape, shape, strict=True):
            x = np.clip((i + 0.5) * n / total - 0.5, 0, n - 1)
            low = min(int(x), n - 1)
            ends.append([(low, 1 - (x - low)), (min(low + 1, n - 1), x - low)])
        corners = itertools.product(*ends)
        fine[place] = sum(coarse[tuple(i for i, _ in c)] * np.prod([share for _, share in c]) for c in corners)
    return fine


@pytest.mark.parametrize(("coarse", "fine"), [((5,), (20,)), ((4, 6), (12, 18)), ((2, 3, 4), (6, 6, 8))], ids=str)
def test_as_mask_ends_at_0_and_1_after_resizing(coarse, fine):
    saliency = np.random.default_rng(1).random(coarse).astype(np.float32)
    mask = np.asarray(as_mask(saliency, fine))
    assert mask.min() == 0 and 1 - 1e-6 < mask.max() <= 1
    expected = interpolated(saliency, fine)
    np.testing.assert_allclose(mask, (expected - expected.min()) / np.ptp(expected), atol=1e-6)


def test_scale_and_offset_and_flips_change_no_mask():
    mask = as_mask(COARSE, (12, 18))
    np.testing.assert_array_equal(as_mask(COARSE * 2**40, (12, 18)), mask)
    np.testing.assert_allclose(as_mask(COARSE * 3 + 5, (12, 18)), mask, atol=1e-5)
    np.testing.assert_allclose(as_mask(COARSE[::-1, ::-1], (12, 18)), mask[::-1, ::-1], atol=1e-6)


def test_the_gradient_of_a_mask_is_finite_where_the_map_is_constant():
    gradient = jax.grad(lambda saliency: as_mask(saliency, (3, 3)).sum())
    for saliency in (jnp.zeros([2, 2]), jnp.ones([2, 2])):
        np.testing.assert_array_equal(gradient(saliency), np.zeros((2, 2)))


@pytest.mark.parametrize("shape", [(5, 3), (4, 6, 3), (2, 4, 3, 3)], ids=str)
@pytest.mark.parametrize("kind", ["number", "channels", "image"])
def test_masked_by_hand(shape, kind):
    image, mask = rng.random(shape).astype(np.float32), rng.random(shape[:-1]).astype(np.float32)
    baseline = {"number": 0.25, "channels": np.array([0.1, 0.2, 0.3], np.float32), "image": image[::-1] + 1}[kind]
    result, whole = masked(image, mask, baseline=baseline), np.broadcast_to(baseline, shape)
    for place in np.ndindex(*shape):
        pixel = place[:-1]
        expected = image[place] * mask[pixel] + whole[place] * (1 - mask[pixel])
        np.testing.assert_allclose(result[place], expected, 1e-5)
    np.testing.assert_array_equal(masked(image, np.ones(shape[:-1], np.float32), baseline=baseline), image)
    order = np.array([2, 0, 1])
    permuted = baseline if kind == "number" else baseline[..., order]
    np.testing.assert_array_equal(masked(image[..., order], mask, baseline=permuted), result[..., order])


def test_half_precision_images_stay_in_half_precision():
    assert masked(jnp.ones([4, 6, 3], jnp.bfloat16), COARSE, baseline=0.5).dtype == jnp.bfloat16
    assert blurred(jnp.ones([4, 6, 3], jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("spatial", [(11,), (7, 9), (4, 5, 3)], ids=str)
def test_blurred(spatial):
    image = rng.uniform(size=(*spatial, 2)).astype(np.float32)
    expected = np.zeros(image.shape)
    for p in np.ndindex(*spatial):
        total = 0
        for q in np.ndindex(*spatial):
            offsets = np.subtract(p, q)
            if np.abs(offsets).max() <= 2:
                weight = np.exp(-(offsets**2).sum() / (2 * 1.5**2))
                expected[p], total = expected[p] + weight * image[q], total + weight
        expected[p] /= total
    np.testing.assert_allclose(blurred(image, size=5, std=1.5), expected, rtol=1e-5, atol=1e-6)


def test_pixel_ranks_by_hand():
    assert pixel_ranks(jnp.array([[0.1, 0.9], [-0.5, 0.3]])).tolist() == [[2, 0], [3, 1]]


@pytest.mark.parametrize("shape", [(30,), (5, 6), (3, 5, 2)], ids=str)
def test_pixel_ranks_of_any_rank(shape):
    saliency = rng.permutation(30).reshape(shape).astype(np.float32)
    np.testing.assert_array_equal(pixel_ranks(saliency), 29 - saliency)


def test_pixel_ranks_of_equal_values():
    """A random order, the same within any map, and no corner first."""
    constant = np.asarray(pixel_ranks(jnp.zeros([40, 30])))
    assert sorted(constant.ravel()) == list(range(1200))
    np.testing.assert_array_equal(constant, pixel_ranks(jnp.full([40, 30], 7.0)))
    for quarter in (constant[:20, :15], constant[:20, 15:], constant[20:, :15], constant[20:, 15:]):
        assert abs(quarter.mean() - 599.5) < 60  # three standard errors
    half = jnp.arange(1200).reshape(40, 30) < 600
    ranks = np.asarray(pixel_ranks(jnp.where(half, 1.0, 0.0)))
    np.testing.assert_array_equal(np.argsort(ranks[half]), np.argsort(constant[half]))


def test_pixel_ranks_of_nan():
    assert pixel_ranks(jnp.array([[jnp.nan, -jnp.inf], [0.0, 1.0]])).tolist()[1] == [1, 0]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: as_mask(np.ones((2, 4, 4)), (8, 8)),
            ValueError,
            r"expected a map with the 2 axes of \(8, 8\), got shape \(2, 4, 4\)",
        ),
        (
            lambda: masked(np.ones((6, 5, 3), np.float32), np.ones((3, 3))),
            ValueError,
            r"expected a mask of the image's shape \(6, 5\), got \(3, 3\)",
        ),
        (
            lambda: masked(np.ones((6, 5, 3), np.float32), np.ones((6, 5)), baseline=np.ones(2)),
            ValueError,
            r"expected a baseline that is one number, \(3,\) or \(6, 5, 3\), got shape \(2,\)",
        ),
        (
            lambda: masked(np.ones((2, 2, 3), np.uint8), np.ones((2, 2))),
            TypeError,
            "expected an image of floats .* got uint8",
        ),
        (lambda: blurred(np.ones((2, 2, 3), np.uint8)), TypeError, "expected an image of floats .* got uint8"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
