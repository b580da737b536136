"""Softmax as two sums: which programs are rewritten, and that the function stays the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives._program import trace
from jaxcam.derivatives._softmax import with_late_division
from jaxcam.tracing import evaluate
from tests.derivatives.heads import normal

SHAPE = (5, 4)


def by_hand(scores):
    exponentials = jnp.exp(scores)
    return exponentials / exponentials.sum(-1, keepdims=True)


def weighed(weights, A):
    return jnp.sin(weights @ A).sum()


LATE = {
    "jax.nn.softmax": lambda A: weighed(jax.nn.softmax(A @ A.T), A),
    "by hand": lambda A: weighed(by_hand(A @ A.T), A),
    "heads": lambda A: jnp.sin(
        jnp.einsum("hqk,khc->qhc", jax.nn.softmax(normal(1, 2, 3, 5) * A[None, None, :, 0]), heads(A))
    ).sum(),
    "on the right": lambda A: jnp.sin(jnp.einsum("ck,qk->cq", A.T, jax.nn.softmax(A @ A.T))).sum(),
    "transposed": lambda A: jnp.sin(A.T @ by_hand(A @ A.T).T).sum(),
    "over two axes": lambda A: jnp.sin(jnp.tensordot(jax.nn.softmax(A, (0, 1)), normal(1, 5, 4, 3), 2)).sum(),
    "over one of two axes": lambda A: jnp.sin(
        jnp.einsum("ij,jk->ik", jax.nn.softmax(A, (0, 1)), normal(1, 4, 3))
    ).sum(),
}
AS_THEY_ARE = {
    "summed over another axis": lambda A: weighed(jax.nn.softmax(A, 0), normal(1, 4, 3)),
    "divided by another sum": lambda A: weighed(A / jnp.exp(A).sum(-1, keepdims=True), normal(1, 4, 3)),
    "divided by a sum of columns": lambda A: weighed(A[:4] / A[:4].sum(-1)[None], normal(1, 4, 3)),
    "in half precision": lambda A: weighed(jax.nn.softmax(A @ A.T).astype(jnp.bfloat16), A.astype(jnp.bfloat16)),
    "no product": lambda A: jnp.sin(jax.nn.softmax(A)).sum(),
}


def heads(A):
    return A.reshape(5, 2, 2)


def run(program, A):
    values = evaluate(program.steps, {**program.constants, program.inputs[0]: A})
    return values[program.outputs[0]]


@pytest.mark.parametrize("name", LATE)
def test_the_division_comes_behind_the_product(name):
    A = normal(0, *SHAPE)
    program = trace(LATE[name], A)
    late = with_late_division(program)
    order = [step.name for step in late.steps]
    assert order.index("div") > max(i for i, step in enumerate(order) if step == "dot_general")
    both = jax.jit(lambda A: [jax.value_and_grad(functools.partial(run, of))(A) for of in (program, late)])
    (value, gradient), (late_value, late_gradient) = both(A)
    np.testing.assert_allclose(late_value, value, rtol=1e-5)
    np.testing.assert_allclose(late_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_other_divisions_stay_where_they_are(name):
    program = trace(AS_THEY_ARE[name], normal(0, *SHAPE))
    assert with_late_division(program) is program


def test_the_type_of_the_product_is_kept(x64):
    """As `jax.nn.dot_product_attention` has it: the softmax in float32, the product in float64."""

    def f(A):
        return weighed(jax.nn.softmax((A @ A.T).astype(jnp.float32)).astype(jnp.float64), A)

    program = trace(f, normal(0, *SHAPE))
    (product,) = (step for step in with_late_division(program).steps[2:] if step.name == "dot_general")
    late = with_late_division(program)
    assert late is not program and late.avals[product.outputs[0]].dtype == jnp.float64
