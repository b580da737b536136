"""One frame of an animated picture."""

import os
from typing import BinaryIO, NamedTuple

# Where a picture is: a path, or a file that is open for reading bytes and can be read again.
PictureFile = str | os.PathLike | BinaryIO


class Frame(NamedTuple):
    """One frame of an animated picture: a GIF, an animated PNG or WebP, or a page of a TIFF file.

    Attributes:
      file: the path, or a binary file.
      number: of the frame, from 0.

    Example:
      >>> str(Frame("clip.gif", 3))
      'clip.gif, frame 3'
    """

    file: PictureFile
    number: int = 0

    def __str__(self) -> str:
        return f"{name_of(self.file)}, frame {self.number}"


def name_of(file: PictureFile) -> str:
    """What messages call a picture's file: its path, or the `name` of an open file."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    return str(getattr(file, "name", "the picture"))
