"""Exact derivatives in float32 and half precision, beside NaN and near overflow."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import brute_force, exact
from tests.derivatives.heads import HEADS, IMAGE, TOKENS, assert_close, normal


@pytest.mark.parametrize("name", ["dense, gelu", "squeeze and excite", "layer norm, pool", "relu, softmax"])
def test_in_float32(name):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    result = jax.jit(lambda A: exact(f, A))(A)
    chex.assert_type(result, jnp.float32)
    with jax.enable_x64(True):
        expected = jax.jit(lambda A: brute_force(f, A))(jnp.asarray(np.asarray(A), jnp.float64))
    assert_close(result, expected, 2e-5)


def test_a_half_precision_head_is_of_its_own_type():
    f = lambda A: jax.nn.gelu(A.mean((0, 1)) @ normal(1, 4, 5).astype(A.dtype)).sum()
    A = normal(0, *IMAGE).astype(jnp.bfloat16)
    result, expected = exact(f, A), exact(f, A.astype(jnp.float32))
    chex.assert_type(result, jnp.bfloat16)
    for value, truth in zip(result[1:], expected[1:], strict=True):
        np.testing.assert_allclose(value.astype(jnp.float32), truth, rtol=0, atol=0.1 * float(jnp.abs(truth).max()))


def test_mixed_precision():
    def f(A):
        low = jnp.bfloat16
        h = A.astype(low) @ normal(1, 4, 3).astype(low)
        return (h * jax.nn.sigmoid(h)).sum().astype(jnp.float32) + A.mean()

    A = normal(0, *TOKENS)
    result, expected = exact(f, A), brute_force(f, A)
    np.testing.assert_allclose(result.u2, expected.u2, rtol=0, atol=0.1 * float(jnp.abs(expected.u2).max()))


@pytest.mark.parametrize("name", ["dense, gelu", "relu, softmax", "layer norm, pool", "a while loop"])
def test_nan_in_gives_nan_out(name):
    shape, f = HEADS[name]
    A = normal(0, *shape).ravel().at[3].set(jnp.nan).reshape(shape)
    result = exact(f, A)
    assert jnp.isnan(result.u) and jnp.isnan(result.u2).all() and jnp.isnan(result.u3).all()


def test_a_finite_function_beside_overflow_stays_finite():
    f = lambda A: jax.nn.log_softmax(1000 * (A.ravel() @ jnp.eye(4)))[1]
    result = exact(f, jnp.arange(4.0).reshape(2, 2))
    assert all(jnp.isfinite(each).all() for each in result)
