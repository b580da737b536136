"""Locations that meet only in sums: which heads are pushed as pairs, and that the pairs are brute force."""

import jax
import jax.numpy as jnp
import pytest

from jaxcam.derivatives import _program, brute_force, exact
from jaxcam.derivatives._plan import make_plan
from tests.derivatives.heads import HEADS, IMAGE, TOKENS, assert_close, attention, normal, softmax


def mean(A):
    return A.mean((0, 1), keepdims=True)


def gate(A):
    return jax.nn.sigmoid(jax.nn.silu(mean(A) @ normal(5, 4, 3)) @ normal(6, 3, 4))


def silu_head(x):
    return jax.nn.silu(x @ normal(7, 4, 6)).mean((0, 1)) @ normal(8, 6, 3)


def gated(A):
    return silu_head(A * gate(A))


def convolve(x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel[None, None], (1, 1), "SAME", dimension_numbers=numbers)


def with_a_batch_axis(A):
    """As Keras writes it: a batch axis, the means reshaped, 1 x 1 convolutions, batch norm in eval mode."""
    A = A[None]
    squeezed = jax.nn.silu(convolve(A.mean((1, 2)).reshape(1, 1, 1, 4), normal(5, 4, 3)))
    x = convolve(A * jax.nn.sigmoid(convolve(squeezed, normal(6, 3, 4))), normal(7, 4, 6))
    x = jax.nn.silu(convolve(x * normal(9, 1, 1, 1, 6) + normal(10, 1, 1, 1, 6), normal(11, 6, 5)))
    return softmax((x.mean((1, 2)) @ normal(8, 5, 3))[0])


def efficient_channel_attention(A):
    """The gate of a channel is a convolution over the means of its neighbors; it is applied after a division."""
    A = A / (2 + jnp.sin(mean(A)))
    weights = jax.nn.sigmoid(jnp.convolve(A.mean((0, 1)), normal(3, 3), mode="same"))[None, None]
    return silu_head(A * weights - weights)[0]


def one_spatial_axis(A):
    """A mean over one axis of two: the other is independent of it, and so are the channels."""
    return jnp.tanh(A * jax.nn.sigmoid(A.mean(0, keepdims=True)) + A).sum()


# The shape, the head, the directions and the axes that are summed.
PAIRS = {
    "squeeze and excite": (*HEADS["squeeze and excite"], 4, (0, 1)),
    "squeeze and excite, softmax": (*HEADS["squeeze and excite, softmax"], 4, (0, 1)),
    "squeeze and excite behind relu": (IMAGE, lambda A: gated(jax.nn.relu(A))[1], 4, (0, 1)),
    "two gates, skip": (IMAGE, lambda A: softmax(silu_head(A + (A * gate(A)) * gate(A * gate(A)))), 4, (0, 1)),
    "a batch axis": (IMAGE, with_a_batch_axis, 4, (1, 2)),
    "efficient channel attention": (IMAGE, efficient_channel_attention, 4, (0, 1)),
    "one spatial axis": (IMAGE, one_spatial_axis, 1, (0,)),
    "tokens": (
        TOKENS,
        lambda A: jnp.tanh((A + jnp.tanh(A.mean(0, keepdims=True))) @ normal(1, 4, 5)).sum(0) @ normal(2, 5),
        4,
        (0,),
    ),
}
NOT_PAIRS = {
    "a gate behind silu": (IMAGE, lambda A: gated(jax.nn.silu(A))[0]),
    "attention": (IMAGE, lambda A: attention(A)[0]),
    "a gate of squares": (IMAGE, lambda A: silu_head(A * jax.nn.sigmoid(mean(A * A)))[0]),
    "a gate of a masked value": (
        IMAGE,
        lambda A: silu_head(A * jnp.sin(mean(jnp.where(normal(3, *IMAGE) > 0, A, 0))))[0],
    ),
    "a gate weighted by location": (IMAGE, lambda A: silu_head(A * jnp.sin(mean(A * normal(3, *IMAGE))))[0]),
    "a maximum": (IMAGE, lambda A: silu_head(A * jnp.sin(A.max((0, 1), keepdims=True)))[0]),
    "a cumulative sum": (IMAGE, lambda A: silu_head(jnp.cumsum(A, 0) * gate(A))[0]),
}
QUICK = ("a batch axis", "efficient channel attention")  # `test_exact.py` has the first two


@pytest.mark.parametrize("name", PAIRS)
def test_heads_that_are_pushed_as_pairs(name):
    shape, f, directions, axes = PAIRS[name]
    plan = make_plan(_program.trace(f, normal(0, *shape)))
    assert plan.shared_local is not None and plan.shared_local.axes == axes
    assert plan.directions == directions


@pytest.mark.parametrize("name", NOT_PAIRS)
def test_heads_without_a_pair_keep_their_plan(name):
    shape, f = NOT_PAIRS[name]
    assert make_plan(_program.trace(f, normal(0, *shape))).shared_local is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name not in QUICK else ()) for name in list(PAIRS)[2:]]
)
def test_pairs_are_brute_force(name, x64):
    shape, f, *_ = PAIRS[name]
    result, expected = jax.jit(lambda A: (exact(f, A, batch_size=3), brute_force(f, A)))(normal(0, *shape))
    assert jnp.abs(expected.u2).max() > 1e-6 and jnp.abs(expected.u3).max() > 1e-6
    assert_close(result, expected)
