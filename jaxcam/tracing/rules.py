"""Other rules for the backward pass of every relu in a function, however the relu is written; and of stop_gradient.

The function is traced, its relus are found in the program, and the program is evaluated with another rule at each of
them. Its values stay the same, its gradient changes. Nothing is replaced in the model, so a functional relu is treated
as a relu layer is.

    >>> import jax, jax.numpy as jnp
    >>> def f(x):
    ...     return (jnp.array([1.0, -1.0, 1.0]) * jnp.where(x > 0, x, 0)).sum()
    >>> x = jnp.array([1.0, 2.0, -3.0])
    >>> [jax.grad(g)(x).tolist() for g in (f, guided(f), deconvnet(f))]
    [[1.0, -1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]

A relu is a value that is `x` where `x > 0` and zero elsewhere: `jax.nn.relu`, `jnp.maximum(x, 0)`, `jnp.where(x > 0, x,
0)` in all its spellings, `jnp.clip(x, 0)`, `x * (x > 0)`, and the lower end of `relu6` and `jnp.clip(x, 0, 6)`. jit,
remat, scan and cond are entered. A while loop has no reverse mode, and shard_map is not entered. Two kinds of value
are written like a relu and are not one:

- A guard: the maximum of a variance and zero, if only square roots, logarithms and denominators read it.
  `log1p(relu(x))` has a relu, because it needs no guard.
- A part of another activation: a relu of x that is added to a function of the same x that is not linear, as in celu,
  PReLU and softplus; and the clip of a shifted value in a hard sigmoid, `clip(x + 3, 0, 6)`.

A function with a custom rule (`jax.custom_jvp`, `jax.custom_vjp`) keeps the rule, with two exceptions that are entered:
a function that is nothing but a relu, and a block of layers with a relu among them, whose rule is the plain gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from jaxcam.tracing import _jaxpr, _relus, _steps, _stop_gradients
from jaxcam.tracing._primitives import REMAT

Rule = Callable[[jax.Array, jax.Array], jax.Array]


def guided(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function with guided backprop's rule at each relu: a gradient g becomes g if x > 0 and g > 0, else 0.

    Args:
      f: from a pytree with float arrays to any pytree. It is traced at every call, or once under `jax.jit`.

    Returns:
      A function with the values of `f`, for reverse mode: `jax.grad`, `jax.vjp`.

    Raises:
      ValueError: when it is called, if f has no relu: guided backprop would be the plain gradient.

    Springenberg et al., "Striving for simplicity: the all convolutional net", ICLR 2015 workshop, section 3.4.

    Example:
      >>> f = lambda x: -jax.nn.relu(x)
      >>> guided(f)(2.0).item(), jax.grad(guided(f))(2.0).item()
      (-2.0, 0.0)
    """
    return _with_rule(f, _guided, "guided backprop")


def deconvnet(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function with the deconvnet's rule at each relu: a gradient g becomes relu(g), whatever x is.

    Args:
      f: as in `guided`.

    Returns:
      A function with the values of `f`, for reverse mode: `jax.grad`, `jax.vjp`.

    Raises:
      ValueError: when it is called, if f has no relu.

    Zeiler & Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1.

    Example:
      >>> jax.grad(deconvnet(jax.nn.relu))(-2.0).item()
      1.0
    """
    return _with_rule(f, _deconvnet, "the deconvnet's gradient")


def through_stop_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """The same function without its `stop_gradient`s: the same values, and the gradient that they cut off.

    Heads on a frozen backbone are often written as `head(stop_gradient(backbone(x)))`. A map at a layer of the backbone
    is zero there, although the outputs depend on it. A straight-through estimator, `x + stop_gradient(round(x) - x)`,
    loses its gradient here; functions with a custom rule keep theirs.

    Args:
      f: from pytrees of arrays to a pytree of arrays. It is traced at every call, or once under `jax.jit`.

    Example:
      >>> f = lambda x: jax.lax.stop_gradient(3 * x) * x
      >>> jax.grad(f)(2.0).item(), jax.grad(through_stop_gradient(f))(2.0).item()
      (6.0, 12.0)
    """

    def looking_through(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        program = _stop_gradients.without_stop_gradients(closed)
        return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(program)(*jax.tree.leaves(args)))

    return looking_through


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


def _with_rule(f: Callable[[Any], Any], rule: Rule, rule_title: str) -> Callable[[Any], Any]:
    def ruled(x: Any) -> Any:
        leaves, tree = jax.tree.flatten(x)
        closed, shapes = jax.make_jaxpr(lambda leaves: f(jax.tree.unflatten(tree, leaves)), return_shape=True)(leaves)
        live_program, needs = _jaxpr.live(closed)
        program = _steps.flatten(live_program, _relus.enter_with_blocks)
        relus = _relus.relus_of(_relus.ValueGraph(program.steps, program.constants, program.outputs, program.avals))
        if not relus:
            name = getattr(f, "__name__", type(f).__name__)
            raise ValueError(f"{name} has no relu: {rule_title} would be its plain gradient, jax.grad")
        inputs = (jnp.asarray(leaf) for leaf, need in zip(leaves, needs, strict=True) if need)
        values = _evaluate_with_rule(program.steps, program.given(inputs), relus, rule)
        return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(values[v]) for v in program.outputs])

    return ruled


# ---- Evaluating a program with another rule at its relus.
def _evaluate_with_rule(
    steps: Sequence[_steps.Step], values: dict[int, Any], relus: dict[int, int], rule: Rule
) -> dict[int, Any]:
    """The values that the steps make; `relus` has the index of x among the inputs of the step that makes each relu."""

    def at_relus(step, inputs, values):
        inside = (inner for block in step.blocks for inner in _steps.innermost_steps(block.steps))
        if any(relus.keys() & set(inner.outputs) for inner in inside):
            return _blocks_with_rule(step, inputs, values, relus, rule)
        if relus.keys().isdisjoint(step.outputs):
            return None
        (y,), (v,) = step.run(*inputs), step.outputs
        return [_relu_with_rule(step, inputs, y, relus[v], rule)]

    return _steps.evaluate(steps, values, rule=at_relus)


def _relu_with_rule(step: _steps.Step, inputs: list[Any], y: jax.Array, place: int, rule: Rule) -> jax.Array:
    x, fixed = inputs[place], jax.lax.stop_gradient(y)
    y = rule(x, fixed)
    if step.name == "clamp":  # the upper bound has no rule
        y = jnp.where(x < inputs[2], y, fixed)
    return y


def _blocks_with_rule(
    step: _steps.Step, inputs: list[Any], values: dict[int, Any], relus: dict[int, int], rule: Rule
) -> list[Any]:
    """The outputs of a remat, a scan or a cond with relus in it."""
    params = step.params

    def run(block, *operands):
        known = {**values, **dict(zip(block.inputs, operands, strict=True))}
        made = _evaluate_with_rule(block.steps, known, relus, rule)
        return [made[v] for v in block.outputs]

    if step.name in REMAT:
        (block,) = step.blocks
        rematerialized = jax.checkpoint(
            lambda *operands: run(block, *operands), policy=params["policy"], prevent_cse=params["prevent_cse"]
        )
        return rematerialized(*inputs)
    if step.name == "cond":
        index, *operands = inputs
        branches = [lambda *operands, block=block: run(block, *operands) for block in step.blocks]
        return jax.lax.switch(index, branches, *operands)
    (block,) = step.blocks
    consts, carry = _jaxpr.scan_sizes(params)

    def body(carried, slices):
        out = run(block, *inputs[:consts], *carried, *slices)
        return out[:carry], out[carry:]

    last, stacked = jax.lax.scan(
        body, inputs[consts : consts + carry], inputs[consts + carry :],
        length=params["length"], reverse=params["reverse"], unroll=params["unroll"],
    )  # fmt: skip
    return [*last, *stacked]
