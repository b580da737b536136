"""The functions of a `Cut` and of `Cuts`, made of a model's traced program.

They are jitted for the cache of traces, and inlined: a function that uses them is traced as if they were written out.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxcam._base.axes import channel_place
from jaxcam.cutting._calls import marked_call, marks_of
from jaxcam.cutting._checks import layer_choices
from jaxcam.cutting._cut import Cut, Cuts
from jaxcam.cutting._layouts import Layout, image_axis_of, layout_of
from jaxcam.cutting._output_kind import kind_of_outputs
from jaxcam.cutting._pickled import MadeFunction, Recipe
from jaxcam.cutting._program import TracedModel, jit_or_not, traced_model
from jaxcam.cutting._spec import CutSpec, image_struct
from jaxcam.tracing import MarkedCall, Split, Tap, channel_axes, shapes_of, split_at
from jaxcam.tracing import tap as tap_program


def traced_cut(spec: CutSpec, params: Any) -> Cut:
    """The `Cut` at the one layer of the spec. If the spec has an image's shape, the cut is checked for it.

    Raises:
      ValueError: what `_checked_program` and `Layout` raise, now or when the functions are called.
    """
    assert spec.layers is not None
    (layer,) = spec.layers
    spec = _with_image_axis(spec, params)
    features, head = remembered_functions(_features_and_head, spec)
    reads_input = outputs = None
    if spec.image_shape is not None:
        split, program = _split_model(spec, params, image_struct(spec.image_shape))
        program.layouts[layer].shape(split.aval)
        reads_input = split.reads[-1] or spec.prefix + spec.suffix > 0
        outputs = spec.call.memo.remembered(_kind_of_outputs, program.places.traced)
    return Cut(params, features, head, layer, reads_input, outputs, spec.image_channel_axis)


def traced_cuts(spec: CutSpec, params: Any) -> Cuts:
    """The `Cuts` at all layers of the spec; otherwise as `traced_cut`."""
    spec = _with_image_axis(spec, params)
    assert spec.layers is not None
    (tapped,) = remembered_functions(_tapped, spec)
    outputs = None
    if spec.image_shape is not None:
        tap, program = _tap_model(spec, params, image_struct(spec.image_shape))
        for layer in spec.layers:
            program.layouts[layer].shape(tap.avals[layer])
        outputs = spec.call.memo.remembered(_kind_of_outputs, program.places.traced)
    return Cuts(params, tapped, spec.layers, outputs, spec.image_channel_axis)


def _kind_of_outputs(traced: TracedModel) -> str:
    return kind_of_outputs(traced.program, traced.outputs)


def remembered_functions(make, spec: CutSpec) -> tuple[Any, ...]:
    """The functions that `make` makes of a spec, the same ones for equal specs; they pickle as the spec."""
    return spec.call.memo.remembered(make, spec)


def _with_image_axis(spec, params) -> CutSpec:
    """The spec with the image's channel axis that the program shows, where the framework has several layouts."""
    if spec.image_shape is None:
        return spec
    program = traced_model(spec, params, image_struct(spec.image_shape)).program
    axes = spec.call.memo.remembered(channel_axes, program)
    return spec._replace(image_channel_axis=image_axis_of(spec, axes))


def _features_and_head(spec) -> tuple[MadeFunction, MadeFunction]:
    (layer,) = spec.layers

    @functools.partial(jax.jit, inline=True)
    def features(params, x):
        split, program = _split_model(spec, params, x)
        return program.layouts[layer].activation(split.before(*program.inputs)[0])

    @functools.partial(jax.jit, inline=True)
    def head(params, A, x):
        split, program = _split_model(spec, params, x)
        layout = program.layouts[layer]
        shape = layout.shape(split.aval)
        if A.shape != shape:
            raise ValueError(f"expected A of shape {shape}, which layer {layer!r} gives, got {A.shape}")
        like = split.before(*program.inputs)[0] if layout.has_tokens else split.aval
        return jax.tree.unflatten(program.outputs, split.after(layout.output(A, like), *program.inputs))

    recipe = Recipe(remembered_functions, _features_and_head, spec)
    return MadeFunction(features, recipe, 0), MadeFunction(head, recipe, 1)


def _tapped(spec) -> tuple[MadeFunction]:
    @functools.partial(jax.jit, inline=True)
    def run(params, deltas, x):
        tap, program = _tap_model(spec, params, x)
        added = {layer: _as_added(delta, tap.avals[layer], program.layouts[layer]) for layer, delta in deltas.items()}
        values, out = tap.run(added, *program.inputs)
        activations = [program.layouts[layer].activation(values[layer]) for layer in spec.layers]
        return activations, jax.tree.unflatten(program.outputs, out)

    def tapped(params, deltas, x):
        for layer in deltas:
            if layer not in spec.layers:
                raise ValueError(f"deltas has {layer!r}: choose one of {', '.join(spec.layers)}")
        values, outputs = run(params, dict(deltas), x)
        return dict(zip(spec.layers, values, strict=True)), outputs  # in the user's order, which jit would sort

    return (MadeFunction(tapped, Recipe(remembered_functions, _tapped, spec), 0),)


def _as_added(delta, aval, layout: Layout) -> jax.Array:
    """What is added to an activation, in the shape and type of the layer's output."""
    shape, expected = jnp.shape(delta), layout.shape(aval)
    if shape != expected:
        raise ValueError(f"expected shape {expected} for deltas[{layout.layer!r}], got {shape}")
    like = jnp.zeros(aval.shape, aval.dtype) if layout.has_tokens else aval
    return layout.output(jnp.asarray(delta, aval.dtype), like)


class _Places(NamedTuple):
    """Where a program is taken apart."""

    traced: TracedModel
    layers: tuple[str, ...]
    after: Callable[[jax.Array], jax.Array] | None

    def calls(self) -> dict[str, MarkedCall]:
        """By layer, the marked value."""
        return {layer: marked_call(layer, self.traced.marks)[0] for layer in self.layers}

    def after_by_layer(self) -> dict[str, ClosedJaxpr]:
        """`after` as a program, for the output of each layer."""
        if self.after is None:
            return {}
        avals = {layer: shapes_of(marked_call(layer, self.traced.marks)[1].aval) for layer in self.layers}
        with jit_or_not(self.traced.without_jit):
            return {layer: jax.make_jaxpr(self.after)(aval) for layer, aval in avals.items()}


class _Program(NamedTuple):
    """A model's program that can be cut at the layers of a spec.

    Attributes:
      places: the program, and where it is taken apart.
      inputs: the values of its inputs.
      outputs: the tree of its outputs.
      layouts: by layer, how the marked value is an activation.
    """

    places: _Places
    inputs: list[Any]
    outputs: Any
    layouts: dict[str, Layout]


def _split_model(spec, params, x) -> tuple[Split, _Program]:
    """The model's program in two parts at the layer."""
    program = _checked_program(spec, params, x)
    split = spec.call.memo.remembered(_split_at_layer, program.places)
    _check_deterministic(split.needs, params)
    return split, program


def _tap_model(spec, params, x) -> tuple[Tap, _Program]:
    """The model's program, to be added to at its layers."""
    program = _checked_program(spec, params, x)
    tap = spec.call.memo.remembered(_tap_at_layers, program.places)
    _check_deterministic(tap.needs, params)
    return tap, program


def _split_at_layer(places: _Places) -> Split:
    (layer,) = places.layers
    return split_at(places.calls()[layer], places.traced.program, after=places.after_by_layer().get(layer))


def _tap_at_layers(places: _Places) -> Tap:
    return tap_program(places.calls(), places.traced.program, after=places.after_by_layer())


def _checked_program(spec, params, x) -> _Program:
    """The model's program, with the marked values of the layers.

    Raises:
      ValueError: the image has a batch axis, or a layer cannot be cut at.
    """
    _check_image_shape(spec, x)
    traced = traced_model(spec, params, x)
    axes = spec.call.memo.remembered(channel_axes, traced.program)
    layouts = {}
    for layer in spec.layers:
        if not marks_of(layer, traced.marks):
            called = [mark.name for mark in traced_model(spec._replace(layers=None), params, x).marks]
            raise ValueError(
                f"layer {layer!r} is not called in eval mode, or not for the outputs: {layer_choices(layer, called)}"
            )
        layouts[layer] = layout_of(layer, spec, marked_call(layer, traced.marks)[1], axes)
    inputs = [*jax.tree.leaves(params), *spec.random_streams.leaves, x]
    return _Program(_Places(traced, spec.layers, spec.after), inputs, traced.outputs, layouts)


def _check_image_shape(spec, x) -> None:
    """Raises a ValueError if the image has other axes, or another number of channels, than the known shape."""
    known, shape = spec.image_shape, tuple(x.shape)
    if known is None:
        return
    place = channel_place(len(known), spec.image_channel_axis)
    if len(shape) != len(known) or (place is not None and shape[place] != known[place]):
        expected = " ".join(map(str, known))
        raise ValueError(
            f"expected an image [{expected}] without a batch axis, got shape {shape}: use jax.vmap for many"
        )


def _check_deterministic(needs, params) -> None:
    """Raises a ValueError if the program needs an input between the parameters and the image, a random stream."""
    if any(needs[len(jax.tree.leaves(params)) : -1]):
        raise ValueError(
            "the model draws random numbers in eval mode: its maps would be noise of their own; make it deterministic"
        )
