"""Keys of values: equal only for values that are and stay the same, their types included.

>>> key_of([1, 2.0]) == key_of([1, 2.0]), key_of([1]) == key_of([True])
(True, False)
>>> def scaled(by):
...     return lambda x: by * x
>>> key_of(scaled(2)) == key_of(scaled(2)), key_of(scaled(2)) == key_of(scaled(3))
(True, False)
"""

import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

# Larger arrays and containers are not compared by their elements.
MOST_BYTES = 2**16
MOST_ELEMENTS = 2**12
_PLAIN = bool | int | float | complex | str | bytes | type | np.dtype | np.generic | enum.Enum | None


class MayChangeError(Exception):
    """A value may change while it stays equal to itself."""


class Same:
    """A key of an object that is equal only for the object itself, which it keeps."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def key_of(value: Any) -> Hashable:
    """A key of what a value is now, its elements included.

    Raises:
      MayChangeError: there is no such key.
    """
    if isinstance(value, nnx.Pytree | nnx.Variable | jax.core.Tracer):
        raise MayChangeError
    if isinstance(value, _PLAIN):
        # A NaN is not equal to itself, and 0.0 is equal to -0.0.
        return type(value), repr(value) if isinstance(value, float | complex) else value
    if isinstance(value, tuple | list | set | frozenset | Mapping) and len(value) > MOST_ELEMENTS:
        raise MayChangeError
    if isinstance(value, tuple | list):
        return type(value), tuple(map(key_of, value))
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(key_of, value))
    if isinstance(value, Mapping):
        return type(value), tuple((key_of(key), key_of(item)) for key, item in value.items())
    if isinstance(value, np.ndarray | jax.Array):
        return _key_of_array(value)
    if isinstance(value, functools.partial):
        return key_of((value.func, value.args, value.keywords))
    frozen = getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False)
    if isinstance(value, nn.Module) or frozen:
        names = [each.name for each in dataclasses.fields(value) if each.name != "parent"]
        return type(value), tuple((name, key_of(getattr(value, name, None))) for name in names)
    if isinstance(value, types.FunctionType):
        return _key_of_function(value)
    library = type(value).__module__.split(".")[0]
    if callable(value) and library in ("jax", "jaxlib", "builtins") and not isinstance(value, types.MethodType):
        return value, key_of(getattr(value, "__wrapped__", None))
    if library in ("jax", "flax", "numpy") and not hasattr(value, "__array__"):
        return value
    raise MayChangeError


def _key_of_array(array: Any) -> Hashable:
    large = array.nbytes > MOST_BYTES or not getattr(array, "is_fully_addressable", True)
    if large or array.dtype == np.dtype(object) or not jnp.issubdtype(array.dtype, jnp.generic):
        raise MayChangeError
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise MayChangeError
    weak = getattr(array, "weak_type", False)
    return type(array), array.dtype, array.shape, weak, np.asarray(array).tobytes()


def _key_of_function(function: types.FunctionType) -> Hashable:
    """The key of a function: itself if a module holds it, otherwise its code and the values that it reads."""
    held = key_of([_closed_over(function), function.__defaults__, function.__kwdefaults__, vars(function)])
    if _is_of_module(function):
        return Same(function), held
    try:
        read = _global_values(function)
    except MayChangeError:
        return Same(function), held
    return function.__code__, Same(function.__globals__), held, read


def known_by_code(key: Hashable) -> bool:
    """Whether this is the key of a function that another function can have, too."""
    return isinstance(key, tuple) and isinstance(key[0], types.CodeType)


def _is_of_module(function: types.FunctionType) -> bool:
    module = sys.modules.get(function.__module__ or "")
    return getattr(module, function.__qualname__, None) is function


def _closed_over(function: types.FunctionType) -> list[Any]:
    """The values that a function closes over."""
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError as error:  # a variable that has no value yet
        raise MayChangeError from error


def _global_values(function: types.FunctionType) -> Hashable:
    """The keys of the global values that a function may read."""
    values = function.__globals__
    names = sorted(name for name in _names_in(function.__code__) if name in values)
    return tuple((name, _key_of_global(values[name])) for name in names)


def _key_of_global(value: Any) -> Hashable:
    if isinstance(value, types.ModuleType) or (isinstance(value, types.FunctionType) and _is_of_module(value)):
        return Same(value)
    return key_of(value)


def _names_in(code: types.CodeType) -> set[str]:
    """The names that a function's code reads, those of functions inside it included."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))
