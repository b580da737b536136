"""The network of these tests."""

import jax.numpy as jnp
import pytest

import jaxcam


@pytest.fixture
def tiny():
    """Two linear layers; the second also wants images of 3 channels, of any size."""
    params = {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "dense": jnp.linspace(-1.0, 2.0, 8).reshape(4, 2)}

    def features(params, x):
        return jnp.maximum(x @ params["kernel"], 0)

    return jaxcam.Cut(params, features, lambda params, A, x: A.mean((0, 1)) @ params["dense"], layer="hidden")
