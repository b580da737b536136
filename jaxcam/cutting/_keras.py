"""TODO."""

import functools
import inspect
import threading
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.cutting._run import Opened, Run, _named, _streams, _subclass
from jaxcam.tracing import mark

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
