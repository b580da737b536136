"""Functions of a cut that pickle as what they were made from.

>>> import math
>>> recipe = Recipe(math.gcd, 12, 18)
>>> recipe(), pickle.loads(pickle.dumps(recipe))()
(6, 6)
"""

import functools
import io
import operator
import pickle
import sys
from collections.abc import Callable
from typing import Any


class Recipe:
    """A call, `make(*arguments)`, that pickles where its parts do.

    Args:
      make: an importable function.
      arguments: those of the call.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        self.make, self.arguments = make, arguments

    def __call__(self) -> Any:
        """What `make` returns."""
        return self.make(*self.arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """The parts, pickled apart. A part that cannot be pickled raises one line, an `UnpicklableError`."""
        return _recipe_of, (_dumped((self.make, self.arguments)),)


class UnpicklableError(pickle.PicklingError):
    """A part of a cut cannot be pickled."""


class MadeFunction:
    """One of the functions that a recipe makes; it pickles as the recipe.

    Unpickled in the same program, it is the same function again if the recipe's function remembers what it made.

    Args:
      run: the function.
      recipe: makes a tuple of such functions.
      place: of this function among them.
    """

    def __init__(self, run: Callable[..., Any], recipe: Recipe, place: int):
        self.run, self.recipe, self.place = run, recipe, place

    def __call__(self, *args: Any) -> Any:
        """What the function returns."""
        return self.run(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        """The recipe, which functions of one cut share."""
        return _made_again, (self.recipe, self.place)


def _recipe_of(data: bytes) -> Recipe:
    make, arguments = pickle.loads(data)
    return Recipe(make, *arguments)


def _made_again(recipe, place) -> Any:
    return recipe()[place]


def _dumped(value) -> bytes:
    content = io.BytesIO()
    try:
        _Pickler(content).dump(value)
    except UnpicklableError:
        raise
    except Exception as error:  # whatever the code of the parts raises
        raise UnpicklableError(
            f"the cut cannot be pickled: {error}. Functions that the model or the cut holds must be importable, not "
            "lambdas"
        ) from error
    return content.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles jitted functions of modules by their names. JAX's own pickling refuses those with a custom rule."""

    def reducer_override(self, obj: Any) -> Any:
        name, module = getattr(obj, "__qualname__", None), sys.modules.get(str(getattr(obj, "__module__", None)))
        if not callable(obj) or isinstance(obj, type | functools.partial) or name is None or module is None:
            return NotImplemented
        try:
            is_global = operator.attrgetter(name)(module) is obj
        except AttributeError:  # a function inside another
            return NotImplemented
        return name if is_global else NotImplemented
