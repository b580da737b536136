"""How `exact` is called: chunks, transformations, progress, warnings and errors."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import _exact, brute_force, exact, exact_cost
from tests.derivatives.heads import HEADS, assert_close, normal, pool


@pytest.mark.long
def test_any_batch_size_gives_the_same(x64):
    shape, f = HEADS["overlapping max pool"]
    A = jax.nn.relu(normal(0, *shape))
    expected = exact(f, A)
    for batch_size in (1, 5, 64, 1000):
        assert_close(exact(f, A, batch_size=batch_size), expected, 1e-13)
        assert_close(brute_force(f, A, batch_size=batch_size), expected, 1e-12)


@pytest.mark.long
def test_under_jit_vmap_and_grad(x64):
    shape, f = HEADS["dense, gelu"]
    A = jnp.stack([normal(seed, *shape) for seed in range(3)])
    weights = normal(1, 16, 7)

    def derivatives_of(weights, A):
        return exact(lambda A: jax.nn.gelu(pool(jax.nn.relu(A)).ravel() @ weights).sum(), A)

    def slow(weights, A):
        return brute_force(lambda A: jax.nn.gelu(pool(jax.nn.relu(A)).ravel() @ weights).sum(), A)

    alone = [derivatives_of(weights, each) for each in A]
    together = jax.jit(jax.vmap(derivatives_of, in_axes=(None, 0)))(weights, A)
    for i, expected in enumerate(alone):
        assert_close([each[i] for each in together], expected, 1e-12)
    loss = lambda which, weights, A: sum((each**2).sum() for each in which(weights, A)[1:])
    for argnums in (0, 1):
        result = jax.jit(jax.grad(functools.partial(loss, derivatives_of), argnums=argnums))(weights, A[0])
        expected = jax.jit(jax.grad(functools.partial(loss, slow), argnums=argnums))(weights, A[0])
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10 * float(jnp.abs(expected).max()))


def test_long_work_is_announced_under_jit(monkeypatch, caplog):
    shape, f = HEADS["attention"]
    monkeypatch.setattr(_exact, "FLOPS_WORTH_A_WARNING", 1)
    compiled = jax.jit(lambda A: exact(f, A))
    with caplog.at_level(logging.WARNING, logger="jaxcam"):
        compiled(normal(0, *shape)), compiled(normal(1, *shape))
    (record,) = caplog.records  # once, at the first trace
    assert "along 64 directions" in record.message and "derivatives='closed_form'" in record.message


@pytest.mark.parametrize("transformation", [lambda g: g, jax.jit])
def test_progress_is_called_after_each_chunk(transformation):
    calls = []
    shape, f = HEADS["attention"]
    A = normal(0, *shape)
    progress = lambda: calls.append(None)
    transformation(lambda A: exact(f, A, batch_size=10, progress=progress))(A)
    jax.effects_barrier()
    cost = exact_cost(f, jax.ShapeDtypeStruct(A.shape, A.dtype), batch_size=10)
    assert len(calls) == cost.chunks == 7 and cost.directions == 64 and cost.flops > 64


@pytest.mark.parametrize("name", ["relu, softmax", "squeeze and excite, softmax", "attention on tokens, softmax"])
def test_without_progress_there_are_no_side_effects(name):
    shape, f = HEADS[name]
    assert not jax.make_jaxpr(lambda A: exact(f, A))(normal(0, *shape)).effects


@pytest.mark.parametrize("name", ["a while loop", "locally affine"])
def test_nothing_is_pushed(name):
    shape, f = {**HEADS, "locally affine": ((2, 3), lambda A: jax.nn.relu(A).sum())}[name]
    calls = []
    exact(f, normal(0, *shape), progress=lambda: calls.append(None))
    assert exact_cost(f, normal(0, *shape)) == (0, 0, 0) and not calls


@pytest.mark.parametrize("which", [exact, brute_force])
@pytest.mark.parametrize(
    ("f", "A", "options", "error", "message"),
    [
        (lambda A: A, (2, 2), {}, TypeError, r"expected one real float for f\(A\), .* got float32\[2, 2\]"),
        (lambda A: (A.sum(),), (2, 2), {}, TypeError, r"expected one real float for f\(A\), .* got tuple"),
        (lambda A: A.argmax(), (2, 2), {}, TypeError, r"expected one real float for f\(A\), .* got int32\[\]"),
        (lambda A: A.sum(), (0, 2), {}, ValueError, r"A has shape \(0, 2\): it has no elements"),
        (lambda A: A.sum(), (2, 2), {"batch_size": 0}, ValueError, "expected an integer of at least 1 .* got 0"),
        (lambda A: A.sum(), (2, 2), {"batch_size": 1.5}, ValueError, "expected an integer of at least 1 .* got 1.5"),
    ],
)
def test_what_bad_input_gets(which, f, A, options, error, message):
    with pytest.raises(error, match=message):
        which(f, jnp.ones(A), **options)


@pytest.mark.parametrize("which", [exact, brute_force])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
def test_an_activation_of_another_type(which, dtype):
    with pytest.raises(TypeError, match=f"A is {jnp.dtype(dtype)}: derivatives along its elements need real floats"):
        which(lambda A: A.sum(), jnp.ones((2, 2), dtype))
