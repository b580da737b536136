"""The number of a class from its name in folders, csv files and ImageNet's lists.

Ambiguous names are refused: a number that is off by one raises no error and makes every figure wrong.

>>> class_number("cat", ("cat", "dog"), "a.csv"), class_number("n01440764", {"n01440764": 0}, "a.csv")
(0, 0)
>>> class_number("dgo", ("cat", "dog"), "a.csv")
Traceback (most recent call last):
  ...
ValueError: a.csv: no class 'dgo': did you mean 'dog'?
"""

import difflib
import importlib.resources
import os
import re
from collections.abc import Mapping, Sequence

from jaxcam.datasets._files import Path, lines_of, split_lines

# Names in the order of the model's outputs, or a mapping from name to number.
Classes = Sequence[str] | Mapping[str, int]
SYNSET = re.compile(r"n\d{8}")
SYNSETS = 1000
MOST_DIGITS = 18  # of a class's number
LONGEST_NAME = 1000  # characters of a class's name


def class_names(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads the class names in a UTF-8 text file with one name per line, in the order of the classes.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is empty or not text, or a line is empty.
    """
    try:
        names = tuple(line.strip() for line in split_lines(path))
    except ValueError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        raise ValueError(f"{os.fspath(path)}: expected a text file with one class name per line") from error
    if not names:
        raise ValueError(f"{os.fspath(path)}: expected class names, got an empty file")
    if "" in names:
        raise ValueError(f"{os.fspath(path)}: expected a class name in line {names.index('') + 1}, got an empty line")
    return names


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of the outputs of torchvision, timm and Keras."""
    with importlib.resources.as_file(importlib.resources.files("jaxcam.datasets") / "imagenet" / "classes.txt") as path:
        return class_names(path)


def find_class(name: str, class_names: Sequence[str]) -> int:
    """The number of a class from its name, in any case, or from its number as text.

    Raises:
      ValueError: no class has the name (the message has the nearest names), or several classes have it (the message
        has their numbers).

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
    query = name.strip().casefold()
    if len(query) > LONGEST_NAME:  # the nearest names take a time that grows with its square
        raise ValueError(f"no class {name[:40]!r}...: expected a name, got {len(name)} characters")
    folded = [class_name.casefold() for class_name in class_names]
    if folded.count(query) > 1:
        numbers = [str(i) for i, class_name in enumerate(folded) if class_name == query]
        raise ValueError(f"{name!r} is the name of classes {' and '.join(numbers)}: give the number")
    if query in folded:
        return folded.index(query)
    if query.isdecimal():
        if len(query) <= MOST_DIGITS and int(query) < len(folded):
            return int(query)
        raise ValueError(f"no class {query}: choose a number in 0..{len(folded) - 1} or a name")
    near = difflib.get_close_matches(query, folded, n=3)
    # difflib's measure puts a part of a long name far from the whole.
    near += [class_name for class_name in folded if query and query in class_name and class_name not in near][
        : 3 - len(near)
    ]
    if near:
        meant = ", ".join(repr(class_names[folded.index(class_name)]) for class_name in near)
        raise ValueError(f"no class {name!r}: did you mean {meant}?")
    first = ", ".join(map(repr, class_names[:10])) + (", ..." if len(class_names) > 10 else "")
    raise ValueError(f"no class {name!r}: choose a number in 0..{len(folded) - 1} or a name: {first}")


def checked_classes(classes: Classes) -> Classes:
    """Returns the classes. Raises a TypeError for text, which would be read letter by letter."""
    if isinstance(classes, str | os.PathLike):
        raise TypeError(
            "expected classes to be names in the order of the outputs, or a mapping from name to number, got "
            f"{os.fspath(classes)!r}: jaxcam.pretrained.class_names and jaxcam.datasets.synsets read files"
        )
    return classes


def checked_int(text: str, place: Path) -> int:
    """The number that decimal digits are. Raises a ValueError that has the place for more digits than a class has."""
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{os.fspath(place)}: expected the number of a class, got {len(text)} digits")
    return int(text)


def class_number(name: str, classes: Classes, place: Path) -> int:
    """The number of a class by its name. Raises a ValueError that has the place and the nearest names."""
    if not isinstance(classes, Mapping):
        try:
            return find_class(name, classes)
        except ValueError as error:
            raise ValueError(f"{os.fspath(place)}: {error}") from error
    if name in classes:
        return classes[name]
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{os.fspath(place)}: no class {name[:40]!r}... in classes: it has {len(name)} characters")
    near = difflib.get_close_matches(name, classes, n=3) or list(classes)[:10]
    raise ValueError(f"{os.fspath(place)}: no class {name!r} in classes: is it {', '.join(map(repr, near))}?")


def sorted_synsets(ids: Sequence[str], place: Path) -> Sequence[str]:
    """ImageNet's synsets in the order of models' outputs, which is sorted. Raises a ValueError if some are missing."""
    if len(ids) == SYNSETS:
        return sorted(ids)
    raise ValueError(
        f"{os.fspath(place)} names {len(ids)} of ImageNet's synsets, and only all {SYNSETS} in order give their "
        "numbers: give classes=jaxcam.datasets.synsets(FILE), or the names in the order of the model's outputs"
    )


def synsets(path: Path) -> tuple[str, ...]:
    """Reads ImageNet's synset ids, in the order of models' outputs, from a file whose lines start with one.

    Kaggle's LOC_synset_mapping.txt and Caffe's synset_words.txt are such files. The devkit's map_clsloc.txt has another
    order and is refused.

    Raises:
      ValueError: a line starts with something else, or the ids are not sorted, which is the order of the outputs.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w") as file:
      ...     print("n01440764 tench, Tinca tinca", file=file, flush=True)
      ...     synsets(file.name)
      ('n01440764',)
    """
    ids = tuple(line.split()[0] for line in lines_of(path))
    for synset in ids:
        if not SYNSET.fullmatch(synset):
            raise ValueError(
                f"{os.fspath(path)}: expected lines such as 'n01440764 tench', {synset!r:.80} is no synset"
            )
    if list(ids) != sorted(set(ids)):
        raise ValueError(f"{os.fspath(path)}: the synsets are not in sorted order, which is that of models' outputs")
    return ids
