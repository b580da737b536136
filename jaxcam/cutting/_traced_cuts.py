"""The functions of a `Cut` and of `Cuts`, made of a model's traced program.

They are jitted for the cache of traces, and inlined: a function that uses them is traced as if they were written out.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxcam.cutting._checks import layer_choices
from jaxcam.cutting._cut import Cut, Cuts
from jaxcam.cutting._program import TracedModel, jit_or_not, marks_of, traced_model
from jaxcam.cutting._spec import CutSpec, image_struct
from jaxcam.tracing import Mark, Split, Tap, shapes_of, split_at
from jaxcam.tracing import tap as tap_program


def traced_cut(spec: CutSpec, params: Any) -> Cut:
    """The `Cut` at the one layer of the spec. If the spec has an image's shape, the cut is checked for it.

    Raises:
      ValueError: what `_checked_program` and `_activation` raise, now or when the functions are called.
    """
    assert spec.layers is not None
    (layer,) = spec.layers
    features, head = spec.call.memo.remembered(_features_and_head, spec)
    reads_input = None
    if spec.image_shape is not None:
        split, _, _ = _split_model(spec, params, image_struct(spec.image_shape))
        _activation_shape(split.aval, spec, layer)
        reads_input = split.reads[-1] or spec.prefix > 0
    return Cut(params, features, head, layer, reads_input)


def traced_cuts(spec: CutSpec, params: Any) -> Cuts:
    """The `Cuts` at all layers of the spec; otherwise as `traced_cut`."""
    assert spec.layers is not None
    tapped = spec.call.memo.remembered(_tapped, spec)
    if spec.image_shape is not None:
        tap, _, _ = _tap_model(spec, params, image_struct(spec.image_shape))
        for layer in spec.layers:
            _activation_shape(tap.avals[layer], spec, layer)
    return Cuts(params, tapped, spec.layers)


def _features_and_head(spec) -> tuple[Callable[[Any, Any], jax.Array], Callable[[Any, Any, Any], Any]]:
    (layer,) = spec.layers

    @functools.partial(jax.jit, inline=True)
    def features(params, x):
        split, inputs, _ = _split_model(spec, params, x)
        return _activation(split.before(*inputs)[0], spec, layer)

    @functools.partial(jax.jit, inline=True)
    def head(params, A, x):
        split, inputs, outputs = _split_model(spec, params, x)
        shape = _activation_shape(split.aval, spec, layer)
        if A.shape != shape:
            raise ValueError(f"expected A of shape {shape}, which layer {layer!r} gives, got {A.shape}")
        if spec.prefix:
            tokens = spec.without_batch_axis(split.before(*inputs)[0])
            A = jnp.concatenate([tokens[: spec.prefix], A.reshape(-1, A.shape[-1])])
        A = A.reshape(split.aval.shape).astype(split.aval.dtype)
        return jax.tree.unflatten(outputs, split.after(A, *inputs))

    return features, head


def _tapped(spec) -> Callable[[Any, Any, Any], tuple[dict[str, jax.Array], Any]]:
    @functools.partial(jax.jit, inline=True)
    def run(params, deltas, x):
        tap, inputs, outputs = _tap_model(spec, params, x)
        added = {layer: _as_added(delta, tap.avals[layer], spec, layer) for layer, delta in deltas.items()}
        values, out = tap.run(added, *inputs)
        return [_activation(values[layer], spec, layer) for layer in spec.layers], jax.tree.unflatten(outputs, out)

    def tapped(params, deltas, x):
        for layer in deltas:
            if layer not in spec.layers:
                raise ValueError(f"deltas has {layer!r}: choose one of {', '.join(spec.layers)}")
        values, outputs = run(params, dict(deltas), x)
        return dict(zip(spec.layers, values, strict=True)), outputs  # in the user's order, which jit would sort

    return tapped


def _as_added(delta, aval, spec, layer) -> jax.Array:
    """What is added to an activation, in the shape and type of the layer's output."""
    shape, expected = jnp.shape(delta), _activation_shape(aval, spec, layer)
    if shape != expected:
        raise ValueError(f"expected shape {expected} for deltas[{layer!r}], got {shape}")
    delta = jnp.asarray(delta, aval.dtype)
    if spec.prefix:
        delta = jnp.pad(delta.reshape(-1, shape[-1]), ((spec.prefix, 0), (0, 0)))
    return delta.reshape(aval.shape)


def _activation(output, spec, layer) -> jax.Array:
    """A layer's output as the activation of one example, its tokens in their grid."""
    output = spec.without_batch_axis(output)
    if spec.grid is None:
        return output
    tokens = spec.prefix + math.prod(spec.grid)
    if output.ndim != 2 or output.shape[0] != tokens:
        raise ValueError(
            f"expected ({tokens}, k) of layer {layer!r} for grid={spec.grid} with prefix={spec.prefix}, got "
            f"{output.shape}"
        )
    return output[spec.prefix :].reshape(*spec.grid, output.shape[-1])


def _activation_shape(aval, spec, layer) -> tuple[int, ...]:
    return jax.eval_shape(lambda output: _activation(output, spec, layer), aval).shape


def _split_model(spec, params, x) -> tuple[Split, list[Any], Any]:
    """The model's program in two parts at the layer, the values of its inputs, and the tree of its outputs."""
    traced, inputs = _checked_program(spec, params, x)
    split = spec.call.memo.remembered(_split_at_layer, _Places(traced, spec.layers, spec.after))
    _check_deterministic(split.needs, params)
    return split, inputs, traced.outputs


def _tap_model(spec, params, x) -> tuple[Tap, list[Any], Any]:
    """The model's program, to be added to at its layers, the values of its inputs, and the tree of its outputs."""
    traced, inputs = _checked_program(spec, params, x)
    tap = spec.call.memo.remembered(_tap_at_layers, _Places(traced, spec.layers, spec.after))
    _check_deterministic(tap.needs, params)
    return tap, inputs, traced.outputs


class _Places(NamedTuple):
    """Where a program is taken apart."""

    traced: TracedModel
    layers: tuple[str, ...]
    after: Callable[[jax.Array], jax.Array] | None

    def after_by_layer(self) -> dict[str, ClosedJaxpr]:
        """`after` as a program, for the output of each layer."""
        if self.after is None:
            return {}
        avals = {layer: shapes_of(marks_of(layer, self.traced.marks)[0].aval) for layer in self.layers}
        with jit_or_not(self.traced.without_jit):
            return {layer: jax.make_jaxpr(self.after)(aval) for layer, aval in avals.items()}


def _split_at_layer(places: _Places) -> Split:
    (layer,) = places.layers
    return split_at(layer, places.traced.program, after=places.after_by_layer().get(layer))


def _tap_at_layers(places: _Places) -> Tap:
    return tap_program(places.layers, places.traced.program, after=places.after_by_layer())


def _checked_program(spec, params, x) -> tuple[TracedModel, list[Any]]:
    """The traced model and the values of its program's inputs.

    Raises:
      ValueError: the image has a batch axis, or a layer cannot be cut at.
    """
    known = spec.image_shape
    if known is not None and (len(x.shape), x.shape[-1:]) != (len(known), known[-1:]):
        expected = " ".join(map(str, known))
        raise ValueError(
            f"expected an image [{expected}] without a batch axis, got shape {x.shape}: use jax.vmap for many"
        )
    traced = traced_model(spec, params, x)
    for layer in spec.layers:
        marks = marks_of(layer, traced.marks)
        if not marks:
            called = [mark.name for mark in traced_model(spec._replace(layers=None), params, x).marks]
            raise ValueError(
                f"layer {layer!r} is not called in eval mode, or not for the outputs: {layer_choices(layer, called)}"
            )
        _check_called_once(layer, marks)
    return traced, [*jax.tree.leaves(params), *spec.random_streams.leaves, x]


def _check_called_once(layer: str, marks: list[Mark]) -> None:
    """Raises a ValueError if a layer's marks are not those of one call that returns one array of floats."""
    around = "Cut at a layer around it"
    if marks[0].within:
        transformation = marks[0].within[0]
        reasons = {
            "vmap": f"called under vmap: it is many layers in one. {around}",
            "jvp": f"differentiated inside the model. {around}",
        }
        default = f"called inside {transformation}, which jaxcam does not take apart. {around}, or write the loop out"
        raise ValueError(f"layer {layer!r} is {reasons.get(transformation, default)}")
    if marks[0].name != layer:
        count = len({mark.name for mark in marks})
        raise ValueError(f"layer {layer!r} returns {count} arrays: a cut needs one. {around}, or inside it")
    if len(marks) > 1:
        raise ValueError(
            f"layer {layer!r} is called {len(marks)} times: a cut needs one call. {around}, or give each call a "
            "layer of its own"
        )
    if not jnp.issubdtype(marks[0].aval.dtype, jnp.floating):
        raise ValueError(f"expected floats of layer {layer!r}, got {marks[0].aval.dtype}")


def _check_deterministic(needs, params) -> None:
    """Raises a ValueError if the program needs an input between the parameters and the image, a random stream."""
    if any(needs[len(jax.tree.leaves(params)) : -1]):
        raise ValueError(
            "the model draws random numbers in eval mode: its maps would be noise of their own; make it deterministic"
        )
