"""Exact derivatives of functions with their own rules: custom_jvp and custom_vjp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import brute_force, exact
from tests.derivatives.heads import TOKENS, assert_close, normal


@jax.custom_jvp
def centered(x):
    """An elementwise function with a rule that is not."""
    return jnp.exp(x)


@centered.defjvp
def centered_rule(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return centered(x), jnp.exp(x) * (tangent - tangent.mean())


@jax.custom_jvp
def own_slope(x):
    return jnp.tanh(x)


own_slope.defjvp(lambda primals, tangents: (own_slope(*primals), tangents[0] * jnp.cos(primals[0])))


@jax.custom_vjp
def stable(x):
    return jnp.logaddexp(x, 0)


stable.defvjp(lambda x: (stable(x), x), lambda x, g: (g * jax.nn.sigmoid(x),))


def test_a_rule_that_mixes_elements(x64):
    A, f = normal(0, 5), lambda A: (centered(A) ** 2).sum()
    # Its rule is not the derivative of anything, so the gradient is not compared.
    for result, expected in zip(exact(f, A)[2:], brute_force(f, A)[2:], strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_a_custom_vjp_in_a_loop():
    A = normal(0, *TOKENS)
    with pytest.raises(TypeError, match="f has a custom_vjp inside a scan or a branch"):
        exact(lambda A: jax.lax.scan(lambda c, x: (stable(c + x), None), A[0], A)[0].sum(), A)


def test_custom_rules(x64):
    A = normal(0, *TOKENS)
    f = lambda A: (own_slope(A @ normal(1, 4, 3)) ** 2).sum()
    assert_close(exact(f, A), brute_force(f, A))
    inside = lambda A: (jax.nn.softplus(A @ normal(1, 4, 3)) ** 2).sum()
    assert_close(exact(lambda A: (stable(A @ normal(1, 4, 3)) ** 2).sum(), A), brute_force(inside, A))
