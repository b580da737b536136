"""TODO."""

import inspect

from flax import linen as nn
from flax import nnx

from jaxcam.cutting._nnx import _evaluate
from jaxcam.cutting._run import EVALUATION, Run, _with_flags
from jaxcam.tracing import mark


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
