"""Whether a program ends in a softmax or a logistic function, and the bounds of its outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcam.tracing import PLAIN_CALLS, bounds_of_outputs, entering, evaluate, flatten, last_activation

X = jnp.array([[0.3, -1.0, 2.0, 0.5, 0.0]])


def exp_over_sum(x):
    return jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)


with_own_rule = jax.custom_jvp(exp_over_sum)
with_own_rule.defjvp(lambda primals, tangents: (with_own_rule(*primals), tangents[0]))

SOFTMAXES = {
    "jax": jax.nn.softmax,
    "flax": nnx.softmax,
    "squeezed": lambda x: jax.nn.softmax(x)[0],
    "reshaped": lambda x: jax.nn.softmax(x).reshape(-1),
    "cast": lambda x: jax.nn.softmax(x.astype(jnp.float16)).astype(jnp.float32),
    "within jit": jax.jit(lambda x: jax.jit(jax.nn.softmax)(x)),
    "of a vector": lambda x: jnp.exp(x[0]) / jnp.exp(x[0]).sum(),
    "written out": exp_over_sum,
    "times the inverse": lambda x: jnp.exp(x) * (1 / jnp.exp(x).sum(-1, keepdims=True)),
    "times a power": lambda x: jnp.exp(x) * jnp.exp(x).sum(-1, keepdims=True) ** -1,
    "shifted, computed twice": lambda x: (
        jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "exp of log_softmax": lambda x: jnp.exp(jax.nn.log_softmax(x)),
    "less logsumexp": lambda x: jnp.exp(x - jax.nn.logsumexp(x, axis=-1, keepdims=True)),
    "with a rule of its own": with_own_rule,
    "rematerialized": jax.checkpoint(jax.nn.softmax),
    "vmapped": jax.vmap(jax.nn.softmax),
    "with a temperature": lambda x: jax.nn.softmax(x / 2.5),
    "of pixels": lambda x: jax.nn.softmax(jnp.ones([4, 4, 5]) * x[None]),
}
LOGISTICS = {
    "jax": jax.nn.sigmoid,
    "lax": jax.lax.logistic,
    "written out": lambda x: 1 / (1 + jnp.exp(-x)),
    "exp over 1 + exp": lambda x: jnp.exp(x) / (1 + jnp.exp(x)),
    "tanh": lambda x: 0.5 * (1 + jnp.tanh(x / 2)),
    "half tanh": lambda x: 0.5 * jnp.tanh(0.5 * x) + 0.5,
    "some of them": lambda x: jax.nn.sigmoid(x)[0, 1:],
}
BOUNDED = {
    "clip": lambda x: jnp.clip(x, 0, 1),
    "hard sigmoid": jax.nn.hard_sigmoid,
    "mean of two": lambda x: (jax.nn.softmax(x) + jax.nn.softmax(2 * x)) / 2,
    "mean of a stack": lambda x: jnp.mean(jnp.stack([jax.nn.softmax(x), jax.nn.softmax(2 * x)]), 0),
    "products, normalized": lambda x: (p := jax.nn.softmax(x) * jax.nn.softmax(2 * x)) / p.sum(),
    "label smoothing": lambda x: 0.9 * jax.nn.softmax(x) + 0.02,
    "softmax, masked": lambda x: jax.nn.softmax(x, where=x > -5),
    "softmax with epsilon": lambda x: jnp.exp(x) / (jnp.exp(x).sum() + 1e-9),
    "softmax without one class": lambda x: jax.nn.softmax(x)[0, 1:],
    "softmax over another axis": lambda x: jax.nn.softmax(jnp.ones([5, 5]) * x, axis=0),
    "sum over the wrong axis": lambda x: jnp.exp(jnp.ones([5, 5]) * x) / jnp.exp(jnp.ones([5, 5]) * x).sum(-1)[None],
    "the other class": lambda x: 1 - jax.nn.sigmoid(x),
    "exp of log_sigmoid": lambda x: jnp.exp(jax.nn.log_sigmoid(x)),
}
UNBOUNDED = {
    "linear": lambda x: 2 * x,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "log_softmax": jax.nn.log_softmax,
    "attention": lambda x: jax.nn.softmax(x) @ jnp.ones([5, 3]),
    "gate": lambda x: x * jax.nn.sigmoid(x.mean()),
    "exp": jnp.exp,
    "unit length": lambda x: 3 * x / jnp.linalg.norm(x),
}


def program_of(f):
    return flatten(jax.make_jaxpr(f)(X), entering(PLAIN_CALLS))


def without_activation(f):
    """The values in front of the last activation, in the shape of the outputs."""
    program = program_of(f)
    last = last_activation(program, program.outputs[0])
    value = evaluate(program.steps, program.given([X]))[last.logits]
    for step in last.behind:
        (value,) = step.run(value)
    return last.name, value


@pytest.mark.parametrize("spelling", SOFTMAXES)
def test_a_softmax_is_found_with_its_logits(spelling):
    name, logits = without_activation(SOFTMAXES[spelling])
    expected = np.asarray(SOFTMAXES[spelling](X), np.float64)
    assert name == "softmax" and logits.shape == expected.shape and logits.dtype == jnp.float32
    powers = np.exp(np.asarray(logits, np.float64))
    tolerance = 1e-3 if spelling == "cast" else 1e-6
    np.testing.assert_allclose(powers / powers.sum(-1, keepdims=True), expected, atol=tolerance)
    scale = 2.5 if spelling == "with a temperature" else 1
    np.testing.assert_allclose(np.broadcast_to(X[0] / scale, logits.shape), logits, rtol=1e-3)  # not shifted


@pytest.mark.parametrize("spelling", LOGISTICS)
def test_a_logistic_function_is_found_with_its_logits(spelling):
    name, logits = without_activation(LOGISTICS[spelling])
    expected = np.asarray(LOGISTICS[spelling](X), np.float64)
    assert name == "logistic" and logits.shape == expected.shape
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(logits, np.float64))), expected, atol=1e-6)


@pytest.mark.parametrize("name", BOUNDED)
def test_other_outputs_are_bounded(name):
    program = program_of(BOUNDED[name])
    assert last_activation(program, program.outputs[0]) is None
    ((low, high),) = bounds_of_outputs(jax.make_jaxpr(BOUNDED[name])(X))
    assert 0 <= low <= high <= 1 + 1e-6


@pytest.mark.parametrize("name", UNBOUNDED)
def test_outputs_without_bounds(name):
    program = program_of(UNBOUNDED[name])
    assert last_activation(program, program.outputs[0]) is None
    ((low, high),) = bounds_of_outputs(jax.make_jaxpr(UNBOUNDED[name])(X))
    assert low < 0 or high > 1


def test_a_softmax_that_gradients_do_not_pass():
    program = program_of(lambda x: jax.lax.stop_gradient(jax.nn.softmax(x)))
    assert last_activation(program, program.outputs[0]) == ("softmax", None, ())


def test_bounds_hold_for_random_values():
    """Sampled outputs of random expressions lie in the interval that is computed for them."""
    unary = [jnp.abs, jnp.square, jax.nn.sigmoid, jnp.tanh, jnp.exp, jnp.negative, jax.nn.relu6, lambda x: x / 3]
    binary = [jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum, lambda a, b: a / (2 + jnp.square(b))]
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.normal(size=(64, 3)) * 3, jnp.float32)
    tight = 0
    for _ in range(60):
        chosen = [(rng.integers(8), rng.integers(8), rng.integers(6), rng.integers(8)) for _ in range(2)]

        def f(x, chosen=chosen):
            for a, b, c, d in chosen:
                x = unary[d](binary[c](unary[a](x), unary[b](x)))
            return x

        ((low, high),) = bounds_of_outputs(jax.make_jaxpr(f)(xs[0]))
        values = np.asarray(f(xs))
        values = values[np.isfinite(values)]
        assert (values >= low - 1e-4 * abs(low)).all() and (values <= high + 1e-4 * abs(high)).all()
        tight += np.isfinite(low) or np.isfinite(high)
    assert tight > 20
