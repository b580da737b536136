"""Targets of any kind through jit: arrays and numbers are traced, and every other leaf is static.

A target is any pytree that the score understands. `jax.jit` takes arrays and numbers only, so a string, a bool or an
object among its leaves travels in the structure of the pytree, where it is part of what a program is compiled for.

    >>> def logit(outputs, target):
    ...     return -outputs[target["class"]] if target["sign"] == "minus" else outputs[target["class"]]
    >>> float(jit_with_target(logit)(jax.numpy.arange(3.0), {"class": 2, "sign": "minus"}))
    -2.0
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.checks import is_key


class StaticLeaf:
    """A leaf that is no array, as a node without children: JAX compares it with others and does not look into it."""

    def __init__(self, value: Any):
        self.value = value


# The type is part of what is compared: True == 1 == 1.0.
jax.tree_util.register_pytree_node(
    StaticLeaf, lambda leaf: ((), (type(leaf.value), leaf.value)), lambda aux, _: StaticLeaf(aux[1])
)


def jit_with_target(
    function: Callable[..., Any], *, place: int | None = None, static_argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """`jax.jit` of a function with a positional argument that is a target, any pytree.

    Args:
      function: any function. Every leaf of the target that is no array reaches it as it is; arrays and numbers are
        traced.
      place: the number of the target among the arguments; by default that of the parameter `target`.
      static_argnames: as in `jax.jit`.

    Example:
      >>> jit_with_target(lambda outputs, target: outputs[target])(jax.numpy.arange(3.0), "last")
      Traceback (most recent call last):
        ...
      TypeError: ...
    """
    if place is None:
        place = list(inspect.signature(function).parameters).index("target")

    @functools.wraps(function)
    def with_plain_target(*arguments, **options):
        return function(*_replaced(arguments, place, without_static_leaves), **options)

    compiled = jax.jit(with_plain_target, static_argnames=static_argnames)

    @functools.wraps(function)
    def call(*arguments, **options):
        return compiled(*_replaced(arguments, place, with_static_leaves), **options)

    return call


def _replaced(arguments, place, change):
    return (*arguments[:place], *map(change, arguments[place : place + 1]), *arguments[place + 1 :])


def with_static_leaves(target: Any) -> Any:
    """The target with a `StaticLeaf` in the place of every leaf that is neither an array nor a number.

    Raises:
      TypeError: such a leaf has no hash, so that programs cannot be told apart by it.

    Example:
      >>> jax.tree.leaves(with_static_leaves(("logits", 3, True)))
      [3]
    """
    if all(map(_is_traceable, jax.tree.leaves(target))):
        return target
    return jax.tree.map(lambda leaf: leaf if _is_traceable(leaf) else _static_leaf(leaf), target)


def without_static_leaves(target: Any) -> Any:
    """The target that `with_static_leaves` was given.

    Example:
      >>> without_static_leaves(with_static_leaves(("logits", 3, True)))
      ('logits', 3, True)
    """
    if not any(map(_is_static_leaf, jax.tree.leaves(target, is_leaf=_is_static_leaf))):
        return target
    return jax.tree.map(lambda leaf: leaf.value if _is_static_leaf(leaf) else leaf, target, is_leaf=_is_static_leaf)


def _static_leaf(value):
    try:
        hash(value)
    except TypeError as error:
        kind = f"an array of {value.dtype}" if hasattr(value, "dtype") else f"a {type(value).__name__} without a hash"
        raise TypeError(
            f"expected leaves of target that are arrays of numbers or have a hash, such as a string, got {kind}: "
            "register its class with jax.tree_util, or let the score close over it"
        ) from error
    return StaticLeaf(value)


def _is_static_leaf(value):
    return isinstance(value, StaticLeaf)


def _is_traceable(leaf: Any) -> bool:
    """Whether JAX traces a leaf. A Python bool stays as it is, because a score may branch on it."""
    if isinstance(leaf, jax.Array):
        return True
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype == bool or jnp.issubdtype(leaf.dtype, np.number)
    return isinstance(leaf, int | float | complex) and not isinstance(leaf, bool)


def describe_target(target: Any) -> str:
    """What a report says of the target that is explained.

    Example:
      >>> describe_target(3), describe_target({"box": np.ones(4), "side": "left"})
      ('class 3', "target ['box']: [4], ['side']: 'left'")
      >>> describe_target(None)
      'no target'
    """
    if target is None:
        return "no target"
    return f"class {int(target)}" if is_integer(target) else f"target {target_as_json(target)}"


def target_as_json(target: Any) -> Any:
    """A target as JSON has it: one number or text as it is, and the leaves of anything else by path, as text.

    Example:
      >>> target_as_json(np.float32(0.5)), target_as_json((np.ones([2, 2]), 3))
      (0.5, '[0]: [2, 2], [1]: 3')
    """
    if target is None or isinstance(target, bool | int | float | str):
        return target
    if hasattr(target, "shape") and target.shape == () and _is_traceable(target) and not is_key(target):
        value = np.asarray(target).item()
        return value if isinstance(value, bool | int | float) else str(value)
    leaves = jax.tree_util.tree_leaves_with_path(target)
    return ", ".join(f"{jax.tree_util.keystr(path)}: {_shape_or_value(leaf)}".lstrip(": ") for path, leaf in leaves)


def _shape_or_value(leaf):
    return list(leaf.shape) if getattr(leaf, "shape", ()) else repr(leaf)


def is_integer(target: Any) -> bool:
    """Whether a target is one integer, which score and outputs may take for a class; a bool is none.

    Example:
      >>> [is_integer(target) for target in (3, np.uint8(3), jnp.array(3), True, 3.0, np.array([3]))]
      [True, True, True, False, False, False]
    """
    if hasattr(target, "dtype") and hasattr(target, "shape"):
        return target.shape == () and not is_key(target) and bool(jnp.issubdtype(target.dtype, jnp.integer))
    return isinstance(target, int) and not isinstance(target, bool)
