"""Programs that compute only what their result reads: the same values and derivatives, with less work."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives._narrow import narrowed
from jaxcam.derivatives._program import Level, trace
from jaxcam.tracing import REARRANGEMENTS, evaluate, flops_of_primitive
from tests.derivatives.heads import conv, layer_norm, normal

SHAPE = (8, 4)


@functools.partial(jax.custom_jvp)
def straight_through(x):
    return jax.nn.relu(jnp.round(x))


@straight_through.defjvp
def _(primals, tangents):
    (x,), (direction,) = primals, tangents
    return straight_through(x), jax.nn.softplus(x) * direction


NARROWED = {
    "dense layers": lambda A: (jnp.tanh(A @ normal(1, 4, 6)) @ normal(2, 6, 5))[0].sum(),
    "contraction with a batch axis": lambda A: jnp.einsum(
        "qhc,khc->hqk", jnp.sin(A).reshape(8, 2, 2), A.reshape(8, 2, 2)
    )[:, -1].sum(),
    "axes moved, merged and dropped": lambda A: (
        jnp.sin(A.reshape(8, 2, 2).transpose(1, 0, 2)[None])[:, :, 5].squeeze(0).ravel() @ normal(1, 4)
    ),
    "norm of rows": lambda A: (layer_norm(A) * normal(1, 1, 4) + normal(2, 1, 4))[2].sum(),
    "rows put together": lambda A: jnp.sin(jnp.concatenate([A[:4] * 2, normal(1, 3, 4), A[4:]]))[8].sum(),
    "every third row": lambda A: jnp.sin(A @ normal(1, 4, 6))[1::3][1].sum(),
    "first and last row": lambda A: (jnp.sin(A @ normal(1, 4, 6))[0] * jnp.sin(A @ normal(1, 4, 6))[-1]).sum(),
    "a split": lambda A: jnp.prod(jnp.concatenate(jnp.split(jnp.sin(A @ normal(1, 4, 6)), 2, axis=1))[3]),
    "relu": lambda A: jax.nn.relu(A @ normal(1, 4, 6))[0].sum(),
    "softplus": lambda A: jax.nn.softplus(A)[0].sum(),
    "a rule with rules inside": lambda A: straight_through(A)[1].sum(),
    "columns": lambda A: jnp.exp(A @ normal(1, 4, 9))[:, 0].sum(),
    "a maximum over others": lambda A: jnp.exp(A - A.max(-1, keepdims=True))[3].sum(),
}
AS_THEY_ARE = {
    "all rows": lambda A: jnp.tanh(A @ normal(1, 4, 6)).sum(),
    "every row apart": lambda A: (lambda x: sum(x[i].sum() * i for i in range(8)))(jnp.tanh(A)),
    "a step that is not known": lambda A: jnp.cumsum(jnp.tanh(A), 0)[-1].sum(),
    "a kernel over rows": lambda A: conv(A, normal(1, 3, 4, 4))[0].sum(),
    "loops": lambda A: jax.lax.scan(lambda c, x: (c + x, jnp.sin(c)), A[0], A)[1].sum(),
}


def work(program):
    """The operations of the steps that compute something."""

    def shapes(values):
        return [program.avals[v].shape for v in values]

    return sum(
        flops_of_primitive(step.name, step.params, shapes(step.inputs), shapes(step.outputs))
        for step in program.steps
        if step.name not in REARRANGEMENTS
    )


def run(program, A):
    values = evaluate(program.steps, {**program.constants, program.inputs[0]: A})
    return values[program.outputs[0]]


@pytest.mark.parametrize("name", NARROWED)
def test_the_narrowed_program_is_the_same_function(name):
    A = normal(0, *SHAPE).at[:, 1].set(0)  # at a kink, rules count
    program = trace(NARROWED[name], A)
    narrow = narrowed(program)
    assert work(narrow) < 0.75 * work(program)
    both = jax.jit(lambda A: [jax.value_and_grad(functools.partial(run, of))(A) for of in (program, narrow)])
    (value, gradient), (narrow_value, narrow_gradient) = both(A)
    np.testing.assert_allclose(narrow_value, value, rtol=1e-5)
    np.testing.assert_allclose(narrow_gradient, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_programs_that_need_all_elements_are_not_narrowed(name):
    program = trace(AS_THEY_ARE[name], normal(0, *SHAPE))
    assert narrowed(program) is program


def test_what_reads_only_constants_does_not_depend_on_A():
    """The row of the class token, computed with those of the patches."""

    def f(A):
        x = jnp.tanh(jnp.concatenate([normal(1, 1, 4), A]) @ normal(2, 4, 6))
        return (x[0] * x[1:].sum(0)).sum()

    program = narrowed(trace(f, normal(0, *SHAPE)))
    rows = [v for step in program.steps if step.name == "tanh" for v in step.outputs]
    assert sorted((program.avals[v].shape, program.levels[v]) for v in rows) == [
        ((1, 6), Level.CONSTANT),
        ((8, 6), Level.SMOOTH),
    ]
