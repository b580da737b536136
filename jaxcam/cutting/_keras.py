"""Keras 3 on its JAX backend: while the model is traced, its layers are instances of a subclass that marks.

The layers are the user's own, so a mark is the identity in every other thread.
"""

import inspect
import sys
import threading
import weakref
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.cutting._arguments import Arguments, arguments_of, keras_arguments
from jaxcam.cutting._functional_model import FunctionalModel, ModelCall, RandomStreams, SaidAxes
from jaxcam.cutting._keras_key import key_of_keras_model
from jaxcam.cutting._marking import mark_with_names, marking_subclass, modules_to_mark
from jaxcam.cutting._pickled import Recipe

_lock = threading.RLock()
# The call of each model that is in use. JAX's caches and cuts keep a call, and a call keeps its model.
_calls: weakref.WeakValueDictionary[tuple[int, str], ModelCall] = weakref.WeakValueDictionary()
_keys: weakref.WeakKeyDictionary[ModelCall, Hashable] = weakref.WeakKeyDictionary()


def from_keras(model: Any, keras: Any, method: str = "__call__") -> FunctionalModel:
    """The weights of a Keras model and the function that calls it.

    Args:
      model: the model.
      keras: the module, which whoever has a model has imported.
      method: the model's method that is called.

    Raises:
      ValueError: Keras runs on another backend, or the model is not built.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax before it is imported")
    if not model.built:
        raise ValueError(f"the Keras model {model.name!r} is not built: call it on an image first")
    seeds = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    learned = [variable for variable in model.variables if all(variable is not seed for seed in seeds)]
    # Copies: Keras gives its own arrays away when it trains or predicts.
    params = [jnp.array(variable.value, copy=True) for variable in learned]
    layers_by_name = dict(_named_layers(model, keras))
    model_call = _model_call(model, method, keras, learned, seeds, layers_by_name)
    streams = RandomStreams.of([jax.ShapeDtypeStruct(seed.shape, jnp.dtype(seed.dtype)) for seed in seeds])
    shape: Any = getattr(model, "input_shape", None)  # a subclassed model has none
    known = isinstance(shape, tuple) and len(shape) > 1 and all(isinstance(size, int) for size in shape[1:])
    return FunctionalModel(params, streams, model_call, tuple(layers_by_name), shape[1:] if known else None)


def _model_call(model, method, keras, learned, seeds, layers_by_name) -> ModelCall:
    """How the model is called: what was made for the same model, if nothing of it was changed since."""
    with _lock:  # in a trace the layers are of other classes
        key = key_of_keras_model(model, keras)
    key = None if key is None else (key, keras.config.image_data_format())
    made = _calls.get((id(model), method))
    if made is not None and key is not None and _keys[made] == key:
        return made
    call = _new_call(model, method, keras, learned, seeds, layers_by_name)
    if key is not None:
        _calls[id(model), method], _keys[call] = call, key
    return call


def _new_call(model, method, keras, learned, seeds, layers_by_name) -> ModelCall:
    function = model.call if method == "__call__" else getattr(model, method)
    is_functional = function == model.call and bool(getattr(model, "inputs", None))
    takes = inspect.signature(function).parameters
    training = {"training": False} if "training" in takes else {}

    def call(params, random_streams, args, kwargs, layers):
        kwargs = {**training, **kwargs}
        if is_functional:
            args = _in_one_structure(model, args, kwargs)
        values = [*zip(learned, params, strict=True), *zip(seeds, random_streams, strict=True)]
        with _lock, keras.StatelessScope(state_mapping=values):
            classes: list[tuple[Any, type]] = []
            try:
                for layer, names in modules_to_mark(layers_by_name.items(), layers):
                    classes.append((layer, type(layer)))
                    object.__setattr__(layer, "__class__", _marking_class(type(layer), names))
                return getattr(model, method)(*args, **kwargs)
            finally:
                for layer, cls in classes:
                    object.__setattr__(layer, "__class__", cls)

    return ModelCall(
        call,
        Recipe(_call_again, model, method),
        _functional_arguments(model) if is_functional else arguments_of(function),
        _said_axes(layers_by_name, keras),
    )


def _call_again(model, method) -> ModelCall:
    return from_keras(model, sys.modules["keras"], method).call


def _functional_arguments(model) -> Arguments:
    inputs = [layer for layer in model.layers if type(layer).__name__ == "InputLayer"]
    optional = [layer.name for layer in inputs if getattr(layer, "optional", False)]
    return keras_arguments([tensor.name for tensor in model.inputs], optional)


def _in_one_structure(model, args, kwargs) -> tuple[Any, ...]:
    """The inputs of a functional model, which takes them in one structure; those by name are taken out of `kwargs`."""
    unnamed = iter(args)
    named = {t.name: kwargs.pop(t.name) if t.name in kwargs else next(unnamed, None) for t in model.inputs}
    if len(named) == 1:
        return tuple(named.values())
    return (named if isinstance(model.input, dict) else list(named.values()),)


def _said_axes(layers_by_name, keras) -> SaidAxes:
    """The channel axes that layers say by their `data_format`; the configuration says that of the others."""
    axis_of = {"channels_first": 0, "channels_last": -1}
    formats = {name: getattr(layer, "data_format", None) for name, layer in layers_by_name.items()}
    by_layer = {name: axis_of[data_format] for name, data_format in formats.items() if data_format in axis_of}
    default = axis_of[keras.config.image_data_format()]
    return SaidAxes(by_layer, default, next(iter(by_layer.values()), default))


def _named_layers(layer, keras, path=()):
    """Every layer and every operator of a functional model inside a layer, by its path."""
    names: set[str] = set()
    for child in _children(layer, keras):
        name, number = child.name, 0
        while name in names:  # a subclassed model may give one name to several
            number += 1
            name = f"{child.name}_{number}"
        names.add(name)
        child_path = (*path, name)
        if type(child).__name__ != "InputLayer":
            yield "/".join(child_path), child
            yield from _named_layers(child, keras, child_path)


def _children(layer, keras):
    """The layers directly inside a layer, and the operators of a functional model, such as `y + x`."""
    if not isinstance(layer, keras.layers.Layer):  # an operator
        return []
    children = layer._flatten_layers(include_self=False, recursive=False)
    operators = layer.operations if isinstance(layer, keras.Model) and hasattr(layer, "operations") else []
    return [*children, *(each for each in operators if not isinstance(each, keras.layers.Layer))]


def _marking_class(cls, names):
    """The class with a `__call__` that marks in this thread."""
    thread = threading.get_ident()

    def __call__(self, *args, **kwargs):
        out = cls.__call__(self, *args, **kwargs)
        return mark_with_names(out, names) if threading.get_ident() == thread else out

    return marking_subclass(cls, __call__)
