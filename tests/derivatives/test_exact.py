"""Exact derivatives against brute force, in float64: smooth heads, kinks, and unusual programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcam.derivatives import brute_force, exact, through_link
from tests.derivatives.heads import HEADS, IMAGE, RELATIVE, TOKENS, assert_close, normal, pool


@pytest.mark.parametrize("name", HEADS)
def test_exact_is_brute_force(name, x64):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    both = jax.jit(lambda A: (exact(f, A), brute_force(f, A)))
    result, expected = both(A)
    assert jnp.abs(expected.u2).max() > 1e-6 and jnp.abs(expected.u3).max() > 1e-6
    assert_close(result, expected)
    for link in ("identity", "exp"):
        for value, truth in zip(through_link(result, link=link)[1], through_link(expected, link=link)[1], strict=True):
            np.testing.assert_allclose(value, truth, rtol=0, atol=RELATIVE * float(jnp.abs(truth).max()))


def test_the_derivatives_of_the_exponential_itself(x64):
    """through_link's Y2 and Y3 are those of e^u, differentiated by brute force."""
    shape, f = HEADS["squeeze and excite"]
    A = normal(0, *shape)
    scale, Y = through_link(exact(f, A), link="exp")
    for value, truth in zip(Y, jax.jit(lambda A: brute_force(lambda A: jnp.exp(f(A)), A))(A)[1:], strict=True):
        np.testing.assert_allclose(jnp.exp(scale) * value, truth, rtol=0, atol=RELATIVE * float(jnp.abs(truth).max()))


def test_a_certified_head_costs_one_gradient():
    f = lambda A: jax.nn.relu(A.ravel() @ normal(1, 64, 7)).sum()
    A = normal(0, *IMAGE)
    ours, gradient = (
        jax.jit(g).lower(A).compile().cost_analysis()["flops"] for g in (lambda A: exact(f, A), jax.value_and_grad(f))
    )
    assert ours <= 1.01 * gradient
    u, u1, u2, u3 = exact(f, A)
    np.testing.assert_array_equal(u1, jax.jit(jax.grad(f))(A))
    assert not u2.any() and not u3.any()


KINKS = {
    "relu at 0": lambda A: (jax.nn.relu(A) * jax.nn.gelu(A)).sum(),
    "maximum at 0": lambda A: (jnp.maximum(A, 0) * jnp.exp(A)).sum(),
    "relu, dense, softplus": lambda A: jax.nn.softplus(jax.nn.relu(A).ravel() @ normal(1, 64, 5)).sum(),
    "abs at 0": lambda A: jnp.tanh(jnp.abs(A) @ normal(1, 4, 3)).sum(),
    "ties in max pooling": lambda A: jnp.tanh(pool(A).ravel() @ normal(1, 16, 5)).sum(),
    "ties in overlapping max pooling": lambda A: jnp.tanh(nnx.max_pool(A[None], (3, 3), (1, 1))).sum(),
    "ties in a global maximum": lambda A: jnp.exp(A.max((0, 1))).sum(),
    "saturated relu6": lambda A: jax.nn.silu(jax.nn.relu6(A).ravel() @ normal(1, 64, 5)).sum(),
    "ties of a sort": lambda A: (jnp.sort(A.ravel()) ** 3 * jnp.arange(64.0, dtype=A.dtype)).sum(),
    "a kink after a curve": lambda A: jax.nn.relu(jnp.sin(A) @ normal(1, 4, 3)).sum(),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_those_of_brute_force(name, x64):
    f = KINKS[name]
    A = jnp.round(2 * normal(0, *IMAGE))
    both = jax.jit(lambda A: (exact(f, A), brute_force(f, A)))
    for point in (A, jnp.zeros_like(A), 6 * jnp.ones_like(A), A.at[0].set(6).at[1].set(9)):
        result, expected = both(point)
        assert_close(result, expected)


def norm_and_mask(A):
    h = A / jnp.linalg.norm(A)
    return (jnp.where((h > 0).any(), h, 2 * h) ** 3).sum()


def top_one(A):
    z = jax.nn.silu(A @ normal(1, 4, 3))
    return (z * jax.nn.one_hot(z.argmax(-1), 3, dtype=A.dtype)).sum()


def dilated(A):
    window = ((2, 1), (1, 1), "VALID", None, (2, 1))
    return jnp.tanh(jax.lax.reduce_window(A, -jnp.inf, jax.lax.max, *window)).sum()


def shifted_windows(A):
    windows = jax.lax.reduce_window(A, 0.0, jax.lax.add, (2, 1), (2, 1), ((-1, 1), (0, 0)))
    return jnp.tanh(windows).sum()


UNUSUAL = {
    "complex magnitudes": lambda A: (jnp.abs(jnp.fft.fft(A, axis=0)) ** 2).sum() + jnp.abs(jnp.fft.fft(A) + 0.1j).sum(),
    "complex to real": lambda A: jnp.tanh((jnp.fft.fft(A, axis=0) * (1 + 2j)).real).sum(),
    "an argmax of a smooth value": top_one,
    "a mask and a norm": norm_and_mask,
    "a median": lambda A: jnp.median(jax.nn.silu(A @ normal(1, 4, 3))),
    "a smooth branch": lambda A: jax.lax.cond(
        jnp.tanh(A).sum() > 0, lambda A: jnp.sin(A).sum(), lambda A: jnp.cos(A).sum(), A
    ),
    "top k of a smooth value": lambda A: (jax.lax.top_k(jnp.tanh(A), 2)[0] ** 2).sum(),
    "an empty part": lambda A: jnp.tanh(A).sum() + jnp.sin(A[:0] * 2).sum(),
    "a dilated maximum": dilated,
    "windows with negative padding": shifted_windows,
    "a skip and a small frontier": lambda A: jax.nn.silu(jax.nn.relu(A @ normal(1, 4, 2)).sum(0)).sum() + A.mean(),
    "A ignored": lambda A: jnp.tanh(jnp.ones((), A.dtype)),
    "an inner gradient": lambda A: (jax.grad(lambda A: jnp.sin(A).sum() ** 2)(A) ** 2).sum(),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_heads(name, x64):
    A = normal(0, *TOKENS)
    assert_close(*jax.jit(lambda A: (exact(UNUSUAL[name], A), brute_force(UNUSUAL[name], A)))(A))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 3, 1, 4)])
def test_axes_of_length_one(shape, x64):
    f = lambda A: (jnp.tanh(A) * jnp.exp(A.mean())).sum()
    A = normal(0, *shape)
    assert_close(exact(f, A), brute_force(f, A))
