"""Second and third derivatives of some elements only: `exact(..., where=)`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import _taylor, brute_force, exact
from tests.derivatives.heads import HEADS, assert_close, normal

SHAPE, HEAD = HEADS["dense, gelu"]


def masked(derivatives, mask):
    return derivatives._replace(u2=jnp.where(mask, derivatives.u2, 0), u3=jnp.where(mask, derivatives.u3, 0))


@pytest.mark.parametrize("name", ["dense, gelu", "layer norm, pool", "a while loop"])
def test_outside_the_mask_is_zero_and_inside_is_brute_force(name, x64):
    shape, f = HEADS[name]
    A, mask = normal(0, *shape), normal(1, *shape) > 0
    ours, expected = jax.jit(lambda A, mask: (exact(f, A, where=mask, batch_size=5), brute_force(f, A)))(A, mask)
    assert_close(ours, masked(expected, mask))


@pytest.mark.long
def test_a_function_of_u1_under_vmap_and_grad(x64):
    A = jnp.stack([normal(seed, *SHAPE) for seed in range(3)])

    def positive(A):
        return exact(HEAD, A, where=lambda u1: u1 > 0, batch_size=4)

    def slow(A):
        full = brute_force(HEAD, A)
        return masked(full, full.u1 > 0)

    def loss(which, A):
        return sum((derivative**2).sum() for derivative in jax.vmap(which)(A)[1:])

    def both(which):
        return jax.jit(lambda A: (jax.vmap(which)(A), jax.grad(lambda A: loss(which, A))(A)))(A)

    (ours, our_gradient), (expected, gradient) = both(positive), both(slow)
    assert_close(ours, expected)
    np.testing.assert_allclose(our_gradient, gradient, rtol=0, atol=1e-9 * float(jnp.abs(gradient).max()))


def test_chunks_without_an_element_are_skipped(monkeypatch):
    """Sixteen of 64 directions pass max pooling, four at a time; under vmap those of any example."""
    pushed, make_push = [], _taylor._make_push

    def make_counting_push(*arguments):
        push = make_push(*arguments)

        def counting(indices):
            jax.debug.callback(lambda _: pushed.append(None), indices[0])
            return push(indices)

        return counting

    monkeypatch.setattr(_taylor, "_make_push", make_counting_push)
    A = normal(0, *SHAPE)
    passing = jnp.argsort(-jnp.abs(jax.grad(HEAD)(A).ravel()))
    where = jnp.stack([jnp.zeros(64, bool).at[passing[:count]].set(True).reshape(SHAPE) for count in (0, 1, 5)])
    jax.jit(jax.vmap(lambda mask: exact(HEAD, A, where=mask, batch_size=4)))(where)
    jax.effects_barrier()
    assert len(pushed) == 2  # one order of directions for all examples, so that a chunk is pushed once for all


def test_nan_stays_nan():
    f = lambda A: jnp.log(A).sum()
    derivatives = exact(f, -jnp.ones([2, 2]), where=lambda u1: u1 > 0)
    assert all(np.isnan(derivative).all() for derivative in (derivatives.u, derivatives.u2, derivatives.u3))


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (jnp.ones(SHAPE), TypeError, "expected a boolean mask for where, got float32"),
        (jnp.ones(3, bool), ValueError, r"expected a mask of A's shape \(4, 4, 4\) for where, got \(3,\)"),
        (lambda u1: u1, TypeError, "expected a boolean mask for where, got float32"),
    ],
)
def test_bad_masks(where, error, message):
    with pytest.raises(error, match=message):
        exact(HEAD, normal(0, *SHAPE), where=where)


def test_targets_share_one_push(x64):
    """Under vmap over targets alone, masks that differ leave the push of the head as it is for one target."""
    V = jax.random.normal(jax.random.key(0), (24, 24)) / 5
    Z = jax.random.normal(jax.random.key(1), (24, 40))
    A = jax.random.normal(jax.random.key(2), (2, 3, 4))

    def of_target(A, target):
        return exact(lambda A: jnp.tanh(jnp.tanh(A.ravel() @ V) @ V @ Z)[target], A, where=lambda u1: u1 > 0)

    targets = jnp.arange(40)
    together = jax.vmap(of_target, (None, 0))(A, targets)
    for target in (0, 7, 39):
        for value, expected in zip(together, of_target(A, target), strict=True):
            np.testing.assert_allclose(value[target], expected, rtol=1e-12, atol=1e-14)
    pairs = jax.vmap(of_target)(jnp.stack([A, 2 * A]), targets[:2])
    for value, expected in zip(pairs, of_target(2 * A, 1), strict=True):
        np.testing.assert_allclose(value[1], expected, rtol=1e-12, atol=1e-14)

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    # Two of three products are pushed once for all targets.
    assert flops(jax.vmap(of_target, (None, 0)), A, targets) < 12 * flops(of_target, A, targets[0])
