"""A memo of functions, so that models that are the same have the same function, and jit does not compile it again.

Models that are equal are not always the same. What a model holds may change while it stays equal to itself (a module
behind a lambda, an object of settings), and 1 is equal to True, which a model may tell apart. If what a model holds
does not say all that it means, nothing is remembered for it: the price is a trace.

    >>> memo = Memo()
    >>> def make(width):
    ...     return lambda x: x * width
    >>> memo.remembered(make, 2) is memo.remembered(make, 2)
    True
    >>> memo.remembered(make, 1, exact=[1]) is memo.remembered(make, 1, exact=[True])
    False
    >>> settings = object()
    >>> memo.remembered(make, 2, exact=[settings]) is memo.remembered(make, 2, exact=[settings])
    False
"""

import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from flax import linen as nn
from flax import nnx

Description = TypeVar("Description")
Made = TypeVar("Made")


class Memo:
    """What functions have made, by the descriptions that they made it from; the last 256."""

    def __init__(self):
        self._made = functools.lru_cache(maxsize=256)(lambda make, description, exact_key: make(description))

    def remembered(
        self, make: Callable[[Description], Made], description: Description, *, exact: Iterable[Any] = ()
    ) -> Made:
        """`make(description)`, made once for descriptions that are equal and have the same `exact` parts.

        It is made every time if the description cannot be hashed, or an exact part may change or holds an array.

        Args:
          make: a function that lives as long as the program: it is part of the key.
          description: what `make` takes; compared by `==`.
          exact: values that belong to the description and for which `==` is not enough; compared with their types.
        """
        try:
            return self._made(make, description, tuple(map(_exact_key, exact)))
        except (_MayChangeError, RecursionError):  # RecursionError: a function that holds itself
            return make(description)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return make(description)


class _MayChangeError(Exception):
    """A part may change, or holds an array, while it stays equal to itself."""


def _exact_key(value):
    """A key that is equal only for values that are and stay the same, their types included.

    Raises:
      _MayChangeError: there is no such key.
    """
    if isinstance(value, nnx.Pytree | nnx.Variable):
        raise _MayChangeError
    if isinstance(value, bool | int | float | complex | str | bytes | type | np.dtype | np.generic | enum.Enum | None):
        return type(value), value
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_exact_key, value))
    if isinstance(value, Mapping):
        return type(value), tuple((key, _exact_key(item)) for key, item in value.items())
    if isinstance(value, functools.partial):
        return _exact_key((value.func, value.args, value.keywords))
    frozen = getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False)
    if isinstance(value, nn.Module) or frozen:
        names = [each.name for each in dataclasses.fields(value) if each.name != "parent"]
        return type(value), tuple((name, _exact_key(getattr(value, name, None))) for name in names)
    if isinstance(value, types.FunctionType):
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return value, _exact_key([*_closed_over(value), *defaults])
    library = type(value).__module__.split(".")[0]
    if callable(value) and library in ("jax", "jaxlib", "builtins") and not isinstance(value, types.MethodType):
        return value, _exact_key(getattr(value, "__wrapped__", None))
    if library in ("jax", "flax", "numpy") and not hasattr(value, "__array__"):
        return value
    raise _MayChangeError


def _closed_over(function):
    """The values that a function closes over."""
    try:
        return list(inspect.getclosurevars(function).nonlocals.values()) if function.__closure__ else []
    except ValueError as error:  # a variable that has no value yet
        raise _MayChangeError from error
