"""The oracle of `exact` against whole derivative tensors and finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import brute_force
from tests.derivatives.heads import HEADS, normal


@pytest.mark.parametrize("name", ["tokens, mlp mixer", "products and quotients", "attention on tokens, softmax"])
def test_brute_force_is_the_diagonal_of_whole_tensors(name, x64):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    flat, n = lambda a: f(a.reshape(shape)), jnp.arange(A.size)
    result = jax.jit(lambda A: brute_force(f, A))(A)
    hessian = jax.jit(jax.hessian(flat))(A.ravel())
    tensor = jax.jit(jax.jacfwd(jax.jacfwd(jax.jacfwd(flat))))(A.ravel())
    np.testing.assert_allclose(result.u1.ravel(), jax.grad(flat)(A.ravel()), rtol=1e-12)
    np.testing.assert_allclose(result.u2.ravel(), hessian[n, n], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(result.u3.ravel(), tensor[n, n, n], rtol=1e-10, atol=1e-14)


def test_brute_force_is_the_limit_of_finite_differences(x64):
    shape, f = HEADS["tokens, mlp mixer"]
    A = normal(0, *shape)
    result, f, h = jax.jit(lambda A: brute_force(f, A))(A), jax.jit(f), 3e-4
    for index in itertools.product(range(shape[0]), (0, 3)):
        y = {k: float(f(A.at[index].add(k * h))) for k in (-2, -1, 0, 1, 2)}
        np.testing.assert_allclose(result.u1[index], (y[1] - y[-1]) / (2 * h), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.u2[index], (y[1] - 2 * y[0] + y[-1]) / h**2, rtol=1e-4, atol=1e-6)
        third = (y[2] - 2 * y[1] + 2 * y[-1] - y[-2]) / (2 * h**3)
        np.testing.assert_allclose(result.u3[index], third, rtol=1e-3, atol=1e-5)
