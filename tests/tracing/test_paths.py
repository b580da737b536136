"""Which values all paths go through, against a search of every path; and where axes are mixed, against Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.tracing import entering, flatten, mixes, passed_by_all


def reaches_without(program, source, avoided):
    """Whether the outputs can be reached from the source without one value, by a search over the steps."""
    known, grown = {source} - {avoided}, True
    while grown:
        grown = False
        for step in program.steps:
            new = set(step.outputs) - known - {avoided} if known & set(step.inputs) else set()
            grown = grown or bool(new)
            known |= new
    return bool(known & set(program.outputs))


def test_random_graphs():
    rng = np.random.default_rng(0)
    counts = set()
    for size in range(1, 40):

        def f(x, size=size):
            values = [x, jnp.ones(())]
            for _ in range(size):
                window = values[-3:]  # near values, so that some graphs have bottlenecks
                a, b = (window[i] for i in rng.integers(len(window), size=2))
                values.append(jnp.sin(a) if rng.random() < 0.5 else a * b)
            return values[-1], values[rng.integers(len(values) - 1, len(values))]

        program = flatten(jax.make_jaxpr(f)(1.0), entering(()))
        (source,) = program.inputs
        passed = passed_by_all(program, source)
        used, pending = set(program.outputs), list(program.outputs)
        makers = {v: step for step in program.steps for v in step.outputs}
        while pending:
            step = makers.get(pending.pop())
            new = set(step.inputs) - used if step else set()
            used |= new
            pending += new
        for v in used & set(makers):
            assert (v in passed) == (not reaches_without(program, source, v)), program
            counts.add(v in passed)
    assert counts == {True, False}


WEIGHT = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4)), jnp.float32)


def attention(x):
    probabilities = jax.nn.softmax(jnp.einsum("qhk,thk->hqt", x.reshape(6, 2, 2), x.reshape(6, 2, 2)))
    return jnp.einsum("hqt,thk->qhk", probabilities, x.reshape(6, 2, 2)).reshape(6, 4)


HEADS = {
    "class token": (lambda x: jnp.tanh(x @ WEIGHT)[0] @ WEIGHT, False),
    "class token behind a norm": (lambda x: ((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True))[0], False),
    "a batch axis": (lambda x: (x[None] @ WEIGHT)[:, 0], False),
    "mean": (lambda x: jnp.tanh(x).mean(0), True),
    "mean of the patches": (lambda x: jnp.tanh(x[1:]).mean(0), True),
    "attention, then the class token": (lambda x: (x + attention(x))[0], True),
    "flattened": (lambda x: x.reshape(-1) @ jnp.ones([24, 3]), True),
    "two tokens that are added": (lambda x: x[0] + jnp.sin(x)[0], False),
    "scanned": (lambda x: jax.lax.scan(lambda c, row: (c + row, None), jnp.zeros(4), x)[0], True),
}


@pytest.mark.parametrize("name", HEADS)
def test_mixed_axes(name):
    head, expected = HEADS[name]
    x = jax.random.normal(jax.random.key(0), (6, 4))
    program = flatten(jax.make_jaxpr(head)(x), entering({"jit", "pjit", "custom_jvp_call"}))
    assert mixes(program, program.inputs[0], 0) == expected
    slopes = np.abs(jax.jacobian(head)(x)).max(axis=-1).reshape(-1, 6).max(0)
    assert (np.count_nonzero(slopes) > 1) == expected
