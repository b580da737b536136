"""Limits on what a file may make jaxcam do: how much it reads, unpacks and decodes.

A file that asks for more is refused in one line, which names the limit. All limits can be raised, for a program with
`change`, for a part of it with `changed`, and for the command line in the environment:

    JAXCAM_LIMITS=arrays=1e6,expansion=100 jaxcam vgg16 --weights model.safetensors cat.jpg

>>> current().arrays
65536
>>> with changed(arrays=10**6):
...     current().arrays
1000000
>>> current().arrays
65536

The limit on the pixels of a picture is Pillow's: twice `PIL.Image.MAX_IMAGE_PIXELS`.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

VARIABLE = "JAXCAM_LIMITS"
MEBIBYTE = 2**20


class Limits(NamedTuple):
    """The limits, each of which can be raised.

    Attributes:
      arrays: the most named arrays in a file of weights. A PyTorch file may have 64 instructions of its pickle for
        each of them, and the header of a safetensors file 256 bytes.
      expansion: the most bytes that the arrays of a file of weights may take for each byte of the file. A file of less
        than 16 MiB counts as 16 MiB, so that small files may unpack to 256 MiB.
      text_bytes: the most bytes of a csv file, a list of names or labels, or an annotation.
      rows: the most lines of a csv file or of a list.
      json_bytes: the most bytes of the description of a model, which is JSON.
      scans: the most scans of a progressive JPEG file. Each takes a pass over all pixels.
      clip_pixels: the most pixels of all frames that are decoded to reach one frame of an animated picture.

    Example:
      >>> Limits().text_bytes == 256 * 2**20
      True
    """

    arrays: int = 2**16
    expansion: int = 16
    text_bytes: int = 2**28
    rows: int = 2**21
    json_bytes: int = 2**24
    scans: int = 100
    clip_pixels: int = 2**32

    def unpacked_bytes(self, file_bytes: int) -> int:
        """The most bytes that the arrays of a file of so many bytes may take."""
        return self.expansion * max(file_bytes, 16 * MEBIBYTE)


_changed: Limits | None = None


def current() -> Limits:
    """The limits that are in force: the defaults, those of the environment, or what `change` set.

    Raises:
      ValueError: the environment variable JAXCAM_LIMITS has no such limit, or a value that is no positive number.
    """
    if _changed is not None:
        return _changed
    text = os.environ.get(VARIABLE, "")
    return Limits(**_parse(text)) if text else Limits()


def change(**values: float) -> Limits:
    """Sets limits for the whole program.

    Args:
      **values: attributes of `Limits` with their new values.

    Returns:
      The limits that were in force before.

    Raises:
      TypeError: no such limit, or a value that is no number.
      ValueError: a value is no positive number.

    Example:
      >>> before = change(scans=1000)
      >>> current().scans
      1000
      >>> _ = change(**before._asdict())
    """
    global _changed
    before = current()
    unknown = set(values) - set(Limits._fields)
    if unknown:
        raise TypeError(f"no limit {sorted(unknown)[0]!r}: choose from {', '.join(Limits._fields)}")
    for name, value in values.items():
        if not isinstance(value, int | float):
            raise TypeError(f"expected a positive number for the limit {name}, got {value!r}")
        if not value >= 1:
            raise ValueError(f"expected a positive number for the limit {name}, got {value}")
    _changed = before._replace(**{name: int(min(value, 2**62)) for name, value in values.items()})
    return before


@contextlib.contextmanager
def changed(**values: float) -> Iterator[Limits]:
    """A context with other limits, in all threads. Arguments and errors are those of `change`."""
    global _changed
    before = _changed
    change(**values)
    try:
        yield current()
    finally:
        _changed = before


def _parse(text: str) -> dict[str, int]:
    values = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if name not in Limits._fields or not number >= 1:
            raise ValueError(
                f"{VARIABLE}: expected NAME=NUMBER with commas between, of {', '.join(Limits._fields)}, got {part!r}"
            )
        values[name] = int(min(number, 2**62))
    return values
