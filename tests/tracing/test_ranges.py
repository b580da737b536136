"""Bounds of a program's values hold for whatever it is given, and are as narrow as activations need."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.tracing import CALLS, CUSTOM_RULES, bounds_of, entering, flatten

INF = math.inf
IMAGE = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
KERNEL = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 4, 4)), jnp.float32)


def bounds(f):
    program = flatten(jax.make_jaxpr(f)(IMAGE), entering(CALLS | CUSTOM_RULES))
    (v,) = program.outputs
    return bounds_of(program)[v]


def conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def windows(x, start, op):
    return jax.lax.reduce_window(x, start, op, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")


# A function, and the bounds by hand.
BY_HAND = {
    "relu": (jax.nn.relu, 0, INF),
    "relu6": (jax.nn.relu6, 0, 6),
    "where": (lambda x: jnp.where(x > 0, x, 0), 0, INF),
    "where, the other way round": (lambda x: jnp.where(x <= 0, jnp.zeros_like(x), x), 0, INF),
    "a mask": (lambda x: x * (x > 0).astype(x.dtype), 0, INF),
    "clip": (lambda x: jnp.clip(x, 0), 0, INF),
    "sigmoid": (jax.nn.sigmoid, 0, 1),
    "hard sigmoid": (lambda x: jax.nn.relu6(x + 3) / 6, 0, 1),
    "softplus": (jax.nn.softplus, 0, INF),
    "softmax": (jax.nn.softmax, 0, INF),
    "square": (jnp.square, 0, INF),
    "product with itself": (lambda x: x * x, 0, INF),
    "fourth power": (lambda x: x**4, 0, INF),
    "absolute": (jnp.abs, 0, INF),
    "exp": (jnp.exp, 0, INF),
    "what is left of a sigmoid": (lambda x: 1 - jax.nn.sigmoid(x), 0, 1),
    "a gate": (lambda x: jax.nn.relu(x) * jax.nn.sigmoid(x.mean((1, 2), keepdims=True)), 0, INF),
    "average pooling": (lambda x: windows(jax.nn.relu(x), 0.0, jax.lax.add) / 4, 0, INF),
    "max pooling": (lambda x: windows(jax.nn.relu(x), -jnp.inf, jax.lax.max), 0, INF),
    "mean of relu": (lambda x: jax.nn.relu(x).mean((1, 2)), 0, INF),
    "concatenated": (lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.sigmoid(x)], -1), 0, INF),
    "sum of relus": (lambda x: jax.nn.relu(x) + jax.nn.relu(-x), 0, INF),
    "padded": (lambda x: jnp.pad(jax.nn.relu(x), ((0, 0), (1, 1), (1, 1), (0, 0))), 0, INF),
    "positive kernel": (lambda x: conv(jax.nn.relu(x), jnp.ones([3, 3, 4, 4])), 0, INF),
    "gelu of relu": (lambda x: jax.nn.gelu(jax.nn.relu(x)), 0, INF),
    "jitted and rematerialized": (jax.jit(jax.checkpoint(jax.nn.relu)), 0, INF),
    "tanh": (jnp.tanh, -1, 1),
    "identity": (lambda x: x, -INF, INF),
    "convolution": (lambda x: conv(x, KERNEL), -INF, INF),
    "linear behind relu": (lambda x: conv(jax.nn.relu(x), KERNEL), -INF, INF),
    "leaky relu": (jax.nn.leaky_relu, -INF, INF),
    "gelu": (jax.nn.gelu, -INF, INF),
    "silu": (jax.nn.silu, -INF, INF),
    "elu": (jax.nn.elu, -INF, INF),
    "relu less its mean": (lambda x: jax.nn.relu(x) - jax.nn.relu(x).mean(), -INF, INF),
    "negative slope": (lambda x: -2 * jax.nn.relu(x), -INF, 0),
    "a padding of minus one": (lambda x: jnp.pad(jax.nn.relu(x), 1, constant_values=-1), -1, INF),
    "a scan": (lambda x: jax.lax.scan(lambda c, _: (jax.nn.relu(c), None), x, None, length=2)[0], -INF, INF),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_bounds_by_hand_hold(name):
    f, least, most = BY_HAND[name]
    low, high = bounds(f)
    assert low == least if least in (0, -1, -INF) else low <= least
    assert high >= most or math.isclose(high, most)
    for seed, scale in enumerate((0.1, 1.0, 30.0)):
        values = np.asarray(f(scale * jax.random.normal(jax.random.key(seed), IMAGE.shape)))
        assert low <= values.min() + 1e-6 and values.max() - 1e-6 <= high
        if least == 0:
            assert values.min() >= 0


def test_random_programs_stay_within_their_bounds():
    """Chains of random steps, against the values that they take."""
    rng = np.random.default_rng(1)
    unary = [
        jnp.tanh, jnp.abs, jnp.square, jax.nn.relu, jax.nn.sigmoid, jnp.negative, jnp.cos, jnp.exp, jax.lax.rsqrt,
        lambda x: x.mean(1, keepdims=True), lambda x: x.sum(-1, keepdims=True), lambda x: jnp.clip(x, -0.5, 2),
        lambda x: 1 / (1 + x * x), lambda x: x[:, ::2], jnp.floor, jnp.expm1, jnp.cbrt, jnp.sign, lambda x: -1 / x,
    ]  # fmt: skip
    binary = [jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum, jnp.divide]
    told = 0
    for _ in range(60):
        chain = [(unary[rng.integers(len(unary))], binary[rng.integers(len(binary))]) for _ in range(4)]

        def f(x, chain=chain):
            for step, join in chain:
                made = step(x)
                x = join(made, x) if made.shape == x.shape else made
            return x

        low, high = bounds(f)
        told += low > -INF
        for seed in range(2):
            values = np.asarray(f(jax.random.normal(jax.random.key(seed), IMAGE.shape)))
            values = values[np.isfinite(values)]
            slack = 1e-5 * (1 + np.abs(values).max(initial=0))
            assert (values >= low - slack).all() and (values <= high + slack).all()
            assert low != 0 or (values >= 0).all()
    assert told >= 8
