"""Runs a function under `jit`, and compiles equal programs once.

`jax.jit` finds a compiled program by the identity of the Python function. A lambda that is written inside a loop is a
new function at each call, and may close over other weights, so that it must be traced at each call. XLA then compiles
the same program again, which takes a hundred times as long as the trace. Here the compiled program is found by what
was traced: primitives, parameters, shapes and types. The arrays that the function closes over are arguments.

    >>> import jax.numpy as jnp
    >>> before = _compile_once.cache_info().misses
    >>> for scale in jnp.arange(1.0, 4.0):
    ...     result = run_compiled(lambda x: scale * jnp.sin(x), jnp.ones(2))
    >>> _compile_once.cache_info().misses - before  # three traces, one program
    1
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jaxcam.tracing import CUSTOM_RULES, inner_jaxpr

PROGRAMS_KEPT = 64
CUSTOM_VMAP = "custom_vmap_call"


def run_compiled(f: Callable[..., Any], *args: Any) -> Any:
    """`f(*args)` under jit, with one compilation for all functions whose traced programs are equal.

    A program with side effects, such as a callback, is compiled for this call alone.

    Args:
      f: from pytrees of arrays to a pytree of arrays. It is traced at each call.
      *args: concrete arrays. The result must not be differentiated: programs may differ in the rules of a custom_jvp.
    """
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    try:
        compiled = _compile_once(_Keyed(closed.jaxpr))
    except _NoKeyError:
        compiled = _jitted(closed.jaxpr)
    results = compiled(closed.consts, jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


class _Keyed:
    """A jaxpr that is equal to those of the same structure."""

    def __init__(self, jaxpr):
        self.jaxpr, self.key = jaxpr, jaxpr_key(jaxpr)

    def __eq__(self, other):
        return self.key == other.key

    def __hash__(self):
        return hash(self.key)


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def _compile_once(keyed):
    return _jitted(keyed.jaxpr)


def _jitted(jaxpr):
    # Constants are arguments: inside the program, the weights of a VGG-16 take seconds to compile.
    return jax.jit(lambda consts, leaves: jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*leaves))


class _NoKeyError(Exception):
    """A program holds something that cannot be compared, or has side effects."""


def jaxpr_key(jaxpr: Jaxpr) -> Hashable:
    """A key that two jaxprs share only if they compute the same. Variables are numbered in the order of appearance."""
    if jaxpr.effects:
        raise _NoKeyError
    numbers: dict[Any, int] = {}

    def variable_key(var):
        return numbers.setdefault(var, len(numbers)), var.aval

    def atom_key(atom):
        return (_constant_key(atom.val), atom.aval) if isinstance(atom, Literal) else variable_key(atom)

    return (
        tuple(map(variable_key, jaxpr.constvars)),
        tuple(map(variable_key, jaxpr.invars)),
        tuple(
            (
                eqn.primitive,
                _params_key(eqn),
                _value_key(eqn.ctx),
                tuple(map(atom_key, eqn.invars)),
                tuple(map(variable_key, eqn.outvars)),
            )
            for eqn in jaxpr.eqns
        ),
        tuple(map(atom_key, jaxpr.outvars)),
    )


def _params_key(eqn):
    # A custom rule is unused once nothing is differentiated. Its functions are new at each trace.
    if eqn.primitive.name in CUSTOM_RULES:
        return _value_key(inner_jaxpr(eqn.params))
    if eqn.primitive.name == CUSTOM_VMAP:
        # Its rule is a new function at each trace, too, and nothing is batched any more.
        return _value_key({name: value for name, value in eqn.params.items() if name != "rule"})
    return _value_key(eqn.params)


def _value_key(value):
    if isinstance(value, ClosedJaxpr):
        return jaxpr_key(value.jaxpr), tuple(map(_constant_key, value.consts))
    if isinstance(value, Jaxpr):
        return jaxpr_key(value)
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_value_key, value))
    if isinstance(value, dict):
        return type(value), tuple((name, _value_key(value[name])) for name in sorted(value))
    if isinstance(value, float):
        return float, value.hex()  # 0.0 == -0.0
    try:
        hash(value)
    except TypeError as error:
        raise _NoKeyError from error
    return type(value), value


def _constant_key(constant):
    if np.ndim(constant) > 0:
        raise _NoKeyError
    array = np.asarray(constant)
    return array.dtype, array.tobytes()
