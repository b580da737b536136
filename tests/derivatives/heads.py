"""Small heads of every kind that networks have, with the shape of the activation for each."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

RELATIVE = 1e-9


def normal(seed, *shape):
    """Weights in the type that is the default at the time of the call, the same in both up to rounding."""
    return jnp.asarray(0.5 * np.random.default_rng(seed).normal(size=shape), jnp.result_type(float))


def pool(A):
    return nnx.max_pool(A[None], (2, 2), (2, 2))[0]


def conv(A, kernel):
    spatial = "HWD"[: A.ndim - 1]
    numbers = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return jax.lax.conv_general_dilated(A[None], kernel, (1,) * len(spatial), "SAME", dimension_numbers=numbers)[0]


def layer_norm(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-3)


def group_norm(A):
    groups = A.reshape(*A.shape[:-1], 2, -1)
    axes = (*range(A.ndim - 1), A.ndim)
    mean, variance = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
    return ((groups - mean) * jax.lax.rsqrt(variance + 1e-3)).reshape(A.shape)


def batch_norm(A):
    mean, variance, scale = normal(30, 4), jnp.exp(normal(31, 4)), normal(32, 4)
    mean, variance, scale = (each.reshape(1, 1, 4) for each in (mean, variance, scale))
    return (A - mean) * jax.lax.rsqrt(variance) * scale


def squeeze_and_excite(A):
    gate = jax.nn.sigmoid(jax.nn.silu(A.mean((0, 1)) @ normal(5, 4, 3)) @ normal(6, 3, 4))
    return jax.nn.silu((A * gate[None, None]) @ normal(7, 4, 6)).mean((0, 1)) @ normal(8, 6, 3)


def attention(A):
    x = A.reshape(-1, 4)
    q, k, v = (x @ normal(seed, 4, 4) for seed in (9, 10, 11))
    return (x + jax.nn.softmax(q @ k.T / 2) @ v).mean(0) @ normal(12, 4, 3)


def softmax(outputs):
    return jax.nn.log_softmax(outputs)[1]


IMAGE, TOKENS, VIDEO = (4, 4, 4), (6, 4), (2, 4, 2, 4)
HEADS = {
    "dense, gelu": (
        IMAGE,
        lambda A: (jax.nn.gelu(jax.nn.gelu(pool(A).ravel() @ normal(1, 16, 7)) @ normal(2, 7, 5)))[0],
    ),
    "dense, tanh, softmax": (IMAGE, lambda A: softmax(jnp.tanh(A.ravel() @ normal(1, 64, 7)) @ normal(2, 7, 5))),
    "conv, silu": (IMAGE, lambda A: (jax.nn.silu(conv(A, normal(3, 3, 3, 4, 5))).mean((0, 1)) @ normal(4, 5, 3))[2]),
    "softplus, conv, elu, max pool": (
        IMAGE,
        lambda A: pool(jax.nn.elu(conv(jax.nn.softplus(A), normal(3, 3, 3, 4, 2)))).ravel() @ normal(4, 8),
    ),
    "layer norm, pool": (IMAGE, lambda A: layer_norm(A).mean((0, 1)) @ normal(4, 4)),
    "pool, layer norm, softmax": (IMAGE, lambda A: softmax(layer_norm(A.mean((0, 1))) @ normal(4, 4, 3))),
    "group norm": (IMAGE, lambda A: jax.nn.relu(group_norm(A)).mean((0, 1)) @ normal(4, 4)),
    "batch norm, silu": (IMAGE, lambda A: jax.nn.silu(batch_norm(A)).mean((0, 1)) @ normal(4, 4)),
    "squeeze and excite": (IMAGE, lambda A: squeeze_and_excite(A)[1]),
    "squeeze and excite, softmax": (IMAGE, lambda A: softmax(squeeze_and_excite(A))),
    "attention": (IMAGE, lambda A: attention(A)[0]),
    "attention on tokens, softmax": (TOKENS, lambda A: softmax(attention(A))),
    "skip": (IMAGE, lambda A: (A + jax.nn.gelu(conv(A, normal(3, 3, 3, 4, 4)))).mean((0, 1)) @ normal(4, 4)),
    "relu conv, softmax": (
        IMAGE,
        lambda A: softmax(jax.nn.relu(conv(A, normal(3, 3, 3, 4, 5))).mean((0, 1)) @ normal(4, 5, 3)),
    ),
    "relu, softmax": (
        IMAGE,
        lambda A: softmax(jax.nn.relu(pool(jax.nn.relu(A)).ravel() @ normal(1, 16, 7)) @ normal(2, 7, 5)),
    ),
    "overlapping max pool": (
        IMAGE,
        lambda A: jax.nn.gelu(nnx.max_pool(A[None], (3, 3), (1, 1)).ravel() @ normal(1, 16, 7)) @ normal(2, 7),
    ),
    "average pool, tanh": (
        IMAGE,
        lambda A: (
            jnp.tanh(jax.lax.reduce_window(A, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4).ravel()
            @ normal(1, 16)
        ),
    ),
    "a sum of logits over a mask": (
        IMAGE,
        lambda A: jnp.where(A[..., 0] > 0, (jax.nn.gelu(A @ normal(1, 4, 5)) @ normal(2, 5, 3))[..., 1], 0).sum(),
    ),
    "tokens, mlp mixer": (
        TOKENS,
        lambda A: (A + jax.nn.gelu(layer_norm(A).T @ normal(1, 6, 6)).T).mean(0) @ normal(4, 4),
    ),
    "video, silu": (
        VIDEO,
        lambda A: softmax(jax.nn.silu(conv(A, normal(3, 2, 2, 2, 4, 3))).mean((0, 1, 2)) @ normal(4, 3, 3)),
    ),
    "products and quotients": (
        TOKENS,
        lambda A: (
            jnp.prod(A[0]) + jnp.linalg.norm(A) + (A * A / (1 + jnp.exp(A.mean()))).sum() + (1 / (A[1] + 9)).sum()
        ),
    ),
    "two-argument functions": (
        TOKENS,
        lambda A: (
            jnp.logaddexp(A, A.mean(0, keepdims=True)) + jnp.arctan2(A, 2 + A[:1]) + jnp.exp(A) ** jnp.sin(A[1:2])
        ).sum(),
    ),
    "a recurrent net": (TOKENS, lambda A: jax.lax.scan(lambda c, x: (jnp.tanh(c + x), None), A[0], A)[0].sum()),
    "a while loop": (
        TOKENS,
        lambda A: jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, A))[1].sum(),
    ),
}


def assert_close(result, expected, relative=RELATIVE):
    for name, value, truth in zip(("u", "u1", "u2", "u3"), result, expected, strict=True):
        value, truth = np.asarray(value, np.float64), np.asarray(truth)
        atol = relative * np.abs(truth).max() + 1e-30
        np.testing.assert_allclose(value, truth, rtol=0, atol=atol, err_msg=name)
