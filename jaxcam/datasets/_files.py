"""Files that the readers of data sets share: pictures in a folder, text files, names for examples."""

import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from jaxcam.datasets._example import Example

Path = str | os.PathLike


def pictures_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The picture files of a folder, sorted, without hidden files."""
    from PIL import Image

    known = Image.registered_extensions()
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in known and not file.name.startswith("."))


def folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders of a folder, sorted, without hidden folders."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def existing_file(path: pathlib.Path) -> pathlib.Path:
    """Returns the path. Raises a FileNotFoundError if it is not a file."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises a ValueError for an empty file, or one that is not text."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not a text file") from error
    lines = [line.strip() for line in lines if line.strip()]
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
