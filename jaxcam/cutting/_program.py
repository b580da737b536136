"""A model traced in eval mode: its program, with the outputs of its layers marked."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr

from jaxcam.cutting._arguments import place_image
from jaxcam.cutting._calls import marks_of
from jaxcam.cutting._functional_model import STATISTICS_MARK
from jaxcam.cutting._output_path import select_output
from jaxcam.cutting._spec import CutSpec
from jaxcam.tracing import SCAN, Mark, computed, live, shapes_of, unrolled, without_stop_gradients
from jaxcam.tracing import marks as marks_in

# Layers in a longer loop, such as the cells of a decoder, are not listed one by one.
LISTED_ROUNDS = 64
_axis_numbers = itertools.count()


class TracedModel(NamedTuple):
    """A model's program on one example.

    Attributes:
      program: from the leaves of the parameters, of the random streams, and the image, to the leaves of the outputs.
      outputs: the tree of the outputs.
      marks: the marks that the outputs need; perhaps those of more layers than were asked for.
      without_jit: whether jitted blocks in the model were traced as if they were written out.
    """

    program: ClosedJaxpr
    outputs: Any
    marks: tuple[Mark, ...]
    without_jit: bool


def traced_model(spec: CutSpec, params: Any, x: Any) -> TracedModel:
    """The program of a model, with the layers of the spec marked. Nothing is computed.

    Args:
      spec: what is traced.
      params: the cut's parameters, or their shapes.
      x: the image, or its shape.

    Raises:
      ValueError: the model closes over a traced value, or updates its statistics.
    """
    if spec.layers is not None:
        # One trace serves all layers, unless a mark is where a program cannot be split.
        general = traced_model(spec._replace(layers=None), params, x)
        names = {mark.name for mark in general.marks}
        if names.issuperset(spec.marked or ()) and not any(mark.within or mark.jitted for mark in general.marks):
            return general
    shapes = shapes_of((params, x))
    function = spec.call.memo.remembered(_model_function, spec.of_program())
    traced = function.trace(shapes[0], spec.random_streams.leaves, shapes[1])
    if len(traced.jaxpr.jaxpr.invars) != len(jax.tree.leaves(shapes)) + len(spec.random_streams.leaves):
        raise ValueError(
            "the model closes over a traced value: hold it in the model's parameters, or pass it in inputs="
        )
    updated, marks = spec.call.memo.remembered(_updates_and_marks, traced.jaxpr)  # JAX keeps the trace
    if updated:
        raise ValueError(
            f"the model updates its statistics {', '.join(updated[:3])}, as in training: pass its flag for eval mode, "
            "such as inputs={'train': False}"
        )
    if not spec.without_jit and _may_share_a_trace(spec.layers, marks):
        # Jitted blocks of Linen that are alike share one trace, with the names of the first: each gets its own.
        return traced_model(spec._replace(without_jit=True), params, x)
    closed = traced.jaxpr
    if spec.marked is not None and any(SCAN in mark.within for name in spec.marked for mark in marks_of(name, marks)):
        closed, marks = spec.call.memo.remembered(_unrolled_with_marks, (closed, spec.marked))
    if spec.through_stop_gradient:
        closed = spec.call.memo.remembered(without_stop_gradients, closed)
    return TracedModel(closed, jax.tree.structure(traced.out_info), marks, spec.without_jit)


def listed_model(spec: CutSpec, params: Any, x: Any) -> TracedModel:
    """`traced_model` of all layers, with scans of at most `LISTED_ROUNDS` rounds around layers written out."""
    traced = traced_model(spec, params, x)
    names = frozenset(mark.name.split("[")[0] for mark in traced.marks if SCAN in mark.within)
    if not names:
        return traced
    closed, marks = spec.call.memo.remembered(_unrolled_with_marks, (traced.program, names, LISTED_ROUNDS))
    return traced._replace(program=closed, marks=marks)


def _updates_and_marks(closed: ClosedJaxpr) -> tuple[list[str], tuple[Mark, ...]]:
    """The statistics that a program updates, and the marks that its outputs need."""
    return computed(closed, STATISTICS_MARK), tuple(marks_in(live(closed)[0].jaxpr))


def _unrolled_with_marks(description) -> tuple[ClosedJaxpr, tuple[Mark, ...]]:
    """The program with the scans around some layers written out, and its marks."""
    closed = unrolled(*description)
    return closed, tuple(marks_in(live(closed)[0].jaxpr))


def jit_or_not(without_jit: bool) -> contextlib.AbstractContextManager[Any]:
    """The context to trace in, with jitted blocks as they are or as if they were written out."""
    return jax.disable_jit() if without_jit else contextlib.nullcontext()


def _may_share_a_trace(layers, marks) -> bool:
    """Whether a layer may be missing, or be there several times, because jitted blocks share a trace."""
    missing = not marks if layers is None else not all(marks_of(layer, marks) for layer in layers)
    count = Counter(mark.name for mark in marks)
    return missing or any(mark.jitted and count[mark.name] > 1 for mark in marks)


def _model_function(spec):
    """The model as a function `(params, random_streams, x) -> outputs` of one example.

    It is jitted for the cache of its traces: features and head of one cut need the same trace, several times each.
    """
    inputs = spec.further_inputs

    def run(params, random_streams, x):
        model, arrays = (params["model"], params["inputs"]) if inputs.array_places else (params, ())
        leaves = list(inputs.leaves)
        for i, array in zip(inputs.array_places, jax.tree.leaves(arrays), strict=True):
            leaves[i] = spec.with_batch_axis(array)
        further = jax.tree.unflatten(inputs.structure, leaves)
        args, kwargs = place_image(spec.with_batch_axis(x), further, spec.image, spec.call.arguments)
        streams = jax.tree.unflatten(spec.random_streams.structure, random_streams)
        with jit_or_not(spec.without_jit):
            outputs = _traced_afresh(
                lambda: select_output(spec.call(model, streams, args, kwargs, spec.layers), spec.output)
            )
        return jax.tree.map(spec.without_batch_axis, outputs)

    return jax.jit(run)


def _traced_afresh(call: Callable[[], Any]) -> Any:
    """The result of a call, for which every jit inside it is traced again, and by itself.

    A jitted block would return the program that it traced when nothing was marked, or keep ours for later. JAX keeps a
    trace under a named axis apart from those under others, so the call is traced under a new one, of one element, that
    nothing is mapped over.
    """
    static: list[Any] = []

    def inner(_):
        leaves, structure = jax.tree.flatten(call())
        static.extend([structure, leaves])
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    axis = f"jaxcam_{next(_axis_numbers)}"
    arrays = iter(jax.vmap(inner, in_axes=None, out_axes=None, axis_size=1, axis_name=axis)(0))  # type: ignore[arg-type]
    structure, leaves = static
    return jax.tree.unflatten(structure, [next(arrays) if isinstance(leaf, jax.Array) else leaf for leaf in leaves])
