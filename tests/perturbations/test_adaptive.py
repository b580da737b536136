"""The standard error of maps of any size."""

import jax
import numpy as np
import pytest

import jaxcam

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 1, (4, 3, 2)).astype(np.float32)
PARAMS = {"conv": RNG.normal(0, 1, (2, 3)).astype(np.float32), "dense": RNG.normal(0, 1, (3, 4)).astype(np.float32)}


def features(params, x):
    return jax.nn.relu(x @ params["conv"])


def curved(params, A, x):
    return params["scale"] * (A**2).mean((0, 1)) @ params["dense"]


@pytest.mark.parametrize("scale", [1e-28, 1e28])
def test_the_standard_error_scales_with_the_map(scale):
    """Its square would be 0 or infinite in float32: growth stopped at the first samples, or the error was infinite."""

    def explain(scale):
        cut = jaxcam.Cut(PARAMS | {"scale": np.float32(scale)}, features, curved, "relu")
        key = jax.random.key(0)
        return jaxcam.grad_cam(cut, IMAGE, 1, key, n_samples=256, std=0.3, standard_error=0.02)

    (saliency, error, count), (expected, expected_error, expected_count) = explain(scale), explain(1.0)
    assert count == expected_count > 16 and expected_error.max() > 0
    np.testing.assert_allclose(saliency / np.float32(scale), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(error / np.float32(scale), expected_error, rtol=1e-3, atol=1e-6)
