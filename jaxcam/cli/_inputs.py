"""The pictures that the words of a command line name: files, folders, globs, standard input, and frames of clips."""

import glob
import io
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxcam.cli import _output
from jaxcam.datasets import Frame, PictureFile, is_picture, pictures_in
from jaxcam.methods import METHOD_TITLES

STANDARD_INPUT = "-"
# The second word of the names of pictures that jaxcam draws, such as cat.grad_cam.png.
DRAWN = (*METHOD_TITLES, "explained", "compared", "caption", "answer", "segment", "detect", "watch")


class Input(NamedTuple):
    """One picture to explain.

    Attributes:
      name: what the user called it, for messages.
      stem: the beginning of the names of the files that are written for it.
      picture: what `jaxcam.explain` takes.
      clip: what the user called the file or folder that it is a frame of.
      clip_stem: the beginning of the name of the file that is written for the clip.
    """

    name: str
    stem: str
    picture: PictureFile | Frame | np.ndarray
    clip: str
    clip_stem: str


def find_inputs(words: Sequence[str], frames: float | None = None) -> list[Input]:
    """The pictures to explain. A file that does not exist is one of them, and fails when it is read.

    Args:
      words: paths of files and folders, globs, or "-" for standard input.
      frames: how many frames of an animated picture to explain, spread evenly; None for the first one alone.

    Raises:
      ValueError: a folder without pictures, a glob that no picture matches, or nothing at standard input.
    """
    files = [file for word in words for file in _files_of(word)]
    return [frame for file in files for frame in (_frames_of(file, frames) if frames is not None else [file])]


def _files_of(word: str) -> Iterator[Input]:
    path = pathlib.Path(word)
    if word == STANDARD_INPUT:
        yield _standard_input()
    elif path.is_dir():
        files = pictures_in(path)
        if not files:
            raise ValueError(f"{word} has no pictures")
        yield from (_file(str(file), word, path.resolve().name) for file in _without_drawn(files))
    elif not path.exists() and glob.has_magic(word):
        files = [pathlib.Path(name) for name in sorted(glob.glob(word, recursive=True))]
        files = [file for file in files if file.is_file() and is_picture(file)]
        if not files:
            raise ValueError(f"no picture matches {word!r}")
        yield from (_file(str(file), str(file), file.stem) for file in _without_drawn(files))
    else:
        yield _file(word, word, path.stem)


def _file(name: str, clip: str, clip_stem: str) -> Input:
    return Input(name, pathlib.Path(name).stem, name, clip, clip_stem)


def _standard_input() -> Input:
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("- reads a picture from standard input: pipe one into it")
    content = io.BytesIO(sys.stdin.buffer.read())
    content.name = "standard input"  # type: ignore[attr-defined]
    return Input("standard input", "stdin", content, "standard input", "stdin")


def _without_drawn(files: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """The files without the pictures that an earlier run drew of others of them."""
    files = list(files)
    stems = {file.with_suffix("") for file in files}
    kept = [file for file in files if not _is_drawn(file, stems)]
    if len(kept) < len(files):
        count = len(files) - len(kept)
        _output.print_error(f"skipped {count} picture{'' if count == 1 else 's'} that jaxcam drew of others")
    return kept


def _is_drawn(file: pathlib.Path, stems: set[pathlib.Path]) -> bool:
    first, *others = file.stem.split(".")
    for word in others:
        if word in DRAWN and file.with_name(first) in stems:
            return True
        first += f".{word}"
    return False


def _frames_of(file: Input, most: float) -> Iterator[Input]:
    """The frames of an animated picture; the picture itself if it is not animated, or not a picture."""
    from jaxcam.datasets import images  # loads Pillow

    assert not isinstance(file.picture, Frame | np.ndarray)
    try:
        count = images.frame_count(file.picture)
    except (OSError, ValueError):  # which is reported when it is explained
        count = 1
    if count == 1:
        yield file
        return
    chosen = count if most >= count else int(most)
    for i in range(chosen):
        number = i * count // chosen
        stem = f"{file.stem}.{number:04d}"
        yield file._replace(name=f"{file.name}, frame {number}", stem=stem, picture=Frame(file.picture, number))


def check_clips(inputs: Sequence[Input]) -> None:
    """Raises a ValueError if a picture is alone, and not a frame of a clip."""
    for picture in inputs:
        if sum(other.clip == picture.clip for other in inputs) == 1:
            raise ValueError(f"--gif frames shows an animated picture or a folder of pictures, got {picture.clip}")
