"""TODO."""

import functools
from collections.abc import Iterator
from typing import Any

from flax import nnx

from jaxcam.cutting._run import EVALUATION, STATISTICS, Run, _named, _subclass, _with_flags
from jaxcam.tracing import mark


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
