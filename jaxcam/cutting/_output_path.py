"""The part of a model's outputs that is explained: `output=`, a path or a function."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def select_output(outputs: Any, output: str | Callable[[Any], Any] | None) -> Any:
    """The outputs, what a function makes of them, or what is at a path in them.

    Args:
      outputs: what the model returns, with its batch axis.
      output: names of keys, attributes and places, joined by "/": "logits", "0", "heads/cls". None for all outputs.

    Raises:
      ValueError: there is nothing at the path; the message lists what there is.

    Example:
      >>> select_output({"heads": [1, {"cls": 2}]}, "heads/1/cls")
      2
    """
    if output is None:
        return outputs
    if callable(output):
        return output(outputs)
    for part in output.split("/"):
        names = _names_in(outputs)
        if part not in names:
            choices = f"choose one of {', '.join(names)}" if names else "this part has no parts"
            raise ValueError(f"no output {output!r}, as there is no {part!r}: {choices}")
        outputs = _part(outputs, part)
    return outputs


def _names_in(outputs) -> list[str]:
    if isinstance(outputs, Mapping):
        return [str(key) for key in outputs]
    fields = list(getattr(outputs, "_fields", ()))  # a NamedTuple
    if dataclasses.is_dataclass(outputs):
        fields = [field.name for field in dataclasses.fields(outputs)]
    places = [str(i) for i in range(len(outputs))] if isinstance(outputs, Sequence) else []
    return [*fields, *places]


def _part(outputs, part):
    if isinstance(outputs, Mapping):
        return next(value for key, value in outputs.items() if str(key) == part)
    return outputs[int(part)] if part.isdecimal() and isinstance(outputs, Sequence) else getattr(outputs, part)
