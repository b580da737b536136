"""A flat program has the values of the function, and a slice of it those that were asked for."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.tracing import CALLS, CUSTOM_RULES, entering, evaluate, flatten, needed
from jaxcam.tracing._relus import enter_with_blocks
from jaxcam.tracing._steps import innermost_steps

X = jax.random.normal(jax.random.key(0), (5, 3))
W = jax.random.normal(jax.random.key(1), (3, 3))


def looped(x):
    carried, stacked = jax.lax.scan(lambda c, row: (jax.nn.relu(c @ W + row), c.sum()), x[0], x)
    return jax.lax.cond(carried.sum() > 0, lambda c: 2 * c, jnp.tanh, carried), stacked


FUNCTIONS = {
    "calls": lambda x: jax.jit(lambda x: jax.nn.silu(x) @ W)(jax.jit(jnp.sin)(x)),
    "several outputs": lambda x: (x.sum(), jnp.sort(x), x, 1.0),
    "loops": looped,
    "remat": jax.checkpoint(lambda x: jnp.exp(x) @ W),
    "custom rules": lambda x: jax.nn.relu6(jax.nn.relu(x)),
}
ENTERS = {
    "nothing": entering(()),
    "calls": entering(CALLS),
    "rules, too": entering(CALLS | CUSTOM_RULES),
    "blocks": enter_with_blocks,
}


def flat(name, enter):
    closed = jax.make_jaxpr(FUNCTIONS[name])(X)
    return flatten(closed, ENTERS[enter]), jax.tree.leaves(FUNCTIONS[name](X))


@pytest.mark.parametrize(("name", "enter"), list(itertools.product(FUNCTIONS, ENTERS)))
def test_evaluation_gives_the_function(name, enter):
    program, expected = flat(name, enter)
    values = evaluate(program.steps, program.given([X]))
    for v, value in zip(program.outputs, expected, strict=True):
        np.testing.assert_allclose(values[v], value, rtol=1e-6)
    for v, value in values.items():
        assert program.avals[v].shape == np.shape(value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_value_is_made_once_and_before_it_is_read(name):
    program, _ = flat(name, "blocks")
    made = {*program.inputs, *program.constants}

    def check(steps):
        for step in steps:
            assert made.issuperset(step.inputs)
            for block in step.blocks:
                made.update(block.inputs)
                check(block.steps)
            assert made.isdisjoint(step.outputs)
            made.update(step.outputs)

    check(program.steps)
    assert made.issuperset(program.outputs)


def test_a_slice_has_the_steps_that_are_needed_and_no_others():
    program = flatten(jax.make_jaxpr(lambda x, y: (jnp.sin(x) + 1, jnp.cos(y) * 2))(1.0, 2.0), entering(()))
    steps, read = needed(program.steps, program.outputs[1:])
    assert [step.name for step in steps] == ["cos", "mul"]
    assert [v in read for v in program.inputs] == [False, True]
    (product,) = needed(program.steps, program.outputs[1:], known=steps[0].outputs)[0]
    assert product.name == "mul"
    assert needed(program.steps, [program.inputs[0]]) == ((), {program.inputs[0]})


def test_a_rule_replaces_steps_and_sees_the_values():
    program = flatten(jax.make_jaxpr(lambda x: jnp.exp(jnp.sin(x)) + x)(1.0), entering(()))

    def rule(step, inputs, values):
        if step.name == "exp":
            return [inputs[0] + values[program.inputs[0]]]

    values = evaluate(program.steps, program.given([3.0]), rule=rule)
    np.testing.assert_allclose(values[program.outputs[0]], np.sin(3.0) + 3 + 3, rtol=1e-6)


def test_titles_of_the_calls_around_a_step_and_steps_inside_blocks():
    def enter(builder, eqn, inputs):
        return (
            builder.write_out(eqn.params["jaxpr"], inputs, title=eqn.params["name"]) if eqn.params.get("name") else None
        )

    @jax.jit
    def inner(x):
        return jnp.sin(x)

    @jax.jit
    def outer(x):
        return jnp.cos(inner(x))

    program = flatten(jax.make_jaxpr(lambda x: jnp.tan(outer(x)))(1.0), enter)
    assert [(step.name, step.within) for step in program.steps] == [
        ("sin", ("outer", "inner")), ("cos", ("outer",)), ("tan", ()),
    ]  # fmt: skip
    names = [step.name for step in innermost_steps(flat("loops", "blocks")[0].steps)]
    assert {"dot_general", "max", "tanh", "gt"} <= set(names) and not {"scan", "cond"} & set(names)
