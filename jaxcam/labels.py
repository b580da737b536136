"""The number of a class from what folders, csv files and ImageNet's lists call it.

Where names do not say the model's numbers beyond doubt, they are refused: a number that is off by one raises no error
anywhere, and only makes the figures bad.

>>> number("cat", ("cat", "dog"), "a.csv"), number("n01440764", {"n01440764": 0}, "a.csv")
(0, 0)
>>> number("dgo", ("cat", "dog"), "a.csv")
Traceback (most recent call last):
  ...
ValueError: a.csv: no class 'dgo': did you mean 'dog'?
"""

import difflib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from jaxcam.pretrained import find_class

Path = str | os.PathLike
Classes = Sequence[str] | Mapping[str, int]

SYNSET = re.compile(r"n\d{8}")
SYNSETS = 1000


def checked_classes(classes: Classes) -> Classes:
    """The classes; a TypeError where they are text, which would be taken letter by letter."""
    if isinstance(classes, str | os.PathLike):
        raise TypeError(
            f"classes is {os.fspath(classes)!r}: names in the order of the outputs, or a mapping from name to number, "
            "are wanted; jaxcam.pretrained.class_names and jaxcam.datasets.synsets read files"
        )
    return classes


def number(name: str, classes: Classes, place: Path) -> int:
    """The number of a class that is called so in some place; a ValueError with the names nearest to it."""
    if not isinstance(classes, Mapping):
        try:
            return find_class(name, classes)
        except ValueError as error:
            raise ValueError(f"{os.fspath(place)}: {error}") from error
    if name in classes:
        return classes[name]
    near = difflib.get_close_matches(name, classes, n=3) or list(classes)[:10]
    raise ValueError(f"{os.fspath(place)}: no class {name!r} in classes: is it {', '.join(map(repr, near))}?")


def synset_order(ids: Sequence[str], place: Path) -> Sequence[str]:
    """ImageNet's synsets in the order of models' outputs, which is sorted; a ValueError where some are missing."""
    if len(ids) == SYNSETS:
        return sorted(ids)
    raise ValueError(
        f"{os.fspath(place)} names {len(ids)} of ImageNet's synsets, and only all {SYNSETS} in order give their "
        "numbers: give classes=jaxcam.datasets.synsets(FILE), or the names in the order of the model's outputs"
    )


def synsets(path: Path) -> tuple[str, ...]:
    """ImageNet's synset ids in the order of the usual models' outputs, from a file that begins each line with one.

    LOC_synset_mapping.txt of Kaggle and synset_words.txt of Caffe are such files. The devkit's map_clsloc.txt has
    another order and is refused.

    Raises:
      ValueError: a line that begins otherwise; ids that are not in sorted order, which is that of the outputs.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w") as file:
      ...     print("n01440764 tench, Tinca tinca", file=file, flush=True)
      ...     synsets(file.name)
      ('n01440764',)
    """
    lines = lines_of(path)
    ids = tuple(line.split()[0] for line in lines)
    for each in ids:
        if not SYNSET.fullmatch(each):
            raise ValueError(f"{os.fspath(path)}: {each!r} is no synset: lines such as 'n01440764 tench' are wanted")
    if list(ids) != sorted(set(ids)):
        raise ValueError(f"{os.fspath(path)}: the synsets are not in sorted order, which is that of models' outputs")
    return ids


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that have something on them."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not a text file") from error
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"{os.fspath(path)} is empty")
    return lines


def of_imagenet(path: Path, stems: Sequence[str]) -> dict[str, tuple[str, list]]:
    """From a file of ImageNet's labels: each image's stem to its label, a synset or a number, and its boxes.

    The forms are those of `jaxcam.datasets.imagenet`. `stems` are those of the pictures there are, in order, for a file
    that has no names.
    """
    where = os.fspath(path)
    lines = lines_of(path)
    kaggle = lines[0].lower().startswith("imageid,predictionstring")
    if kaggle:
        fields = [line.split(",", 1) for line in lines[1:]]
    else:
        fields = [re.split(r"[\s,]+", line) for line in lines]
        if all(len(each) == 1 for each in fields):
            named = _unnamed([each[0] for each in fields], len(stems), where)
            fields = [[stem, label] for stem, label in zip(stems, named, strict=True)]
    known: dict[str, tuple[str, list]] = {}
    for each in fields:
        if len(each) != 2:
            raise ValueError(f"{where}: {' '.join(each)!r}: a file's name and a label are wanted")
        stem = pathlib.PurePath(each[0]).stem
        label, boxes = _predicted(each[1], where) if kaggle else (each[1], [])
        if not (SYNSET.fullmatch(label) or label.isdecimal()):
            raise ValueError(f"{where}: {stem} has label {label!r}: a number or a synset such as n01440764 is wanted")
        if known.setdefault(stem, (label, boxes))[0] != label:
            raise ValueError(f"{where}: {stem} has two labels, {known[stem][0]} and {label}")
    if len({SYNSET.fullmatch(label) is None for label, _ in known.values()}) > 1:
        raise ValueError(f"{where} has synsets and numbers: one of both is wanted")
    return known


def _unnamed(labels, count, where):
    if not all(map(SYNSET.fullmatch, labels)):
        raise ValueError(
            f"{where} has a number a line, as the devkit's ground truth does: those are the devkit's ids, in the order "
            "of its meta.mat and not that of any model's outputs; take Kaggle's LOC_val_solution.csv, or lines of a "
            "file's name and a label"
        )
    if len(labels) != count:
        raise ValueError(f"{where} has {len(labels)} labels without names for {count} pictures: as many are wanted")
    return labels


def _predicted(text, where):
    """Kaggle's "synset xmin ymin xmax ymax synset ...": the synset and its boxes."""
    words = text.split()
    groups = [words[i : i + 5] for i in range(0, len(words), 5)]
    try:
        boxes = [[ymin, xmin, ymax + 1, xmax + 1] for _, *box in groups for xmin, ymin, xmax, ymax in [map(float, box)]]
    except ValueError as error:
        raise ValueError(f"{where}: {text!r}: 'synset xmin ymin xmax ymax' for each box is wanted") from error
    if len({group[0] for group in groups}) != 1:
        raise ValueError(f"{where}: {text!r}: boxes of one synset are wanted")
    return words[0], boxes
