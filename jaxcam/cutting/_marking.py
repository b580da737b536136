"""Modules whose outputs are marked: while they are traced they are instances of a subclass with another `__call__`."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from flax import nnx

from jaxcam.tracing import mark

M = TypeVar("M")


def mark_with_names(value: Any, names: Iterable[str]) -> Any:
    """The value, marked with each of the names."""
    return functools.reduce(mark, names, value)


def modules_to_mark(
    modules: Iterable[tuple[str, M]], layers: Sequence[str] | None
) -> Iterator[tuple[M, tuple[str, ...]]]:
    """The modules to mark, each of them once, with their names.

    Args:
      modules: every module by its name; a module that is shared has several.
      layers: the names that are wanted; None for all modules, each with its first name.
    """
    found: dict[int, tuple[M, list[str]]] = {}
    for name, module in modules:
        _, names = found.setdefault(id(module), (module, []))
        if name in layers if layers is not None else not names:
            names.append(name)
    return ((module, tuple(names)) for module, names in found.values() if names)


def marking_subclass(cls: type, call: Callable[..., Any], **keywords: Any) -> type:
    """A subclass with another `__call__`, which looks like the class and which the class does not hear of.

    Args:
      cls: the class of a module.
      call: the subclass's `__call__`.
      **keywords: of the class statement.
    """
    namespace = {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return _unregistered(type(cls))(cls.__name__, (cls,), namespace, **keywords)  # type: ignore[arg-type]


class _Unregistered:
    """Stands before the user's class in the order of resolution and keeps its `__init_subclass__` from being called.

    A user's class may register its subclasses there, or ask for keywords.
    """

    def __init_subclass__(cls, **keywords):
        if issubclass(cls, nnx.Module):
            nnx.Module.__init_subclass__.__func__(cls, **keywords)  # type: ignore[attr-defined]


@functools.cache
def _unregistered(metaclass):
    """The metaclass with `_Unregistered` in the order of resolution, but not among the bases, which fix the layout."""

    def mro(cls):
        own, *rest = metaclass.mro(cls)
        return [own, _Unregistered, *rest]

    return type(metaclass.__name__, (metaclass,), {"mro": mro})
