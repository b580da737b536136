"""What a cut needs to know of a model: its parameters, and a pure function that calls it with layers marked.

`opened(model)` gives both for a `flax.nnx.Module`, for `(linen_module, variables)` and for a Keras 3 model on its JAX
backend. The model is called in eval mode, and what is marked is a copy of it (NNX), a call of it (Linen), or for the
time of one trace the layer, where marks are the identity for everyone else (Keras): the user's model is as it was.

    >>> import jax
    >>> from flax import nnx
    >>> from jaxcam import jaxprs
    >>> model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu, nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    >>> found = opened(model)
    >>> found.names
    ('layers/0', 'layers/2')
    >>> streams = jax.tree.unflatten(found.streams.tree, found.streams.leaves)
    >>> program = jax.make_jaxpr(lambda params, streams, x: found.run(params, streams, (x,), {}, None))(
    ...     found.params, streams, jax.numpy.ones([1, 3]))
    >>> [(mark.name, mark.aval.shape) for mark in jaxprs.marks(program.jaxpr)]
    [('layers/0', (1, 4)), ('layers/2', (1, 4))]
"""

import functools
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from jaxcam import sharing
from jaxcam.jaxprs import mark

M = TypeVar("M")

# How models are told, by an argument or by an attribute, that they are not being trained.
EVALUATION = {
    "train": False, "training": False, "is_training": False,
    "deterministic": True, "use_running_average": True, "inference": True,
}  # fmt: skip
_axes = itertools.count()
_runs = sharing.Shared()


@dataclass(frozen=True, eq=False)
class Run:
    """How a model is called: `(params, streams, args, kwargs, layers) -> outputs`, with these marked, or all for None.

    Equal Flax models share one. What is made for it is kept with it and goes with it: a Keras model lives in its run.
    """

    call: Callable[..., Any]
    shared: sharing.Shared = field(default_factory=sharing.Shared, repr=False)

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


def opened(model: Any) -> Opened:
    """The parameters of a model and the function that calls it.

    Raises:
      TypeError: not a model of a kind that is known.
      ValueError: a Keras model that is not built, or on another backend than JAX.
    """
    if isinstance(model, nnx.Module):
        graphdef, streams, params = nnx.split(model, nnx.RngState, ...)  # type: ignore[misc]
        run = _runs.once(_nnx_run, graphdef, exact=_static(model))
        return Opened(params, _streams(streams), run, tuple(dict(_modules(model))))
    if isinstance(model, tuple | list) and len(model) == 2 and isinstance(model[0], nn.Module):
        module, variables = model
        return Opened(variables, _streams(()), _runs.once(_linen_run, module, exact=[module]), None)
    if isinstance(model, nn.Module):
        if model.scope is not None:
            return opened(model.unbind())
        raise TypeError(f"a Linen module comes with its variables: give ({type(model).__name__}(...), variables)")
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.layers.Layer):
        return _open_keras(model, keras)
    raise TypeError(
        f"{type(model).__name__} is no model that jaxcam can cut: give a flax.nnx.Module, (linen_module, variables), "
        "a Keras 3 model, or the two halves of any other: jaxcam.Cut(params, features, head)"
    )


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


# Flax NNX: the modules of a copy become instances of subclasses that mark what they return.


def _nnx_run(graphdef):
    def run(params, streams, args, kwargs, layers):
        model = nnx.merge(graphdef, streams, params, copy=True)
        _evaluate(model)
        for module, names in _named(_modules(model), layers):
            object.__setattr__(module, "__class__", _marking(type(module), names))
        outputs = model(*args, **_with_flags(model.__call__, args, kwargs))
        for path, variable in nnx.iter_graph(model):
            if isinstance(variable, nnx.BatchStat):
                mark(variable.get_value(), f"{STATISTICS}{'/'.join(map(str, path))}")
        return outputs

    return Run(run)


def _static(model) -> list[Any]:
    """What a model holds besides its parameters and modules, without Flax's own notes."""
    return [
        value
        for path, value in nnx.iter_graph(model)
        if not isinstance(value, nnx.Pytree | nnx.Variable) and not str(path[-1]).startswith("_pytree__")
    ]


def _modules(model, path=(), above=()) -> Iterator[tuple[str, nnx.Module]]:
    """Every module that can be called, by its path; one that is shared has several."""
    for key, child in nnx.iter_children(model):
        if isinstance(child, nnx.Variable) or any(child is node for node in above):
            continue
        here = (*path, str(key))
        if isinstance(child, nnx.Module) and callable(child):
            yield "/".join(here), child
        yield from _modules(child, here, (*above, child))


def _evaluate(model) -> None:
    """Eval mode, on a copy that is ours."""
    for _, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Module):
            for name, value in EVALUATION.items():
                if name in vars(node) and isinstance(vars(node)[name], bool | None):
                    object.__setattr__(node, name, value)


@functools.lru_cache(maxsize=4096)
def _marking(cls, names):
    """The class with a `__call__` that marks: nothing else of the module changes, for whoever looks at it."""

    def __call__(self, *args, **kwargs):
        return functools.reduce(mark, names, super(Marking, self).__call__(*args, **kwargs))

    keywords = {"pytree": cls._pytree__is_pytree} if hasattr(cls, "_pytree__is_pytree") else {}
    Marking = _subclass(cls, __call__, **keywords)
    return Marking


# Flax Linen: an interceptor marks what a module's call returns, for as long as the call of the model takes.


def _linen_run(module):
    def run(variables, streams, args, kwargs, layers):
        del streams
        active: list[nn.Module] = []

        def marking(call, args, kwargs, context):
            module = context.module
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            args, kwargs = _evaluated(module, context.orig_method, args, kwargs)
            # A class whose call calls its parent's is one call. Equal modules are not the same.
            outermost = not any(module is other for other in active)
            active.append(module)
            try:
                out = call(*args, **kwargs)
            finally:
                active.pop()
            name = "/".join(module.path)
            return mark(out, name) if outermost and name and (layers is None or name in layers) else out

        with nn.intercept_methods(marking):
            return module.apply(variables, *args, **_with_flags(type(module).__call__, (None, *args), kwargs))

    return Run(run)


def _evaluated(module, method, args, kwargs):
    """The arguments of a module's call, with its flags and theirs in eval mode; modules are copies for this call."""
    own = isinstance(module, nn.BatchNorm | nn.Dropout)
    for name, value in EVALUATION.items():
        if isinstance(getattr(module, name, None), bool):
            object.__setattr__(module, name, None if own else value)  # their call may not have both
    if isinstance(module, nnx.bridge.ToLinen):
        object.__setattr__(module, "nnx_class", _in_eval_mode(module.nnx_class))
    name = "use_running_average" if isinstance(module, nn.BatchNorm) else "deterministic"
    if own and name in inspect.signature(method).parameters:
        args, kwargs = args[:1], {**{k: v for k, v in kwargs.items() if k != "rng"}, name: True}
    return args, kwargs


def _in_eval_mode(nnx_class):
    """The class of an NNX module inside a Linen one, its instances in eval mode."""

    def build(*args, **kwargs):
        module = nnx_class(*args, **kwargs)
        _evaluate(module)
        return module

    return build


# Keras: its layers are instances of a marking subclass while they are traced.

_keras_lock = threading.RLock()


def _open_keras(model, keras) -> Opened:
    if keras.backend.backend() != "jax":
        raise ValueError(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax before it is imported")
    if not model.built:
        raise ValueError(f"the Keras model {model.name!r} is not built: call it on an image first")
    variables = model.variables
    seeds = [variable for variable in variables if variable.path.endswith("seed_generator_state")]
    learned = [variable for variable in variables if all(variable is not seed for seed in seeds)]
    # Copies: Keras gives its own arrays away when it trains or predicts.
    params = [jnp.array(variable.value, copy=True) for variable in learned]
    modules = dict(_keras_layers(model))
    takes = inspect.signature(model.call).parameters
    training = {"training": False} if "training" in takes else {}

    def run(params, streams, args, kwargs, layers):
        kwargs = {**training, **kwargs}
        if len(getattr(model, "inputs", None) or ()) > 1:  # a functional model takes its inputs in one structure
            unnamed = iter(args)
            named = {t.name: kwargs.pop(t.name) if t.name in kwargs else next(unnamed) for t in model.inputs}
            args = (named if isinstance(model.input, dict) else list(named.values()),)
        values = [*zip(learned, params, strict=True), *zip(seeds, streams, strict=True)]
        with _keras_lock, keras.StatelessScope(state_mapping=values):
            classes: list[tuple[Any, type]] = []
            try:
                for module, names in _named(modules.items(), layers):
                    classes.append((module, type(module)))
                    object.__setattr__(module, "__class__", _keras_marking(type(module), names))
                return model(*args, **kwargs)
            finally:
                for module, cls in classes:
                    object.__setattr__(module, "__class__", cls)

    seed_values = [jax.ShapeDtypeStruct(seed.shape, jnp.dtype(seed.dtype)) for seed in seeds]
    shape: Any = getattr(model, "input_shape", None)  # a subclassed model has none
    known = isinstance(shape, tuple) and len(shape) > 1 and all(isinstance(size, int) for size in shape[1:])
    return Opened(params, _streams(seed_values), Run(run), tuple(modules), shape[1:] if known else None)


def _keras_layers(layer, path=()):
    names: set[str] = set()
    for child in layer._flatten_layers(include_self=False, recursive=False):
        name, number = child.name, 0
        while name in names:  # a subclassed model may give one name to several
            number += 1
            name = f"{child.name}_{number}"
        names.add(name)
        here = (*path, name)
        if type(child).__name__ != "InputLayer":
            yield "/".join(here), child
            yield from _keras_layers(child, here)


def _keras_marking(cls, names):
    thread = threading.get_ident()

    def __call__(self, *args, **kwargs):
        out = super(Marking, self).__call__(*args, **kwargs)
        return functools.reduce(mark, names, out) if threading.get_ident() == thread else out

    Marking = _subclass(cls, __call__)
    return Marking
