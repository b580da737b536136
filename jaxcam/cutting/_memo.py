"""A memo of functions, so that models that are the same have the same function, and jit does not compile it again.

Models that are equal are not always the same. What a model holds may change while it stays equal to itself (a module
behind a lambda, an object of settings), and 1 is equal to True, which a model may tell apart. `jaxcam.cutting._keys`
says by what a value is known; if what a model holds does not say all that it means, nothing is remembered for it: the
price is a trace.

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

import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from jaxcam.cutting._keys import MayChangeError, key_of, known_by_code

Description = TypeVar("Description")
Made = TypeVar("Made")
MOST_REMEMBERED = 256


class Memo:
    """What functions have made, by the descriptions that they made it from; the last 256."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, tuple[Any, tuple[Any, ...]]] = OrderedDict()

    def remembered(
        self,
        make: Callable[[Description], Made],
        description: Description,
        *,
        exact: Iterable[Any] = (),
        known_by: Hashable | None = None,
    ) -> Made:
        """`make(description)`, made once for descriptions that are equal and have the same `exact` parts.

        It is made every time if the description cannot be hashed, or an exact part may change. A part that has been
        changed since, such as a list, is not taken for what it was.

        Args:
          make: a function that lives as long as the program: it is part of the key.
          description: what `make` takes; compared by `==`.
          exact: values that belong to the description and for which `==` is not enough; compared with their types.
          known_by: what is compared in the place of the description, if the exact parts say the rest.
        """
        parts = tuple(exact)
        try:
            exact_key = _keys_of(parts)
            key = make, description if known_by is None else known_by, exact_key
            hash(key)
        except MayChangeError:
            return make(description)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return make(description)
        with self._lock:
            made, kept_parts = self._made.get(key, (None, ()))
            if made is not None and (kept_parts is parts or _are_still(kept_parts, exact_key)):
                self._made.move_to_end(key)
                return made
        made = make(description)
        with self._lock:
            self._made[key] = made, parts
            while len(self._made) > MOST_REMEMBERED:
                self._made.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._made)


def _keys_of(parts: tuple[Any, ...]) -> tuple[Hashable, ...]:
    try:
        return tuple(map(key_of, parts))
    except RecursionError as error:  # a function or a list that holds itself
        raise MayChangeError from error


def _are_still(parts: tuple[Any, ...], exact_key: tuple[Hashable, ...]) -> bool:
    """Whether parts that were remembered have not been changed since, in place."""
    try:
        return _keys_of(parts) == exact_key
    except MayChangeError:
        return False


# Under which key a function was remembered first: a program of it has been compiled with what it held then.
_first_keys: weakref.WeakKeyDictionary[Any, Hashable] = weakref.WeakKeyDictionary()
_functions = Memo()


def canonical_function(function: Any) -> Any:
    """The first function with the same code, closure, defaults and global values; any other value as it is.

    jit compares functions by identity, so a lambda that is made anew would be traced and compiled again.

    Example:
      >>> def score_of(weight):
      ...     return lambda outputs, target: weight * outputs[target]
      >>> canonical_function(score_of(2.0)) is canonical_function(score_of(2.0))
      True
      >>> canonical_function(score_of(2.0)) is canonical_function(score_of(2))
      False
    """
    if not isinstance(function, types.FunctionType):
        return function
    try:
        (key,) = _keys_of((function,))
        hash(key)
        if not known_by_code(key):
            return function
        if _first_keys.setdefault(function, key) != key:  # what it closes over was changed
            return function
    except (MayChangeError, TypeError):
        return function
    return _functions.remembered(_itself, function, exact=(function,), known_by="function")


def _itself(function):
    return function
