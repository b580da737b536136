"""Imputation against its linear system, solved densely in float64, on lines, images and volumes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.perturbations import impute

KEY = jax.random.key(5)
SHAPE = (6, 5, 2)
imputed = jax.jit(impute)


def case(seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=SHAPE).astype(np.float32), rng.permutation(30).reshape(SHAPE[:2]).astype(np.float32)


def solved(image, removed):
    """Each removed pixel the weighted mean of its neighbors: 1/6 and 1/12 in two dimensions."""
    ndim = removed.ndim
    places = [tuple(place) for place in np.argwhere(removed).tolist()]
    row_of = {place: row for row, place in enumerate(places)}
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), image.shape[-1]))
    for row, place in enumerate(places):
        for offsets in np.ndindex(*[3] * ndim):
            neighbor = tuple(x + offset - 1 for x, offset in zip(place, offsets, strict=True))
            if neighbor == place or not all(0 <= x < n for x, n in zip(neighbor, removed.shape, strict=True)):
                continue
            weight = 2 ** offsets.count(1) / (4**ndim - 2**ndim)
            matrix[row, row] += weight
            if removed[neighbor]:
                matrix[row, row_of[neighbor]] -= weight
            else:
                right[row] += weight * image[neighbor]
    filled = image.astype(np.float64)
    filled[removed] = np.linalg.solve(matrix, right)
    return filled


def masks(shape):
    rng, grid = np.random.default_rng(3), np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    centers = np.linspace(0.4, 0.6, len(shape)) if len(shape) > 1 else [0.4]
    spot = sum((x - share * n) ** 2 for x, share, n in zip(grid, centers, shape, strict=True))
    single = np.ones(shape, bool)
    single[tuple(2 + (i > 0) for i in range(len(shape)))] = False
    return {
        "spot": spot < np.quantile(spot, 0.4),
        "around": spot > np.quantile(spot, 0.2),
        "half": grid[-1] >= shape[-1] // 2,
        "random": rng.uniform(size=shape) < 0.8,
        "stripes": grid[0] % 3 > 0,
        "all but one": single,
        "one": ~single,
        "none": np.zeros(shape, bool),
    }


def largest_error(shape):
    """Of all masks, as a share of the image's range; the values at removed pixels are nonsense."""
    image, errors = (200 * np.random.default_rng(0).uniform(size=(*shape, 2)) + 50).astype(np.float32), {}
    for name, removed in masks(shape).items():
        given = np.where(removed[..., None], 1e6, image).astype(np.float32)
        filled = np.asarray(imputed(given, removed, KEY, noise=0.0))
        errors[name] = np.abs(filled - solved(image, removed)).max() / 200
        np.testing.assert_array_equal(filled[~removed], image[~removed])
    return max(errors.values()), errors


@pytest.mark.long
@pytest.mark.parametrize("shape", [(24, 31), (9, 4)], ids=str)
def test_images(shape):
    worst, errors = largest_error(shape)
    assert worst < 1e-3, errors


@pytest.mark.long
@pytest.mark.parametrize("shape", [(150,), (7,), (7, 8, 6), (12, 4, 5)], ids=str)
def test_lines_and_volumes(shape):
    worst, errors = largest_error(shape)
    assert worst < 1e-3, errors


def test_the_weights_in_two_dimensions_are_the_papers():
    image = np.arange(9, dtype=np.float32).reshape(3, 3, 1) ** 2
    removed = np.zeros([3, 3], bool)
    removed[1, 1] = True
    direct, diagonal = image[[0, 1, 1, 2], [1, 0, 2, 1]], image[[0, 0, 2, 2], [0, 2, 0, 2]]
    filled = impute(image, removed, KEY, noise=0.0)
    np.testing.assert_allclose(filled[1, 1], direct.sum() / 6 + diagonal.sum() / 12, rtol=1e-6)


def test_a_line_is_interpolated_linearly():
    line = np.array([3.0, 0, 0, 9.0, 0, 1.0, 0], np.float32)[:, None]
    filled = impute(line, np.array([False, True, True, False, True, False, True]), KEY, noise=0.0)
    np.testing.assert_allclose(filled[:, 0], [3, 5, 7, 9, 5, 1, 1], atol=1e-3 * 8)


@pytest.mark.parametrize("shape", [(9, 2), SHAPE, (3, 4, 2, 2)], ids=str)
def test_all_removed_is_the_mean(shape):
    image = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    filled = impute(image, np.ones(shape[:-1], bool), KEY, noise=0.0)
    mean = image.mean(tuple(range(len(shape) - 1)))
    np.testing.assert_allclose(filled, np.broadcast_to(mean, shape), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 3), (1, 1, 1, 3)], ids=str)
def test_images_of_one_pixel(shape):
    image = jnp.full(shape, 2.0)
    for removed in (True, False):
        assert impute(image, jnp.full(shape[:-1], removed), KEY, noise=0.0).tolist() == image.tolist()


@pytest.mark.long
def test_the_noise_is_on_removed_pixels_only():
    image, removed = jnp.zeros([50, 60, 2]), np.random.default_rng(0).uniform(size=(50, 60)) < 0.5
    filled = np.asarray(imputed(image, removed, KEY, noise=0.2))
    assert (filled[~removed] == 0).all()
    assert abs(filled[removed].std() - 0.2) < 0.01 and abs(filled[removed].mean()) < 0.01


@pytest.mark.long
def test_under_vmap():
    images, removed = np.stack([case(0)[0], case(1)[0]]), np.stack([case(2)[1] > 8, case(3)[1] > 20])
    filled = jax.vmap(functools.partial(imputed, noise=0.0), (0, 0, None))(images, removed, KEY)
    for result, image, mask in zip(filled, images, removed, strict=True):
        np.testing.assert_allclose(result, solved(image, mask), atol=1e-3)


def test_errors():
    with pytest.raises(ValueError, match=r"expected an image \[\*spatial c\] .* got shapes \(6, 5, 2\) and \(5, 6\)"):
        impute(case()[0], np.ones((5, 6)), KEY)
    with pytest.raises(ValueError, match=r"got shapes \(3,\) and \(\)"):
        impute(np.ones(3, np.float32), np.ones((), bool), KEY)
