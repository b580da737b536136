"""Flax Linen: while the model is called, an interceptor marks what its modules return."""

import inspect
from typing import Any

from flax import linen as nn
from flax import nnx

from jaxcam.cutting._arguments import arguments_of
from jaxcam.cutting._eval_mode import EVAL_FLAGS, with_eval_flags
from jaxcam.cutting._functional_model import FunctionalModel, ModelCall, RandomStreams
from jaxcam.cutting._memo import Memo
from jaxcam.cutting._nnx import set_eval_mode
from jaxcam.cutting._pickled import Recipe
from jaxcam.tracing import mark

_calls = Memo()


def from_linen(module: nn.Module, variables: Any, method: str = "__call__") -> FunctionalModel:
    """The variables of a Linen module and the function that calls one of its methods."""
    call = _call_of(module, method)
    return FunctionalModel(variables, RandomStreams.of(()), call, layer_names=None)


def _call_of(module, method) -> ModelCall:
    return _calls.remembered(_model_call, (module, method), exact=[module], known_by=("module", method))


def _model_call(description) -> ModelCall:
    model, method = description
    function = getattr(type(model), method)

    def call(variables, random_streams, args, kwargs, layers):
        del random_streams
        active: list[nn.Module] = []

        def marking(next_call, args, kwargs, context):
            module = context.module
            if context.method_name != "__call__":
                return next_call(*args, **kwargs)
            args, kwargs = _in_eval_mode(module, context.orig_method, args, kwargs)
            # A class whose call calls its parent's is one call. Equal modules are not the same.
            outermost = not any(module is other for other in active)
            active.append(module)
            try:
                out = next_call(*args, **kwargs)
            finally:
                active.pop()
            name = "/".join(module.path)
            return mark(out, name) if outermost and name and (layers is None or name in layers) else out

        with nn.intercept_methods(marking):
            return model.apply(variables, *args, method=method, **with_eval_flags(function, (None, *args), kwargs))

    return ModelCall(call, Recipe(_call_of, model, method), arguments_of(function, bound=False))


def _in_eval_mode(module, method, args, kwargs):
    """Sets a module's flags for eval mode, and returns the arguments of its call with the flags in them.

    Linen makes a copy of each module for the call, so the user's modules are left as they were.
    """
    is_linens_own = isinstance(module, nn.BatchNorm | nn.Dropout)
    for name, value in EVAL_FLAGS.items():
        if isinstance(getattr(module, name, None), bool):
            # Their call may not have the flag as an attribute and as an argument.
            object.__setattr__(module, name, None if is_linens_own else value)
    if isinstance(module, nnx.bridge.ToLinen):
        object.__setattr__(module, "nnx_class", _builder_in_eval_mode(module.nnx_class))
    name = "use_running_average" if isinstance(module, nn.BatchNorm) else "deterministic"
    if is_linens_own and name in inspect.signature(method).parameters:
        args, kwargs = args[:1], {**{k: v for k, v in kwargs.items() if k != "rng"}, name: True}
    return args, kwargs


def _builder_in_eval_mode(nnx_class):
    """What builds the NNX module inside a Linen one, with the module in eval mode."""

    def build(*args, **kwargs):
        module = nnx_class(*args, **kwargs)
        set_eval_mode(module)
        return module

    return build
