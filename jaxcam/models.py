"""What a cut needs to know of a model: its parameters, and a pure function that calls it with a layer marked.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from jaxcam.jaxprs import mark

# How models are told, by an argument or an attribute, that they are not being trained.
EVALUATION = {
    "train": False, "training": False, "is_training": False,
    "deterministic": True, "use_running_average": True, "inference": True,
}  # fmt: skip
_ATTRIBUTES = ("train", "training", "is_training")
_NAME = "jaxcam_name"
_axes = itertools.count()


def _make(make, description):
    return make(description)


@dataclass(frozen=True, eq=False)
class Run:
    """How a model is called: `(params, streams, args, kwargs, layer) -> outputs`, with `layer` marked, or all for None.

    Equal Flax models share one. What is made for it is kept with it and goes with it: a Keras model lives in its run.
    """

    call: Callable[..., Any]
    made: Callable[..., Any] = field(default_factory=lambda: functools.lru_cache(maxsize=256)(_make), repr=False)

    def __call__(self, params: Any, streams: Any, args: tuple, kwargs: dict, layer: str | None) -> Any:
        """The model's outputs; an error of its own gets a note of what it was called with."""
        try:
            return self.call(params, streams, args, kwargs, layer)
        except Exception as error:
            shapes = [str(list(jnp.shape(leaf))) for leaf in jax.tree.leaves((args, kwargs))]
            error.add_note(
                f"jaxcam called the model with {', '.join(shapes)}; what it takes besides the image goes into inputs="
            )
            raise

    def once(self, make: Callable[[Any], Any], description: Any) -> Any:
        """`make(description)`, the same for equal descriptions: jit knows a function by its identity.

        What cannot be hashed is made anew.
        """
        return _unless_unhashable(self.made, make, description)


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
        return Opened(
            params, _streams(streams), _unless_unhashable(_shared, _nnx_run, graphdef), tuple(dict(_modules(model)))
        )
    if isinstance(model, tuple | list) and len(model) == 2 and isinstance(model[0], nn.Module):
        module, variables = model
        return Opened(variables, _streams(()), _unless_unhashable(_shared, _linen_run, module), None)
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


def _unless_unhashable(cached, make, description):
    """`cached(make, description)`, or where they cannot be hashed, what is made anew."""
    try:
        return cached(make, description)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return make(description)


@functools.lru_cache(maxsize=256)
def _shared(make, description):
    return make(description)


def _flags(function) -> dict[str, bool]:
    """The arguments of a call that say that nothing is being trained."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a callable without a signature takes no flags
        return {}
    return {name: value for name, value in EVALUATION.items() if name in parameters}


def _streams(tree) -> Streams:
    leaves, structure = jax.tree.flatten(tree)
    return Streams(tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), structure)


# Flax NNX: the modules of a copy become instances of subclasses that mark what they return.


def _nnx_run(graphdef):
    def run(params, streams, args, kwargs, layer):
        model = nnx.merge(graphdef, streams, params, copy=True)
        _evaluate(model)
        done = set()
        for name, module in _modules(model):
            if layer in (None, name) and id(module) not in done:
                done.add(id(module))
                setattr(module, _NAME, name)
                object.__setattr__(module, "__class__", _marking(type(module)))
        return model(*args, **{**_flags(model.__call__), **kwargs})

    return Run(run)


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
    model.eval()
    for _, module in [("", model), *_modules(model)]:
        for name in _ATTRIBUTES:
            if isinstance(vars(module).get(name), bool):
                setattr(module, name, EVALUATION[name])


@functools.cache
def _marking(cls):
    """The class with a `__call__` that marks: nothing else of the module changes, for whoever looks at it."""

    def __call__(self, *args, **kwargs):
        return mark(super(Marking, self).__call__(*args, **kwargs), getattr(self, _NAME))

    Marking = type(cls)(cls.__name__, (cls,), {"__call__": __call__, "__module__": cls.__module__})
    return Marking


# Flax Linen: an interceptor marks what a module's call returns, for as long as the call of the model takes.


def _linen_run(module):
    flags = _flags(type(module).__call__)

    def run(variables, streams, args, kwargs, layer):
        del streams

        def marking(call, args, kwargs, context):
            if isinstance(context.module, nn.BatchNorm | nn.Dropout):
                args, kwargs = _evaluated(context.module, args, kwargs)
            out = call(*args, **kwargs)
            name = "/".join(context.module.path)
            return mark(out, name) if context.method_name == "__call__" and name and layer in (None, name) else out

        with nn.intercept_methods(marking):
            return module.apply(variables, *args, **{**flags, **kwargs})

    return Run(run)


def _evaluated(module, args, kwargs):
    """The arguments of a BatchNorm's or a Dropout's call, such that it is in eval mode."""
    name, place = ("use_running_average", 1) if isinstance(module, nn.BatchNorm) else ("deterministic", 1)
    if getattr(module, name) is not None:
        object.__setattr__(module, name, None)  # a copy for this call; both may not be given
    return args[:place], {**{k: v for k, v in kwargs.items() if k != "rng"}, name: True}


# Keras: its layers are instances of a marking subclass while they are traced.

_keras_lock = threading.RLock()


def _open_keras(model, keras) -> Opened:
    if keras.backend.backend() != "jax":
        raise ValueError(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax before it is imported")
    if not model.built:
        raise ValueError(f"the Keras model {model.name!r} is not built: call it on an image first")
    trainable = model.trainable_variables
    others = model.non_trainable_variables
    seeds = [i for i, v in enumerate(others) if v.path.endswith("seed_generator_state")]
    params = {
        "trainable": [v.value for v in trainable],
        "non_trainable": [v.value for i, v in enumerate(others) if i not in seeds],
    }
    layers = dict(_keras_layers(model))

    def run(params, streams, args, kwargs, layer):
        kwargs = dict(kwargs)
        rest, drawn = iter(params["non_trainable"]), iter(streams)
        fixed = [next(drawn) if i in seeds else next(rest) for i in range(len(others))]
        if len(getattr(model, "inputs", None) or ()) > 1:  # a functional model takes its inputs in one structure
            rest_of_args = iter(args)
            named = {t.name: kwargs.pop(t.name) if t.name in kwargs else next(rest_of_args) for t in model.inputs}
            args = (named if isinstance(model.input, dict) else list(named.values()),)
        with _keras_lock:
            classes: dict[int, tuple[Any, type]] = {}
            try:
                for name, module in layers.items():
                    if layer in (None, name) and id(module) not in classes:
                        classes[id(module)] = (module, type(module))
                        object.__setattr__(module, "__class__", _keras_marking(type(module), name))
                out, _ = model.stateless_call(params["trainable"], fixed, *args, training=False, **kwargs)
            finally:
                for module, cls in classes.values():
                    object.__setattr__(module, "__class__", cls)
        return out

    seed_values = [jax.ShapeDtypeStruct(others[i].shape, jnp.dtype(others[i].dtype)) for i in seeds]
    shape: Any = getattr(model, "input_shape", None)  # a subclassed model has none
    known = isinstance(shape, tuple) and len(shape) > 1 and all(isinstance(size, int) for size in shape[1:])
    return Opened(params, _streams(seed_values), Run(run), tuple(layers), shape[1:] if known else None)


def _keras_layers(layer, path=()):
    for child in layer._flatten_layers(include_self=False, recursive=False):
        here = (*path, child.name)
        if type(child).__name__ != "InputLayer":
            yield "/".join(here), child
            yield from _keras_layers(child, here)


def _keras_marking(cls, name):
    thread = threading.get_ident()

    def __call__(self, *args, **kwargs):
        out = super(Marking, self).__call__(*args, **kwargs)
        return mark(out, name) if threading.get_ident() == thread else out

    Marking = type(cls)(cls.__name__, (cls,), {"__call__": __call__, "__module__": cls.__module__})
    return Marking
