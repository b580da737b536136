"""Every method equals its paper's formula, written in NumPy loops."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.oracles import cams as oracle

KEY = 7


def toy(params, dtype):
    """The oracle's toy network as a cut."""
    return jaxcam.Cut(
        {name: jnp.asarray(value, dtype) for name, value in params.items()},
        lambda p, x: jax.nn.relu(jnp.tensordot(x, p["W"], 1)),
        lambda p, A, x: jax.nn.relu(A.ravel() @ p["V"] + p["b"]) @ p["Z"],
    )


PRECISIONS = [
    pytest.param("float32", 1e-5, id="float32"),
    pytest.param("float64", 1e-12, id="float64"),
]
SPATIAL = [pytest.param(s, id=f"{len(s)}d") for s in ((6,), (4, 3), (2, 3, 2))]
SCORES = {"exp": jaxcam.scores.logit, "softmax": jaxcam.scores.log_softmax}


def case(spatial, dtype, seed):
    params, x = oracle.network(np.random.default_rng(seed), spatial)
    # Both sides start from the same numbers: those that the dtype can hold.
    params = {name: value.astype(dtype).astype(np.float64) for name, value in params.items()}
    x = x.astype(dtype).astype(np.float64)
    target = int(oracle.logits_and_jacobian(params, oracle.activation(params, x))[0].argmax())
    return params, x, target


def first_case(spatial, dtype, wanted_map, seed=0):
    """The first random head from `seed` on whose map is not zero, and whose alpha float32 can hold."""
    for number in range(seed, seed + 100):
        params, x, target = case(spatial, dtype, number)
        wanted, conditioning = wanted_map(params, x, target)
        if wanted.max() > 0 and conditioning > 0.2:
            return params, x, target, wanted
    raise AssertionError("no head fits")


def precision(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def assert_equal_maps(found, wanted, tolerance):
    assert wanted.max() > 0, "an all-zero map shows nothing"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * wanted.max())


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("spatial", SPATIAL)
def test_grad_cam(spatial, dtype, tolerance):
    def by_hand(params, x, target):
        A = oracle.activation(params, x)
        return oracle.saliency(A, oracle.grad_cam_weights(params, A, target)), 1.0

    params, x, target, wanted = first_case(spatial, dtype, by_hand)
    with precision(dtype):
        found = jaxcam.grad_cam(toy(params, dtype), jnp.asarray(x, dtype), target)
    assert found.shape == spatial and found.dtype == dtype
    assert_equal_maps(found, wanted, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("seed", [0, 100])
def test_grad_cam_pp(spatial, dtype, tolerance, score, seed):
    def by_hand(params, x, target):
        return oracle.grad_cam_pp(params, x, target, score)

    params, x, target, wanted = first_case(spatial, dtype, by_hand, seed)
    with precision(dtype):
        found = jaxcam.grad_cam_pp(toy(params, dtype), jnp.asarray(x, dtype), target, score=SCORES[score])
    assert found.dtype == dtype
    assert_equal_maps(found, wanted, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("numerator", ["second", "first"])
def test_smooth_grad_cam_pp(spatial, dtype, tolerance, score, numerator):
    def by_hand(params, x, target):
        image = jnp.asarray(x, dtype)
        noisy = [np.asarray(jaxcam.noise.noisy(image, key, m, std=0.1), np.float64) for m in range(4)]
        return oracle.smooth_grad_cam_pp(params, x, noisy, target, score, numerator)

    with precision(dtype):
        key = jax.random.key(KEY)
        params, x, target, wanted = first_case(spatial, dtype, by_hand)
        found = jaxcam.smooth_grad_cam_pp(
            toy(params, dtype), jnp.asarray(x, dtype), target, key, n_samples=4, std=0.1,
            score=SCORES[score], numerator=numerator,
        )  # fmt: skip
    assert_equal_maps(found, wanted, tolerance)


def test_the_numerators_give_different_maps(cut, image):
    second, first = (
        jaxcam.normalize(jaxcam.smooth_grad_cam_pp(cut, image, 3, jax.random.key(0), numerator=numerator))
        for numerator in ("second", "first")
    )
    assert jnp.abs(second - first).max() > 0.05


@pytest.mark.parametrize("score", SCORES.values())
def test_no_samples_is_grad_cam_pp(cut, image, score):
    smooth = jaxcam.smooth_grad_cam_pp(cut, image, 3, n_samples=0, score=score)
    np.testing.assert_array_equal(smooth, jaxcam.grad_cam_pp(cut, image, 3, score=score))


def test_no_noise_is_grad_cam_pp(cut, image):
    smooth = jaxcam.smooth_grad_cam_pp(cut, image, 3, jax.random.key(0), n_samples=11, std=0.0)
    plain = jaxcam.grad_cam_pp(cut, image, 3)
    np.testing.assert_allclose(smooth, plain, rtol=0, atol=1e-5 * plain.max())


def pooled_head(dtype):
    rng = np.random.default_rng(3)
    params = {"W": rng.normal(size=(3, 4)), "Z": rng.normal(size=(4, 5))}
    features = lambda p, x: jax.nn.relu(jnp.tensordot(x, p["W"], 1))
    head = lambda p, A, x: A.mean(tuple(range(A.ndim - 1))) @ p["Z"]
    return jaxcam.Cut({k: jnp.asarray(v, dtype) for k, v in params.items()}, features, head), params


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("spatial", SPATIAL)
def test_cam(spatial, dtype, tolerance):
    with precision(dtype):
        cut, params = pooled_head(dtype)
        x = np.random.default_rng(5).normal(size=(*spatial, 3))
        found = jaxcam.cam(cut, jnp.asarray(x, dtype), 2)
        same = jaxcam.grad_cam(cut, jnp.asarray(x, dtype), 2)
    A = np.maximum(x @ params["W"], 0)
    assert_equal_maps(found, oracle.saliency(A, params["Z"][:, 2]), tolerance)
    assert_equal_maps(np.prod(spatial) * np.asarray(same), np.asarray(found, np.float64), tolerance)


def test_half_precision_features_keep_their_powers():
    """Cubes of small bfloat16 gradients are taken in float32."""
    params, x, target = case((4, 3), "float32", 0)
    cut = toy({**params, "Z": 1e-13 * params["Z"]}, "bfloat16")
    found = jaxcam.grad_cam_pp(cut, jnp.asarray(x, "bfloat16"), target)
    assert found.dtype == jnp.float32 and found.max() > 0
