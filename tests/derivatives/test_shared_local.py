"""Locations that meet only in sums: which heads are pushed as pairs, and that the pairs are brute force."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import _program, brute_force, exact
from jaxcam.derivatives._plan import make_plan
from tests.derivatives.heads import HEADS, IMAGE, TOKENS, assert_close, attention, conv, group_norm, normal, softmax


def mean(A):
    return A.mean((0, 1), keepdims=True)


def gate(A):
    return jax.nn.sigmoid(jax.nn.silu(mean(A) @ normal(5, 4, 3)) @ normal(6, 3, 4))


def silu_head(x):
    return jax.nn.silu(x @ normal(7, 4, 6)).mean((0, 1)) @ normal(8, 6, 3)


def gated(A):
    return silu_head(A * gate(A))


def layer_norm_over_space(A):
    x = A - A.mean()
    return x * jax.lax.rsqrt((x * x).mean() + 1e-3)


def instance_norm(A):
    return (A - mean(A)) * jax.lax.rsqrt(A.var((0, 1), keepdims=True) + 1e-3)


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
# One number of each direction is broadcast back, and differs from location to location.
CURVED = {
    "group norm, softmax": (IMAGE, lambda A: softmax(silu_head(group_norm(A))), 4, (0, 1)),
    "group norm": (*HEADS["group norm"], 1, (0, 1, 3)),
    "layer norm over space": (IMAGE, lambda A: silu_head(layer_norm_over_space(A))[0], 4, (0, 1)),
    "instance norm": (IMAGE, lambda A: silu_head(instance_norm(A))[0], 4, (0, 1)),
    "a gate behind silu, softmax": (IMAGE, lambda A: softmax(gated(jax.nn.silu(A))), 4, (0, 1)),
    "a gate of squares": (IMAGE, lambda A: silu_head(A * jax.nn.sigmoid(mean(A * A)))[0], 4, (0, 1)),
    "a gate, then group norm": (IMAGE, lambda A: silu_head(group_norm(A * gate(A)))[0], 4, (0, 1)),
    "a gate weighted by location": (
        IMAGE,
        lambda A: silu_head(A * jnp.sin(mean(A * normal(3, *IMAGE))))[0],
        4,
        (0, 1),
    ),
}
NOT_PAIRS = {
    "attention": (IMAGE, lambda A: attention(A)[0]),
    "group norm, then a gate": (IMAGE, lambda A: gated(group_norm(A))[0]),
    "a gate of a mixed value": (IMAGE, lambda A: silu_head(A * jnp.sin(mean(jnp.tanh(A @ normal(1, 4, 4)))))[0]),
    "a gate, then a kernel": (IMAGE, lambda A: silu_head(conv(A * gate(A), normal(3, 3, 3, 4, 4)))[0]),
    "a maximum": (IMAGE, lambda A: silu_head(A * jnp.sin(A.max((0, 1), keepdims=True)))[0]),
    "a cumulative sum": (IMAGE, lambda A: silu_head(jnp.cumsum(A, 0) * gate(A))[0]),
}
HEADS_OF_BOTH = PAIRS | CURVED
QUICK = ("a batch axis", "group norm, softmax")
LONG = (
    "two gates, skip",
    "efficient channel attention",
    "layer norm over space",
    "a gate behind silu, softmax",
    "a gate, then group norm",
)


@pytest.mark.parametrize("name", HEADS_OF_BOTH)
def test_heads_that_are_pushed_as_pairs(name):
    shape, f, directions, axes = HEADS_OF_BOTH[name]
    plan = make_plan(_program.trace(f, normal(0, *shape)))
    assert plan.shared_local is not None and plan.shared_local.axes == axes
    assert plan.directions == directions and bool(plan.shared_local.curved) == (name in CURVED)


@pytest.mark.parametrize("name", NOT_PAIRS)
def test_heads_without_a_pair_keep_their_plan(name):
    shape, f = NOT_PAIRS[name]
    assert make_plan(_program.trace(f, normal(0, *shape))).shared_local is None


def test_half_precision_has_no_curves():
    """Interpolation would lose the few digits of its coefficients."""
    f = lambda A: jnp.tanh(A * jnp.sin((A * A).mean(0, keepdims=True))).sum().astype(jnp.float32)
    for dtype, is_curved in ((jnp.bfloat16, False), (jnp.float32, True)):
        plan = make_plan(_program.trace(f, normal(0, *TOKENS).astype(dtype)))
        assert (plan.shared_local is not None) == is_curved


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)])
def test_pairs_are_brute_force(name, x64):
    shape, f, *_ = HEADS_OF_BOTH[name]
    result, expected = jax.jit(lambda A: (exact(f, A, batch_size=3), brute_force(f, A)))(normal(0, *shape))
    assert jnp.abs(expected.u2).max() > 1e-6 and jnp.abs(expected.u3).max() > 1e-6
    assert_close(result, expected)


@pytest.mark.long
def test_a_channel_that_hardly_varies_keeps_its_digits(x64):
    """The first coefficient of its variance is tiny beside the second."""
    shape, f, *_ = CURVED["instance norm"]
    A = normal(0, *shape).at[..., 1].multiply(1e-9).at[..., 2].set(1.0)
    assert_close(*jax.jit(lambda A: (exact(f, A), brute_force(f, A)))(A))


@pytest.mark.long
def test_the_gradient_of_pairs(x64):
    """Through nodes and interpolation."""
    weights = normal(1, 4, 3)

    def f(A):
        return jnp.tanh((A * jnp.sin((A * A).mean(0, keepdims=True))) @ weights).sum()

    def loss(which, A):
        u, u1, u2, u3 = which(f, A)
        return (u1**2).sum() + ((u2**2).sum() + (u3**2).sum())

    A = normal(0, *TOKENS)
    assert make_plan(_program.trace(f, A)).shared_local.curved
    result, expected = (jax.jit(jax.grad(functools.partial(loss, which)))(A) for which in (exact, brute_force))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9 * float(jnp.abs(expected).max()))
