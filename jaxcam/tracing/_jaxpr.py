"""What jaxprs and their equations hold, read the same way in every version of JAX that jaxcam supports."""

from collections.abc import Callable, Collection
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

from jaxcam.tracing._primitives import CUSTOM_RULES


def shapes_of(tree: Any) -> Any:
    """The shape and type of each array, or of each abstract value of a program, as a `jax.ShapeDtypeStruct`.

    The full type is kept: varying manual axes inside `shard_map`, and the sharding of Explicit axes. A program traced
    without them cannot be applied to such arrays.
    """
    shapes = jax.eval_shape(lambda tree: tree, tree)
    return jax.tree.map(lambda leaf: leaf.update(weak_type=False) if leaf.weak_type else leaf, shapes)


def typed_as(value: jax.Array, like: jax.Array) -> jax.Array:
    """The value with the varying axes of `like`, and with its sharding if their shapes agree.

    A tangent must have its primal's full type, which a constant lacks. The zeros cost nothing when compiled.
    """
    shape = None if value.shape == like.shape else ()
    return value + jax.lax.full_like(like, 0, dtype=value.dtype, shape=shape)


def live(closed: ClosedJaxpr, *, keep_inputs: bool = False) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The program without the equations that no output needs, and for each input whether it is still among its inputs.

    JAX removes them, inside loops, branches and calls as well. `keep_inputs` keeps the inputs that nothing needs.
    """
    jaxpr, kept = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), keep_inputs)
    return ClosedJaxpr(jaxpr, closed.consts), tuple(kept)


def scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are constant over its iterations, and how many it carries between them."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry = params["ft_in"].unpack()[:2]  # since jax 0.11
    return len(consts), len(carry)


def rule_source(name: str, params: dict[str, Any]) -> str:
    """The function that a custom rule belongs to: its name and where it was written."""
    return getattr(inner_jaxpr(params).jaxpr.debug_info, "func_src_info", None) or name


def title_of(name: str, params: dict[str, Any]) -> str:
    """What to call an equation in a message: the function that it calls, or its primitive."""
    if name in CUSTOM_RULES:
        return rule_source(name, params).split(" at ")[0]
    return str(params.get("name") or name)


def inner_jaxprs(params: dict[str, Any]) -> list[Jaxpr]:
    """The jaxprs among a primitive's parameters."""
    leaves = [leaf for value in params.values() for leaf in (value if isinstance(value, list | tuple) else [value])]
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")]


def has_primitive(jaxpr: Jaxpr, names: Collection[str]) -> bool:
    """Whether a jaxpr, or one inside it, has an equation of one of the primitives."""
    return any(
        eqn.primitive.name in names or any(has_primitive(inner, names) for inner in inner_jaxprs(eqn.params))
        for eqn in jaxpr.eqns
    )


def inner_jaxpr(params: dict[str, Any]) -> ClosedJaxpr:
    """The jaxpr of a call, closed."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params:
            inner = params[name]
            return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    raise TypeError(f"expected a call with a jaxpr that jaxcam knows, got parameters {', '.join(params)}")


def binder(eqn: JaxprEqn) -> Callable[..., list[Any]]:
    """The function that applies an equation's primitive to values and returns a list of outputs."""

    def run(*values):
        # Before jax 0.10 the functions of a custom rule came apart from the other parameters.
        bound = eqn.primitive.get_bind_params(eqn.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        out = eqn.primitive.bind(*functions, *values, **params)
        return list(out) if eqn.primitive.multiple_results else [out]

    return run
