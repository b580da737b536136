"""TODO."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.interpreters import partial_eval

from jaxcam.tracing._primitives import RULES


def shapes_of(tree: Any) -> Any:
    """Shapes and types of arrays, or of what a program says of them, in a `jax.ShapeDtypeStruct` each.

    With all that a type says: inside a shard_map, where an array may differ from device to device, and for axes that
    are Explicit how it is divided. A program that was traced without could not be run on such arrays.
    """
    found = jax.eval_shape(lambda tree: tree, tree)
    return jax.tree.map(lambda leaf: leaf.update(weak_type=False) if leaf.weak_type else leaf, found)


def typed_as(value: jax.Array, like: jax.Array) -> jax.Array:
    """The value as one that differs from device to device where `like` does, and is divided as it where shapes agree.

    A tangent has to be of its primal's type, also in this, and a constant is not. The zeros cost nothing when compiled.
    """
    shape = None if value.shape == like.shape else ()
    return value + jax.lax.full_like(like, 0, dtype=value.dtype, shape=shape)


def live(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The program without what does not reach its outputs, inside its calls too, and which of its inputs it needs."""
    jaxpr, needs = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return ClosedJaxpr(jaxpr, closed.consts), tuple(needs)


def _title(eqn):
    return called(eqn) if eqn.primitive.name in RULES else str(eqn.params.get("name") or eqn.primitive.name)


def scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's inputs are the same at every step, and how many are carried from one to the next."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry = params["ft_in"].unpack()[:2]  # since jax 0.11
    return len(consts), len(carry)


def called(eqn: Any) -> str:
    """The name of the function that a custom rule belongs to."""
    return source(eqn).split(" at ")[0]


def source(eqn: Any) -> str:
    """The name of the function that a custom rule belongs to, and where it was written."""
    return getattr(inner_jaxpr(eqn.params).jaxpr.debug_info, "func_src_info", None) or eqn.primitive.name


def inner_jaxprs(params: dict[str, Any]) -> list[Any]:
    """The jaxprs among a primitive's parameters."""
    leaves = [leaf for value in params.values() for leaf in (value if isinstance(value, list | tuple) else [value])]
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")]


def inner_jaxpr(params: dict[str, Any]) -> ClosedJaxpr:
    """A call's jaxpr, closed."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params:
            inner = params[name]
            return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    raise TypeError(f"a call with parameters {', '.join(params)} has no jaxpr that jaxcam knows")


def binder(eqn: Any) -> Callable[..., list[Any]]:
    """The function that applies an equation's primitive to values, with a list for its outputs."""

    def run(*values):
        # Before jax 0.10 the functions of a custom rule came apart from the other parameters.
        bound = eqn.primitive.get_bind_params(eqn.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        out = eqn.primitive.bind(*functions, *values, **params)
        return list(out) if eqn.primitive.multiple_results else [out]

    return run
