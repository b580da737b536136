"""Names of columns: what a metric calls a value, and the options that are bound to the metric.

>>> key = ColumnKey("pointing", (("tolerance", "15"),))
>>> str(key), key == ColumnKey.parse("pointing, tolerance 15")
('pointing, tolerance 15', True)
>>> {key: 0.5}["pointing, tolerance 15"], {ColumnKey("energy"): 0.25}["energy"]
(0.5, 0.25)
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxcam.runtime import content_digest, describe

SEPARATOR = ", "
LONGEST_OPTION = 40  # letters


class ColumnKey(NamedTuple):
    """The name of a column: the metric's own name for the value, and the metric's options as text.

    A key equals its text and has the text's hash, so a mapping with such keys is also read by text:
    `estimates["average_drop"]`, `estimates["pointing, tolerance 15"]`. The text tells keys apart, because neither a
    name nor an option contains ", ". JSON needs the text: `str(key)`.

    Attributes:
      name: "pointing".
      options: pairs of an option and its value, such as `(("tolerance", "15"),)`, sorted by option.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name + self.options_text

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, str | ColumnKey) else False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(str(self) if self.options else self.name)

    @property
    def options_text(self) -> str:
        """The options as they stand behind a name or a title: ", tolerance 15"."""
        return "".join(f"{SEPARATOR}{option} {value}" for option, value in self.options)

    @classmethod
    def parse(cls, text: str) -> "ColumnKey":
        """The key of a text that `str` made of one."""
        name, *options = text.split(SEPARATOR)
        pairs = (option.partition(" ") for option in options)
        return cls(name, tuple((option, value) for option, _, value in pairs))


def as_key(column: ColumnKey | str) -> ColumnKey:
    """A column's key, given the key or its text."""
    return column if isinstance(column, ColumnKey) else ColumnKey.parse(column)


def option_texts(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Options as they stand in a key, sorted by name.

    Example:
      >>> option_texts({"steps": 4, "baseline": (0.1, 0.2)})
      (('baseline', '(0.1 0.2)'), ('steps', '4'))
    """
    return tuple((name, _option_text(value)) for name, value in sorted(options.items()))


def _option_text(value):
    """The value in words if they are few, else eight digits of its digest."""
    text = " ".join(str(getattr(value, "__name__", value)).replace(",", " ").split())
    readable = len(text) <= LONGEST_OPTION and " at 0x" not in text
    return text if readable else content_digest(json.dumps(describe(value)))[:8]
