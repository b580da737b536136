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
import importlib.resources
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from jaxcam.datasets._example import Path


def class_names(path: str | os.PathLike) -> tuple[str, ...]:
    """The class names in a text file, UTF-8, one on each line in the order of the classes.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is empty or not text, or a line is.
    """
    try:
        with open(path, encoding="utf-8") as file:
            names = tuple(line.strip() for line in file.read().splitlines())
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: not a text file of class names, one a line") from error
    if not names:
        raise ValueError(f"{os.fspath(path)}: empty: class names are wanted, one a line")
    if "" in names:
        raise ValueError(f"{os.fspath(path)}: line {names.index('') + 1} is empty: a class name is wanted")
    return names


def imagenet_classes() -> tuple[str, ...]:
    """The 1000 names of ImageNet's classes, in the order of torchvision's, timm's and Keras's outputs."""
    with importlib.resources.as_file(importlib.resources.files("jaxcam.datasets") / "imagenet" / "classes.txt") as path:
        return class_names(path)


def find_class(name: str, class_names: Sequence[str]) -> int:
    """The number of a class from its name, in whichever case, or from the number itself as text.

    Raises:
      ValueError: no such class, with the names that are nearest; a name that several classes have, with their numbers.

    Example:
      >>> import jaxcam
      >>> names = jaxcam.pretrained.imagenet_classes()
      >>> find_class("Tiger cat", names), find_class("282", names)
      (282, 282)
      >>> find_class("tigre cat", names)
      Traceback (most recent call last):
        ...
      ValueError: no class 'tigre cat': did you mean 'tiger cat', ...?
    """
    wanted = name.strip().casefold()
    folded = [each.casefold() for each in class_names]
    if folded.count(wanted) > 1:
        numbers = [str(i) for i, each in enumerate(folded) if each == wanted]
        raise ValueError(f"{name!r} is the name of classes {' and '.join(numbers)}: give the number")
    if wanted in folded:
        return folded.index(wanted)
    if wanted.isdecimal():
        if int(wanted) < len(folded):
            return int(wanted)
        raise ValueError(f"no class {wanted}: there are {len(folded)}, from 0")
    near = difflib.get_close_matches(wanted, folded, n=3)
    # A part of a long name is far from the whole by difflib's measure.
    near += [each for each in folded if wanted and wanted in each and each not in near][: 3 - len(near)]
    if near:
        meant = ", ".join(repr(class_names[folded.index(each)]) for each in near)
        raise ValueError(f"no class {name!r}: did you mean {meant}?")
    some = ", ".join(repr(each) for each in class_names[:10]) + (", ..." if len(class_names) > 10 else "")
    raise ValueError(f"no class {name!r}: choose a number in 0..{len(folded) - 1} or a name: {some}")


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
