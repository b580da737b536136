"""Other rules for the backward pass of a relu, wherever in a function it is and however it is written.

The function is traced, its relus are found in the program, and the program is run with another rule at each: the values
are the same, the gradient is not. Nothing is swapped in the model, so a functional relu is as good as a layer.

    >>> import jax, jax.numpy as jnp
    >>> def f(x):
    ...     return (jnp.array([1.0, -1.0, 1.0]) * jnp.where(x > 0, x, 0)).sum()
    >>> x = jnp.array([1.0, 2.0, -3.0])
    >>> [jax.grad(g)(x).tolist() for g in (f, guided(f), deconvnet(f))]
    [[1.0, -1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]

A relu is a value that is `x` where `x > 0` and zero elsewhere: `jax.nn.relu`, `jnp.maximum(x, 0)`, `jnp.where(x > 0, x,
0)` in all its spellings, `jnp.clip(x, 0)`, `x * (x > 0)`, and the lower end of `relu6` and `jnp.clip(x, 0, 6)`. jit,
remat, scan and cond are entered; a while loop has no reverse mode, and shard_map is left as it is. Not a relu, though
it is written as one:

- a guard: the maximum of a variance and zero, which goes into a square root, a logarithm or a denominator and nowhere
  else. `log1p(relu(x))` is none, as it needs no guard;
- a part of another activation: a relu of x that is added to a function of the same x that is not linear, as in celu,
  PReLU and softplus, and the clip of a shifted value in a hard sigmoid, `clip(x + 3, 0, 6)`.

A function with a rule of its own (`jax.custom_jvp`, `jax.custom_vjp`) keeps it, unless it is nothing but a relu, or a
block of layers with a relu among them: that is entered, as its own rule is the plain gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.tracing._jaxpr import live, scan_sizes
from jaxcam.tracing._relus import REMAT, _entered, _Graph, _relus, _written_out
from jaxcam.tracing._steps import Flat, Step

Rule = Callable[[jax.Array, jax.Array], jax.Array]


def guided(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function with guided backprop's rule at each relu: a gradient g goes back as g where x > 0 and g > 0.

    Args:
      f: from a pytree with float arrays to any pytree. It is traced when it is called: under `jax.jit` that is once.

    Returns:
      A function with the values of `f`, for reverse mode: `jax.grad`, `jax.vjp`.

    Raises:
      ValueError: when it is called, where f has no relu: guided backprop would be the plain gradient.

    Springenberg et al., "Striving for simplicity: the all convolutional net", ICLR 2015 workshop, section 3.4.

    Example:
      >>> f = lambda x: -jax.nn.relu(x)
      >>> guided(f)(2.0).item(), jax.grad(guided(f))(2.0).item()
      (-2.0, 0.0)
    """
    return _with_rule(f, _guided, "guided backprop")


def deconvnet(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function with the deconvnet's rule at each relu: a gradient g goes back as relu(g), wherever x is.

    Args:
      f: as in `guided`.

    Returns:
      A function with the values of `f`, for reverse mode: `jax.grad`, `jax.vjp`.

    Raises:
      ValueError: when it is called, where f has no relu.

    Zeiler & Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1.

    Example:
      >>> jax.grad(deconvnet(jax.nn.relu))(-2.0).item()
      1.0
    """
    return _with_rule(f, _deconvnet, "the deconvnet's gradient")


@jax.custom_vjp
def _guided(x, y):
    return y


@jax.custom_vjp
def _deconvnet(x, y):
    return y


_guided.defvjp(
    lambda x, y: (y, x > 0),
    lambda positive, g: (jnp.where(positive & (g > 0), g, 0), jnp.zeros_like(g)),
)
_deconvnet.defvjp(
    lambda x, y: (y, None),
    lambda _, g: (jnp.where(g > 0, g, 0), jnp.zeros_like(g)),
)


def _with_rule(f, rule: Rule, what):
    def ruled(x):
        leaves, tree = jax.tree.flatten(x)
        closed, shapes = jax.make_jaxpr(lambda leaves: f(jax.tree.unflatten(tree, leaves)), return_shape=True)(leaves)
        program, needs = live(closed)
        flat = Flat(_entered)
        given = [flat.value() for _ in program.jaxpr.invars]
        outputs = flat.through(program.jaxpr, program.consts, given)
        relus = _relus(_Graph(flat.steps, flat.constants, outputs))
        if not relus:
            name = getattr(f, "__name__", type(f).__name__)
            raise ValueError(f"{name} has no relu: {what} would be its plain gradient, jax.grad")
        needed = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
        values = flat.constants | dict(zip(given, map(jnp.asarray, needed), strict=True))
        values = _run(flat.steps, values, relus, rule)
        return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(values[v]) for v in outputs])

    return ruled


# ---- Running a program with another rule at its relus.
def _run(steps: Sequence[Step], values: dict[int, Any], relus: dict[int, int], rule: Rule) -> dict[int, Any]:
    """The values with those that the steps make; `relus` has the place of x among the inputs of what makes each."""
    values = dict(values)
    for step in steps:
        inputs = [values[v] for v in step.inputs]
        if any(relus.keys() & set(inner.outputs) for inner in _written_out(step.blocks)):
            made = _run_blocks(step, inputs, values, relus, rule)
        else:
            made = step.run(*inputs)
            for v in relus.keys() & set(step.outputs):
                made = [_ruled(step, inputs, made[0], relus[v], rule)]
        values.update(zip(step.outputs, made, strict=True))
    return values


def _ruled(step, inputs, y, place, rule):
    x, fixed = inputs[place], jax.lax.stop_gradient(y)
    y = rule(x, fixed)
    if step.eqn.primitive.name == "clamp":  # the upper bound has no rule
        y = jnp.where(x < inputs[2], y, fixed)
    return y


def _run_blocks(step, inputs, values, relus, rule):
    """The outputs of a remat, a scan or a cond with relus in it."""
    params, name = step.eqn.params, step.eqn.primitive.name

    def run(block, *given):
        now = _run(block.steps, {**values, **dict(zip(block.inputs, given, strict=True))}, relus, rule)
        return [now[v] for v in block.outputs]

    if name in REMAT:
        (block,) = step.blocks
        again = jax.checkpoint(
            lambda *given: run(block, *given), policy=params["policy"], prevent_cse=params["prevent_cse"]
        )
        return again(*inputs)
    if name == "cond":
        index, *operands = inputs
        branches = [lambda *given, block=block: run(block, *given) for block in step.blocks]
        return jax.lax.switch(index, branches, *operands)
    (block,) = step.blocks
    consts, carry = scan_sizes(params)

    def body(carried, each):
        out = run(block, *inputs[:consts], *carried, *each)
        return out[:carry], out[carry:]

    last, all_of = jax.lax.scan(
        body, inputs[consts : consts + carry], inputs[consts + carry :],
        length=params["length"], reverse=params["reverse"], unroll=params["unroll"],
    )  # fmt: skip
    return [*last, *all_of]
