"""One function for models that are the same: jit knows a function by its identity, and compiles anew for another.

Being equal is not being the same. What a model holds may be changed while it stays equal to itself (a module behind a
lambda, an object of settings), and 1 is equal to True, which a model may tell apart. Where what is held does not say
all that it means, nothing is shared: the price is a trace.

    >>> shared = Shared()
    >>> def make(width):
    ...     return lambda x: x * width
    >>> shared.once(make, 2) is shared.once(make, 2)
    True
    >>> shared.once(make, 1, exact=[1]) is shared.once(make, 1, exact=[True])
    False
    >>> settings = object()
    >>> shared.once(make, 2, exact=[settings]) is shared.once(make, 2, exact=[settings])
    False
"""

import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flax import linen as nn
from flax import nnx


class Shared:
    """What has been made, by what it was made of; the last 256."""

    def __init__(self):
        self._made = functools.lru_cache(maxsize=256)(lambda make, description, exact: make(description))

    def once(self, make: Callable[[Any], Any], description: Any, *, exact: Iterable[Any] = ()) -> Any:
        """`make(description)`, the same for descriptions that are equal and have the same `exact` parts.

        What cannot be hashed, or holds what may change or an array, is made anew.
        """
        try:
            return self._made(make, description, tuple(map(_exact, exact)))
        except (_NotExact, RecursionError):  # a function that holds itself
            return make(description)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return make(description)


class _NotExact(Exception):
    """A part may change, or hold an array, while it stays equal to itself."""


def _exact(value):
    """What is equal for parts that are the same for good, types among them."""
    if isinstance(value, nnx.Pytree | nnx.Variable):
        raise _NotExact
    if isinstance(value, bool | int | float | complex | str | bytes | type | np.dtype | np.generic | enum.Enum | None):
        return type(value), value
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_exact, value))
    if isinstance(value, Mapping):
        return type(value), tuple((key, _exact(item)) for key, item in value.items())
    if isinstance(value, functools.partial):
        return _exact((value.func, value.args, value.keywords))
    frozen = getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False)
    if isinstance(value, nn.Module) or frozen:
        names = [each.name for each in dataclasses.fields(value) if each.name != "parent"]
        return type(value), tuple((name, _exact(getattr(value, name, None))) for name in names)
    if isinstance(value, types.FunctionType):
        return value, _exact([*_held(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()])
    home = type(value).__module__.split(".")[0]
    if callable(value) and home in ("jax", "jaxlib", "builtins") and not isinstance(value, types.MethodType):
        return value, _exact(getattr(value, "__wrapped__", None))
    if home in ("jax", "flax", "numpy") and not hasattr(value, "__array__"):
        return value
    raise _NotExact


def _held(function):
    """What a function closes over."""
    try:
        return list(inspect.getclosurevars(function).nonlocals.values()) if function.__closure__ else []
    except ValueError as error:  # a variable that has no value yet
        raise _NotExact from error
