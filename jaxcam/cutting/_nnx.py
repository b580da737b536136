"""Flax NNX: the modules of a copy of the model become instances of subclasses that mark what they return."""

import functools
from collections.abc import Hashable, Iterator
from typing import Any

from flax import nnx

from jaxcam.cutting._arguments import arguments_of
from jaxcam.cutting._eval_mode import EVAL_FLAGS, with_eval_flags
from jaxcam.cutting._functional_model import STATISTICS_MARK, FunctionalModel, ModelCall, RandomStreams
from jaxcam.cutting._image_network import ImageNetwork, token_grid_of
from jaxcam.cutting._marking import mark_with_names, marking_subclass, modules_to_mark
from jaxcam.cutting._memo import Memo
from jaxcam.cutting._pickled import Recipe
from jaxcam.tracing import mark

_calls = Memo()


def from_nnx(model: nnx.Module, method: str = "__call__") -> FunctionalModel:
    """The parameters of an NNX module and the function that calls one of its methods."""
    graphdef, streams, params = nnx.split(model, nnx.RngState, ...)  # type: ignore[misc]
    call = _call_of(graphdef, method, arguments_of(getattr(model, method)))
    image_shape = tuple(model.image_shape) if isinstance(model, ImageNetwork) else None
    layer_names = tuple(dict(_callable_modules(model)))
    return FunctionalModel(params, RandomStreams.of(streams), call, layer_names, image_shape, token_grid_of(model))


def set_eval_mode(model: Any) -> None:
    """Sets the flags of a model's modules, in place, on a copy that is ours."""
    for _, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Module):
            for name, value in EVAL_FLAGS.items():
                if name in vars(node) and isinstance(vars(node)[name], bool | None):
                    object.__setattr__(node, name, value)


def _call_of(graphdef, method, arguments) -> ModelCall:
    structure, static_values = _structure_and_values(graphdef)
    return _calls.remembered(
        _model_call, (graphdef, method, arguments), exact=static_values, known_by=(structure, method, arguments)
    )


def _model_call(description) -> ModelCall:
    graphdef, method, arguments = description

    def call(params, random_streams, args, kwargs, layers):
        model = nnx.merge(graphdef, random_streams, params, copy=True)
        set_eval_mode(model)
        for module, names in modules_to_mark(_callable_modules(model), layers):
            object.__setattr__(module, "__class__", _marking_class(type(module), names))
        run = getattr(model, method)
        outputs = run(*args, **with_eval_flags(run, args, kwargs))
        for path, variable in nnx.iter_graph(model):
            if isinstance(variable, nnx.BatchStat):
                mark(variable.get_value(), f"{STATISTICS_MARK}{'/'.join(map(str, path))}")
        return outputs

    return ModelCall(call, Recipe(_call_of, graphdef, method, arguments), arguments)


def _structure_and_values(graphdef) -> tuple[Hashable, list[Any]]:
    """The graph of a model's modules and variables, and the other values that its modules hold.

    Flax's own notes belong to the graph.
    """

    def is_value(name, attribute):
        return hasattr(attribute, "value") and not str(name).startswith("_pytree__")

    attributes = tuple(
        (name, None if is_value(name, attribute) else attribute) for name, attribute in graphdef.attributes
    )
    values = [attribute.value for name, attribute in graphdef.attributes if is_value(name, attribute)]
    return (tuple(graphdef.nodes), attributes), values


def _callable_modules(node, path=(), ancestors=()) -> Iterator[tuple[str, nnx.Module]]:
    """Every module that can be called, by its path; a module that is shared has several paths."""
    for key, child in nnx.iter_children(node):
        if isinstance(child, nnx.Variable) or any(child is ancestor for ancestor in ancestors):
            continue
        child_path = (*path, str(key))
        if isinstance(child, nnx.Module) and callable(child):
            yield "/".join(child_path), child
        yield from _callable_modules(child, child_path, (*ancestors, child))


@functools.lru_cache(maxsize=4096)
def _marking_class(cls, names):
    """The class with a `__call__` that marks. Nothing else of the module changes, for code that looks at it."""

    def __call__(self, *args, **kwargs):
        return mark_with_names(cls.__call__(self, *args, **kwargs), names)

    keywords = {"pytree": cls._pytree__is_pytree} if hasattr(cls, "_pytree__is_pytree") else {}
    return marking_subclass(cls, __call__, **keywords)
