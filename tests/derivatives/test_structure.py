"""What the structure of a program says about elements and axes, against Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives._program import trace
from jaxcam.derivatives._structure import find_independent_axes, find_seed
from jaxcam.tracing import evaluate
from tests.derivatives.heads import conv, layer_norm, normal, pool

SHAPE = (4, 4, 2)


def padded_windows(A):
    return jax.lax.reduce_window(A, 0.0, jax.lax.add, (2, 2, 1), (3, 2, 1), ((1, 1), (-1, 1), (0, 0)))


# A function to the seed, and the seed's shape.
TO_SEED = {
    "nothing": (lambda A: A, SHAPE),
    "max pooling": (pool, (2, 2, 2)),
    "global pooling": (lambda A: A.mean((0, 1)), (2,)),
    "a maximum over channels": (lambda A: A.max(-1), (4, 4)),
    "flattening": (lambda A: jax.nn.relu(A).ravel(), (32,)),
    "a slice that is turned and padded": (lambda A: jnp.pad(A[1:, ::-1].transpose(2, 0, 1), 1), (4, 5, 6)),
    "windows with gaps and padding": (padded_windows, (2, 2, 2)),
    "all of them": (lambda A: jax.nn.relu(pool(jax.nn.relu(A))).reshape(4, 2).sum(0), (2,)),
}


@pytest.mark.parametrize("name", TO_SEED)
def test_each_element_of_A_reaches_at_most_the_element_of_the_seed(name):
    to_seed, shape = TO_SEED[name]
    A = normal(0, *SHAPE)
    program = trace(lambda A: jnp.tanh(to_seed(A)).sum(), A)
    seed, seed_element_of = find_seed(program)
    assert program.avals[seed].shape == shape
    jacobian = np.asarray(jax.jacrev(to_seed)(A)).reshape(-1, A.size)
    for element, column in zip(seed_element_of, jacobian.T, strict=True):
        assert set(np.flatnonzero(column)) <= {element}


@pytest.mark.parametrize(
    "to_many",
    [
        lambda A: jnp.concatenate([A, A]),
        lambda A: A + A.mean(),
        lambda A: conv(A, normal(1, 3, 3, 2, 2)),
        lambda A: jnp.broadcast_to(A[..., None], (*SHAPE, 2)),
    ],
)
def test_a_seed_ends_where_an_element_reaches_several(to_many):
    program = trace(lambda A: jnp.tanh(to_many(2 * A)).sum(), normal(0, *SHAPE))
    seed, _ = find_seed(program)
    assert program.avals[seed].size == 32


INDEPENDENT = {
    "elementwise": (jnp.tanh, {0, 1, 2}),
    "layer norm": (layer_norm, {0, 1}),
    "dense": (lambda A: A @ normal(1, 2, 3), {0, 1}),
    "pointwise convolution": (lambda A: conv(A, normal(1, 1, 1, 2, 3)), {0, 1}),
    "convolution along one axis": (lambda A: conv(A, normal(1, 3, 1, 2, 3)), {1}),
    "transposed, reshaped and broadcast": (lambda A: A.transpose(2, 0, 1).reshape(8, 4)[None] + 1, {0, 1, 2}),
    "batched product": (lambda A: jnp.einsum("hwk,hvk->hwv", A, A), {0}),
    "a slice of another axis": (lambda A: A[:, 1:3], {0, 2}),
    "pooling over an axis": (lambda A: A.max(1), {0, 2}),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_an_independent_axis_is_never_mixed(name):
    """An axis that is reported as independent is independent in the Jacobian; the axes that we know are reported."""
    f, axes = INDEPENDENT[name]
    A = normal(0, *SHAPE)
    program = trace(f, A)
    independent = find_independent_axes(program, program.inputs[0], list(program.steps))
    assert set(independent) <= axes
    if "reshaped" not in name:
        assert set(independent) == axes
    jacobian = np.asarray(jax.jacrev(f)(A))
    (result,) = program.outputs
    assert np.allclose(evaluate(program.steps, program.constants | {program.inputs[0]: A})[result], f(A))
    for axis, positions in independent.items():
        pairs = np.moveaxis(jacobian, [positions[result], f(A).ndim + axis], [0, 1])
        assert not pairs[~np.eye(SHAPE[axis], dtype=bool)].any()
