"""Functions that a text names, "package.module:function", from the environment or the current folder.

A text names code of the user's own, which runs. Nothing else does: a text of another form imports nothing.

>>> named_function("math:hypot")(3, 4)
5.0
>>> named_function("math:hypo")
Traceback (most recent call last):
  ...
ValueError: the module 'math' has no function 'hypo': did you mean 'hypot'?
"""

import contextlib
import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

NAME = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")


def is_name(text: str) -> bool:
    """Whether a text has the form "package.module:function"."""
    return NAME.fullmatch(text) is not None


def named_function(text: str) -> Callable[..., Any]:
    """The function that "package.module:function" names.

    Raises:
      ValueError: another form, no such module, a module that cannot be imported, or no such function in it.
    """
    match = NAME.fullmatch(text)
    if match is None:
        raise ValueError(f"expected package.module:function, got {text!r}")
    module = _imported(match["module"])
    value = getattr(module, match["function"], None)
    if value is None:
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        near = difflib.get_close_matches(match["function"], functions, n=1)
        choices = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(functions) or 'none'}"
        raise ValueError(f"the module {match['module']!r} has no function {match['function']!r}: {choices}")
    if not callable(value):
        raise ValueError(f"{text} is of type {type(value).__name__}: expected a function")
    return value


def called(text: str) -> Any:
    """What the function of this name returns, called without arguments.

    Raises:
      ValueError: as `named_function`; or the function raises an error.
    """
    function = named_function(text)
    with current_folder_first():
        try:
            return function()
        except Exception as error:
            raise ValueError(f"{text} raised {_described(error)}") from error


@contextlib.contextmanager
def current_folder_first() -> Iterator[None]:
    """A context in which modules of the current folder are imported, as in `python -m`."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _imported(name: str) -> Any:
    with current_folder_first():
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if name == missing or name.startswith(f"{missing}."):
                raise ValueError(
                    f"no module {missing!r} in the current folder or the environment: expected package.module:function"
                ) from error
            raise ValueError(f"the module {name!r} cannot be imported: it needs {missing!r}") from error
        except Exception as error:
            raise ValueError(f"the module {name!r} cannot be imported: {_described(error)}") from error


def _described(error: Exception) -> str:
    """An error on one line, with the place where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
