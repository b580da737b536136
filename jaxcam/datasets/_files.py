"""Files that the readers of data sets share: pictures in a folder, text files, names for examples."""

import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from jaxcam._base import limits
from jaxcam.datasets._example import Example

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # of str.splitlines
LONGEST_PATH = 1000  # characters in a message
Path = str | os.PathLike
# Pillow also registers suffixes of other files: HDF5, PDF, MPEG, PostScript, GRIB, and formats that it only writes.
PICTURE_SUFFIXES = set(
    ".apng .avif .bmp .dib .gif .heic .heif .ico .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .pbm .pcx "
    ".pfm .pgm .png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp".split()
)


def pictures_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The picture files of a folder, sorted, without hidden files. `other_files_in` lists the other files."""
    return [file for file in _files_in(folder) if is_picture(file)]


def other_files_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder that `pictures_in` leaves out, sorted: files of other kinds, and hidden files."""
    return [file for file in _files_in(folder) if not is_picture(file)]


def _files_in(folder):
    return sorted(file for file in folder.iterdir() if file.is_file())


def is_picture(file: pathlib.Path) -> bool:
    """Whether a file has the suffix of a picture that can be read, and is not hidden."""
    from PIL import Image

    suffix = file.suffix.lower()
    return suffix in PICTURE_SUFFIXES and suffix in Image.registered_extensions() and not file.name.startswith(".")


def folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders of a folder, sorted, without hidden folders."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def existing_file(path: pathlib.Path) -> pathlib.Path:
    """Returns the path. Raises a FileNotFoundError if it is not a file."""
    try:
        is_file = path.is_file()
    except OSError:  # its name is too long
        is_file = False
    if not is_file:
        text = str(path)
        text = text if text.isprintable() and len(text) < LONGEST_PATH else f"{text[:80]!r}..."
        raise FileNotFoundError(f"no such file: {text}")
    return path


def check_size(path: Path) -> None:
    """Raises a ValueError for a text file that has more bytes than the limit."""
    size, most = os.stat(path).st_size, limits.current().text_bytes
    if size > most:
        raise ValueError(f"{os.fspath(path)} has {size} bytes, more than {most} (jaxcam.limits: text_bytes)")


def split_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file. Raises a ValueError for a file that is too large, or not text."""
    check_size(path)
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not a text file") from error
    most = limits.current().rows
    if sum(map(text.count, LINE_ENDS)) > most:
        raise ValueError(f"{os.fspath(path)} has more than {most} lines (jaxcam.limits: rows)")
    return text.splitlines()


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises a ValueError for an empty file, or one that is not text."""
    lines = [line.strip() for line in split_lines(path) if line.strip()]
    if not lines:
        raise ValueError(f"{os.fspath(path)} is empty")
    return lines


def distinct_names(files: Sequence[pathlib.Path]) -> list[str]:
    """A name for each file: the stem, or the path as one word, or the path with its suffix, whichever is distinct."""
    stems = [file.stem for file in files]
    parts = [[part for part in file.parts if part not in (file.anchor, "..")] for file in files]
    paths = ["-".join([*folders, stem]) for (*folders, _), stem in zip(parts, stems, strict=True)]
    whole_paths = ["-".join(path_parts) for path_parts in parts]
    return next((names for names in (stems, paths) if len(set(names)) == len(names)), whole_paths)


def sorted_by_name(examples: Iterable[Example]) -> list[Example]:
    """The examples sorted by name. Raises a ValueError if two examples have the same name."""
    examples = sorted(examples, key=lambda example: example.name or "")
    for example, following in zip(examples, examples[1:], strict=False):
        if example.name == following.name:
            raise ValueError(f"{example.image} and {following.image} are both called {example.name!r}")
    return examples


def boxes_array(boxes: list[list[float]]) -> np.ndarray | None:
    """Boxes as an array `[m 4]`; None for no boxes."""
    return np.array(boxes, np.float32) if boxes else None
