"""TODO."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from flax import nnx

from jaxcam.cutting._memo import Shared

M = TypeVar("M")

# How models are told, by an argument or by an attribute, that they are not being trained.
EVALUATION = {
    "train": False, "training": False, "is_training": False,
    "deterministic": True, "use_running_average": True, "inference": True,
}  # fmt: skip
_axes = itertools.count()


@dataclass(frozen=True, eq=False)
class Run:
    """How a model is called: `(params, streams, args, kwargs, layers) -> outputs`, with these marked, or all for None.

    Equal Flax models share one. What is made for it is kept with it and goes with it: a Keras model lives in its run.
    """

    call: Callable[..., Any]
    shared: Shared = field(default_factory=Shared, repr=False)

    def __call__(self, params: Any, streams: Any, args: tuple, kwargs: dict, layers: Sequence[str] | None) -> Any:
        """The model's outputs; an error of its own gets a note of what it was called with."""
        try:
            return self.call(params, streams, args, kwargs, layers)
        except Exception as error:
            shapes = [str(list(np.shape(leaf))) for leaf in jax.tree.leaves((args, kwargs))]
            error.add_note(
                f"jaxcam called the model with {', '.join(shapes)}; what it takes besides the image goes into inputs="
            )
            raise


class Opened(NamedTuple):
    """A model as parameters and a function.

    Attributes:
      params: a pytree of what the model has learned.
      streams: shapes and types of its random streams, which an evaluation must not read.
      run: how it is called.
      names: those of all layers; None where they are known only from a call (Linen).
      image_shape: that of one image, where the model says it (Keras).
    """

    params: Any
    streams: "Streams"
    run: Run
    names: tuple[str, ...] | None
    image_shape: tuple[int, ...] | None = None


# A mark of this beginning is of a running statistic when the call is over, which an evaluation does not change.
STATISTICS = "statistics of "


class Streams(NamedTuple):
    """Random streams by shape and type: leaves and their tree."""

    leaves: tuple[jax.ShapeDtypeStruct, ...]
    tree: Any


def anew(call: Callable[[], Any]) -> Any:
    """The result of a call that no jit inside it has traced before, and none will take for its own after.

    A jitted block would give back the program that it traced when nothing was marked, or keep ours for later. A trace
    under a named axis is kept apart from those under others; nothing is mapped over this one, which has one element.
    """
    static: list[Any] = []

    def inner(_):
        leaves, tree = jax.tree.flatten(call())
        static.extend([tree, leaves])
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    axis = f"jaxcam_{next(_axes)}"
    arrays = iter(jax.vmap(inner, in_axes=None, out_axes=None, axis_size=1, axis_name=axis)(0))  # type: ignore[arg-type]
    tree, leaves = static
    return jax.tree.unflatten(tree, [next(arrays) if isinstance(leaf, jax.Array) else leaf for leaf in leaves])


def _with_flags(function, args, kwargs) -> dict[str, Any]:
    """The keywords of a call, and those that say that nothing is being trained, where it takes them and has none."""
    try:
        parameters = inspect.signature(function)
        given = parameters.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # no signature, or not this one: the call itself says it better
        return kwargs
    flags = {name: value for name, value in EVALUATION.items() if name in parameters.parameters and name not in given}
    return {**flags, **kwargs}


def _streams(tree) -> Streams:
    leaves, structure = jax.tree.flatten(tree)
    return Streams(tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), structure)


class _Quiet:
    """Behind a subclass that marks and before the user's class: keeps what the user does with subclasses from it."""

    def __init_subclass__(cls, **keywords):
        if issubclass(cls, nnx.Module):
            nnx.Module.__init_subclass__.__func__(cls, **keywords)  # type: ignore[attr-defined]


@functools.cache
def _quiet(meta):
    """A metaclass that has `_Quiet` in the order of resolution, and not among the bases, which fix the layout."""

    def mro(cls):
        own, *rest = meta.mro(cls)
        return [own, _Quiet, *rest]

    return type(meta.__name__, (meta,), {"mro": mro})


def _subclass(cls, call, **keywords):
    """The class with another `__call__`."""
    namespace = {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return _quiet(type(cls))(cls.__name__, (cls,), namespace, **keywords)  # type: ignore[arg-type]


def _named(modules: Iterable[tuple[str, M]], layers) -> Iterator[tuple[M, tuple[str, ...]]]:
    """The modules that are to be marked, once each, with their names among the layers; for None, with their first."""
    found: dict[int, tuple[M, list[str]]] = {}
    for name, module in modules:
        _, names = found.setdefault(id(module), (module, []))
        if name in layers if layers is not None else not names:
            names.append(name)
    return ((module, tuple(names)) for module, names in found.values() if names)
