"""Which marked value of a traced program is a layer's output: the call and the array that a name chooses.

A name is the layer's, and may end in the number of a call and of an array: "encoder:1", "block[0]", "encoder:1[0]".
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxcam.tracing import Mark, MarkedCall

# The name of the layer, then ":1" for its second call, then "[0]" for the first of several arrays.
NAME = re.compile(r"(?P<layer>.+?)(?::(?P<call>\d+))?(?:\[(?P<array>\d+)\])?")


class LayerCall(NamedTuple):
    """A layer's name, the number of a call, and the number of an array; None where the name has no number."""

    layer: str
    call: int | None
    array: int | None


def parsed_name(name: str) -> LayerCall:
    """The parts of a name.

    Example:
      >>> parsed_name("blocks/attn:2"), parsed_name("block[1]")
      (LayerCall(layer='blocks/attn', call=2, array=None), LayerCall(layer='block', call=None, array=1))
    """
    match = NAME.fullmatch(name)
    if match is None:
        return LayerCall(name, None, None)
    call, array = (None if match[part] is None else int(match[part]) for part in ("call", "array"))
    return LayerCall(match["layer"], call, array)


def marks_of(layer: str, marks: Sequence[Mark]) -> list[Mark]:
    """The marks of a layer, whatever the call and the array."""
    layer = parsed_name(layer).layer
    return [mark for mark in marks if mark.name == layer or mark.name.startswith(f"{layer}[")]


def listed_calls(marks: Sequence[Mark]) -> dict[str, tuple[MarkedCall, Mark]]:
    """By the name that chooses it, each marked value that a program can be cut at, in the order of the marks.

    The name is the layer's. It ends in the number of the call if the layer is called several times, and in that of the
    array if the outputs need several of its arrays. A layer whose first call is inside a transformation has no names.

    Args:
      marks: those of the program.
    """
    calls = Counter(mark.name for mark in marks)
    arrays: Counter[str] = Counter()
    for mark in {mark.name: mark for mark in marks}.values():
        arrays[_without_array(mark.name)] += jnp.issubdtype(mark.aval.dtype, jnp.floating)
    numbers: Counter[str] = Counter()
    refused: dict[str, bool] = {}  # by layer, whether its first call is inside a transformation
    listed = {}
    for mark in marks:
        layer, number = _without_array(mark.name), numbers[mark.name]
        numbers[mark.name] += 1
        if refused.setdefault(layer, bool(mark.within)) or mark.within:
            continue
        if jnp.issubdtype(mark.aval.dtype, jnp.floating):
            of_call = f":{number}" if calls[mark.name] > 1 else ""
            of_array = mark.name.removeprefix(layer) if arrays[layer] > 1 else ""
            listed[layer + of_call + of_array] = MarkedCall(mark.name, number), mark
    return listed


def _without_array(mark_name: str) -> str:
    return parsed_name(mark_name).layer if mark_name.endswith("]") else mark_name


def marked_call(name: str, marks: Sequence[Mark]) -> tuple[MarkedCall, Mark]:
    """The one marked value that a name chooses, and its mark.

    Args:
      name: of the layer, with or without the numbers of a call and of an array.
      marks: those of the program, of which the layer has some.

    Raises:
      ValueError: the name chooses none, or several; the message lists the choices.
    """
    layer, call, array = parsed_name(name)
    own = marks_of(name, marks)
    _check_within(name, own[0])
    mark_name = _array_name(layer, array, own)
    calls = [mark for mark in own if mark.name == mark_name]
    if call is None and len(calls) > 1:
        choices = [f"{layer}:{number}" for number in range(len(calls))]
        raise ValueError(
            f"layer {layer!r} is called {len(calls)} times: a cut needs one call. Choose {_some(choices)}, or cut at a "
            "layer around it"
        )
    if call is not None and call >= len(calls):
        raise ValueError(f"no layer {name!r}: {layer!r} is called {len(calls)} times, from {layer!r}:0")
    mark = calls[call or 0]
    _check_within(name, mark)
    if not jnp.issubdtype(mark.aval.dtype, jnp.floating):
        raise ValueError(f"expected floats of layer {name!r}, got {mark.aval.dtype}")
    return MarkedCall(mark_name, call or 0), mark


def _array_name(layer, array, own) -> str:
    """The name of the marks of the array that is chosen, or of the only one that is in use."""
    avals = {mark.name: mark.aval for mark in own}
    names = list(avals)
    if array is not None:
        chosen = f"{layer}[{array}]"
        if chosen not in avals:
            raise ValueError(f"no array {chosen!r} that the outputs need: choose one of {', '.join(names)}")
        return chosen
    floats = [name for name in names if jnp.issubdtype(avals[name].dtype, jnp.floating)]
    if len(floats) > 1:
        choices = [f"{name} {list(avals[name].shape)}" for name in floats]
        raise ValueError(
            f"layer {layer!r} returns {len(floats)} arrays: a cut needs one. Choose {_some(choices)}, or cut at a "
            "layer around it or inside it"
        )
    return (floats or names)[0]


def _check_within(name, mark) -> None:
    """Raises a ValueError if the calls are inside a transformation, or a loop that is not written out."""
    around = "Cut at a layer around it"
    for transformation in mark.within[:1]:
        reasons = {
            "vmap": f"called under vmap: it is many layers in one. {around}",
            "jvp": f"differentiated inside the model. {around}",
        }
        default = f"called inside {transformation}, which jaxcam does not take apart. {around}, or write the loop out"
        raise ValueError(f"layer {name!r} is {reasons.get(transformation, default)}")


def _some(choices: list[str]) -> str:
    """The choices as text; the first two and the last of many."""
    shown = choices if len(choices) <= 4 else [*choices[:2], "...", choices[-1]]
    return ", ".join(shown)
