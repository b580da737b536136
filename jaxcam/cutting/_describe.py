"""What is known about each layer of a model before it is cut, and the layer that a newcomer should choose."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr

from jaxcam.cutting._calls import listed_calls
from jaxcam.cutting._image_network import TokenGrid
from jaxcam.cutting._program import listed_model
from jaxcam.cutting._self_cutting import SelfCutting
from jaxcam.cutting._spec import CutSpec, image_struct
from jaxcam.tracing import (
    CALLS,
    CUSTOM_RULES,
    MARK,
    FlatProgram,
    Mark,
    bounds_of,
    contraction_places,
    entering,
    flatten,
    live,
    mixes,
    passed_by_all,
    pooled_from,
    rearranged_from,
)

# More tokens than this beside those of the grid are no class token and no registers.
MOST_EXTRA_TOKENS = 16


class LayerDescription(NamedTuple):
    """What is known about a layer.

    Attributes:
      name: what `jaxcam.cut` takes.
      shape: of the layer's output for one image, `[*spatial k]`.
      reads_input: whether the head still reads the input, as it does at a branch before an addition: the map is that of
        the branch alone. None if it is not known.
      can_be_negative: whether values can be negative. False only if the program shows that they cannot, as after a relu
        or a sigmoid. Methods that weight channels are made for values that cannot.
      recommended: whether `jaxcam.cut` takes this layer by default.
      note: what a cut at the layer needs, such as a grid for tokens.
    """

    name: str
    shape: tuple[int, ...]
    reads_input: bool | None
    can_be_negative: bool
    recommended: bool = False
    note: str = ""


class LayerDescriptions(tuple[LayerDescription, ...]):
    """A tuple of `LayerDescription`, in the order of the layers' calls. It prints as a table."""

    @property
    def recommended(self) -> LayerDescription | None:
        """The layer that `jaxcam.cut` takes by default; None if there is no layer with a map."""
        return next((layer for layer in self if layer.recommended), None)

    def __str__(self) -> str:
        reads = {None: "?", True: "yes", False: "no"}
        rows = [("", "layer", "output", "head reads the input", "can be negative", "")]
        for layer in self:
            mark = "*" if layer.recommended else ""
            negative = "yes" if layer.can_be_negative else "no"
            rows.append(
                (mark, layer.name, " x ".join(map(str, layer.shape)), reads[layer.reads_input], negative, layer.note)
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "* recommended" if self.recommended else "no layer has a map"])


class _Place(NamedTuple):
    """A layer, and where it stands in the model.

    Attributes:
      description: of the layer, without a recommendation.
      usable: whether a map of the layer alone explains the outputs: its head does not read the input, and the layer is
        neither an output, nor the input rescaled, nor a pooling of another layer.
      depth: the share of the model's products that come before the layer.
      all_tokens_count: whether the outputs may depend on all places of the layer's first axis.
    """

    description: LayerDescription
    usable: bool
    depth: float
    all_tokens_count: Callable[[], bool]

    @property
    def locations(self) -> int:
        return math.prod(self.description.shape[:-1])


def describe_traced(
    spec: CutSpec, params: Any, shapes: Mapping[str, tuple[int, ...]], tokens: int | None
) -> LayerDescriptions:
    """The layers of a model that is traced.

    Args:
      spec: of all layers, with the shape of the image.
      params: the cut's parameters.
      shapes: of the layers' outputs, by name.
      tokens: how many tokens the recommended layer must have; None if it is not known.
    """
    image = image_struct(spec.image_shape)
    traced = listed_model(spec, params, image)
    program, needs = live(traced.program)
    flat = _flattened(program)
    values = _values_by_layer(flat, traced.marks)
    places = _places(flat, flat.inputs[-1] if needs[-1] else None, values, shapes)
    return _with_recommendation(places, len(image.shape), tokens, spec.own_grid)


def _values_by_layer(flat: FlatProgram, marks: Sequence[Mark]) -> dict[str, int]:
    """By the name of a layer, with the number of its call, the number of its value."""
    made: dict[str, list[int]] = {}
    for step in flat.steps:
        if step.name == MARK:
            made.setdefault(step.params["name"], []).append(step.outputs[0])
    counts = Counter(mark.name for mark in marks)
    # A mark inside a loop that is one step is not counted among the steps, so that the numbers of calls differ.
    return {
        layer: made[call.name][call.number]
        for layer, (call, _) in listed_calls(marks).items()
        if len(made.get(call.name, ())) == counts[call.name]
    }


def describe_self_cutting(
    model: SelfCutting, image: jax.ShapeDtypeStruct, shapes: Mapping[str, tuple[int, ...]]
) -> LayerDescriptions:
    """The layers of a network that cuts itself, from its cut at all layers, or else from the cut at each."""
    names = tuple(shapes)
    try:
        cuts = model.cuts_at(names)
    except NotImplementedError:
        places = [_place_of_cut(model, name, image, shapes[name]) for name in names]
        return _with_recommendation(places, len(image.shape), None)
    closed = jax.make_jaxpr(lambda params, x: _in_order(cuts.tapped(params, {}, x), names))(cuts.params, image)
    flat = _flattened(closed)
    count = len(names)
    values = {name: rearranged_from(flat, v) for name, v in zip(names, flat.outputs[:count], strict=True)}
    model_alone = flat._replace(outputs=flat.outputs[count:])
    places = _places(model_alone, flat.inputs[-1], values, shapes)
    return _with_recommendation(places, len(image.shape), None)


def _in_order(activations_and_outputs, names):
    activations, outputs = activations_and_outputs
    return [activations[name] for name in names], outputs


def _place_of_cut(model, name, image, shape) -> _Place:
    """What the cut at one layer tells."""
    cut = model.cut_at(name)
    flat = _flattened(jax.make_jaxpr(cut.features)(cut.params, image))
    negative = bounds_of(flat)[flat.outputs[0]][0] < 0
    description = LayerDescription(name, shape, cut.reads_input, negative)
    return _Place(description, cut.reads_input is False, 1.0, lambda: True)


def _flattened(closed: ClosedJaxpr) -> FlatProgram:
    return flatten(closed, entering(CALLS | CUSTOM_RULES))


def _places(
    program: FlatProgram, image: int | None, values: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> list[_Place]:
    """Where each layer stands in a program that makes its value.

    Args:
      program: of the model.
      image: the number of the image; None if the outputs do not need it.
      values: the number of each layer's value.
      shapes: of the layers' outputs, for those that have no number as well.
    """
    bounds = bounds_of(program)
    on_all_paths = set(bounds) if image is None else passed_by_all(program, image)
    made_at = {v: place for place, step in enumerate(program.steps) for v in step.outputs}
    products = contraction_places(program, _made_from(program, image))
    by_value = {v: name for name, v in values.items() if v in on_all_paths}
    most_outputs = max(math.prod(program.avals[v].shape) for v in program.outputs)
    places = []
    for name, shape in shapes.items():
        v = values.get(name)
        if v is None:
            places.append(_Place(LayerDescription(name, shape, None, True), False, 0.0, lambda: False))
            continue
        description = LayerDescription(name, shape, v not in on_all_paths, bounds[v][0] < 0)
        before = sum(place < made_at.get(v, -1) for place in products)
        usable = v in on_all_paths and 0 < before
        if usable and before == len(products):
            usable = math.prod(shape) > most_outputs
        if usable:
            usable = not any(_has_map_of(by_value, source, shapes) for source in pooled_from(program, v))
        axis = len(program.avals[v].shape) - len(shape)
        places.append(
            _Place(description, usable, before / max(len(products), 1), functools.partial(mixes, program, v, axis))
        )
    return places


def _has_map_of(by_value: Mapping[int, str], value: int, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return value in by_value and len(shapes[by_value[value]]) > 1


def _made_from(program: FlatProgram, image: int | None) -> set[int]:
    """The values that depend on the image."""
    made = set() if image is None else {image}
    for step in program.steps:
        if not made.isdisjoint(step.inputs):
            made.update(step.outputs)
    return made


def _with_recommendation(
    places: Sequence[_Place], rank: int, tokens: int | None, own_grid: TokenGrid | None = None
) -> LayerDescriptions:
    """The descriptions, with the recommended one marked."""
    chosen = _recommended(places, rank, tokens)
    descriptions = [place.description for place in places]
    if chosen is not None:
        last_map = max((i for i in range(chosen) if _is_map(places[i], rank)), default=None)
        note = "" if _is_map(places[chosen], rank) else _token_note(descriptions, chosen, last_map, own_grid)
        descriptions[chosen] = descriptions[chosen]._replace(recommended=True, note=note)
    return LayerDescriptions(descriptions)


def _recommended(places: Sequence[_Place], rank: int, tokens: int | None) -> int | None:
    """The place of the recommended layer.

    Among maps of the last resolution the last whose values cannot be negative, or else the last. A model that does most
    of its work on tokens has the last layer whose tokens all count: behind a vision transformer's last attention, its
    class token alone does.
    """
    maps = [i for i, place in enumerate(places) if _is_map(place, rank)]
    for i in reversed(range(len(places))):
        shape = places[i].description.shape
        if maps and tokens is None and (i < maps[-1] or places[maps[-1]].depth >= 0.5):
            break
        has_tokens = places[i].usable and len(shape) == 2 < rank and min(shape) > 1
        if has_tokens and tokens in (None, shape[0]) and places[i].all_tokens_count():
            return i
    if not maps or tokens is not None:
        return None
    resolution = places[maps[-1]].description.shape[:-1]
    maps = [i for i in maps if places[i].description.shape[:-1] == resolution]
    not_negative = [i for i in maps if not places[i].description.can_be_negative]
    return (not_negative or maps)[-1]


def _is_map(place: _Place, rank: int) -> bool:
    shape = place.description.shape
    return place.usable and len(shape) == rank and place.locations > 1 and shape[-1] > 1


def _token_note(
    descriptions: Sequence[LayerDescription], chosen: int, last_map: int | None, own_grid: TokenGrid | None
) -> str:
    """What to say about tokens; with the shape of their grid, if a map of so many patches comes before."""
    count = descriptions[chosen].shape[0]
    if own_grid is not None and count == own_grid.prefix + math.prod(own_grid.grid):
        return f"tokens: the network says grid={own_grid.grid} and prefix={own_grid.prefix}"
    if last_map is not None:
        grid = descriptions[last_map].shape[:-1]
        extra = count - math.prod(grid)
        if 0 <= extra <= MOST_EXTRA_TOKENS:
            return f"tokens: give grid={grid}" + (f", and prefix={extra} if the others come first" if extra else "")
    return "tokens: give grid=(h, w), and prefix= for a class token and registers"
