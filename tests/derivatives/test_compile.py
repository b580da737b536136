"""Equal programs are compiled once; programs that compute something else are told apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.derivatives import _compile, exact
from jaxcam.derivatives._compile import jaxpr_key, run_compiled
from tests.derivatives.heads import HEADS, TOKENS, assert_close, normal


def compilations(calls):
    """How many programs the calls compile."""
    before = _compile._compile_once.cache_info().misses
    for call in calls:
        call()
    return _compile._compile_once.cache_info().misses - before


def relu_softmax_head(weights):
    return lambda A: jax.nn.log_softmax(jax.nn.softmax(jax.nn.relu(A @ weights)).mean(0))[1]


@pytest.fixture(autouse=True)
def empty_cache():
    _compile._compile_once.cache_clear()


def test_a_new_lambda_over_other_weights_compiles_nothing():
    """relu and softmax have custom rules, whose functions are new at each trace."""
    A, results = normal(0, *TOKENS), []
    weights = [normal(seed, 4, 3) for seed in (1, 2, 3)]
    assert compilations([lambda w=w: results.append(exact(relu_softmax_head(w), A)) for w in weights]) == 1
    for w, result in zip(weights, results, strict=True):
        assert_close(result, jax.jit(lambda A, w=w: exact(relu_softmax_head(w), A))(A), 1e-5)


def test_weights_that_change_in_place_are_read_at_each_call():
    A, weights = normal(0, *TOKENS), np.ones((4, 3), np.float32)
    f = lambda A: jnp.tanh(A @ weights).sum()
    before = jax.block_until_ready(exact(f, A))  # the program may read the NumPy array itself
    weights[:] = 0.5
    assert_close(exact(f, A), exact(lambda A: jnp.tanh(A @ np.full((4, 3), 0.5, np.float32)).sum(), A), 1e-6)
    assert jnp.abs(exact(f, A).u2 - before.u2).max() > 0.1


def test_other_shapes_and_types_are_other_programs(x64):
    f = lambda A: jnp.tanh(A).sum()
    A = jnp.ones((3, 4))
    calls = [functools.partial(exact, f, other) for other in (A, A + 1, A[:2], A.astype(jnp.float32))]
    assert compilations(calls) == 3


@pytest.mark.parametrize("name", ["overlapping max pool", "group norm", "attention", "a recurrent net", "a while loop"])
def test_two_traces_of_exact_have_one_key(name):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    first, second = (jaxpr_key(jax.make_jaxpr(lambda A: exact(f, A))(A).jaxpr) for _ in range(2))
    assert first == second and hash(first) == hash(second)


def with_a_rule(f):
    ruled = jax.custom_jvp(f)
    ruled.defjvp(lambda primals, tangents: (ruled(*primals), tangents[0]))
    return ruled


DIFFERENT = {
    "a primitive": (jnp.sin, jnp.cos),
    "a parameter": (lambda x: x.sum(0), lambda x: x.sum(1)),
    "a number": (lambda x: x * 2.0, lambda x: x * 3.0),
    "the sign of zero": (lambda x: jnp.copysign(x, 0.0), lambda x: jnp.copysign(x, -0.0)),
    "the order of operands": (lambda x: x - x.T, lambda x: x.T - x),
    "an output": (lambda x: (x, x.T), lambda x: (x.T, x)),
    "what is inside a call": (jax.jit(lambda x: x.sum(0)), jax.jit(lambda x: x.sum(1))),
    "what is inside a loop": tuple(
        lambda x, g=g: jax.lax.fori_loop(0, 3, lambda _, x: g(x), x) for g in (jnp.sin, jnp.cos)
    ),
    "what is inside a custom rule": (with_a_rule(jnp.sin), with_a_rule(jnp.cos)),
    "a type on the way": tuple(lambda x, t=t: x.astype(t).astype(x.dtype) for t in (jnp.float16, jnp.bfloat16)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_programs_that_differ_have_different_keys(name):
    x = normal(0, 3, 3)
    first, second = (jaxpr_key(jax.make_jaxpr(f)(x).jaxpr) for f in DIFFERENT[name])
    assert first != second
    for f in DIFFERENT[name]:
        jax.tree.map(np.testing.assert_allclose, run_compiled(f, x), f(x))


def test_a_callback_is_called_at_each_call():
    """A program with side effects is not kept: another callback is another program."""
    calls = []

    def run(label):
        run_compiled(lambda x: (jax.debug.callback(lambda: calls.append(label)), x + 1)[1], jnp.ones(2))
        jax.effects_barrier()

    assert compilations([functools.partial(run, label) for label in ("first", "second", "second")]) == 0
    assert calls == ["first", "second", "second"]


def test_a_pure_callback_is_told_from_another():
    def call(scale, x):
        return jax.pure_callback(lambda x: scale * np.asarray(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    for scale in (2.0, 3.0):
        np.testing.assert_allclose(run_compiled(functools.partial(call, np.float32(scale)), jnp.ones(2)), scale)


def test_trees_of_arguments_and_results():
    result = run_compiled(lambda a, b: {"sum": a["x"] + b, "none": None, "pair": (b, a["x"])}, {"x": jnp.ones(2)}, 1.0)
    assert result["none"] is None and result["sum"].tolist() == [2.0, 2.0] and result["pair"][0] == 1.0
