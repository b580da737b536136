"""TODO."""

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from csv import DictReader
from csv import Error as CsvError

from jaxcam.datasets._classes import Classes, checked_classes
from jaxcam.datasets._classes import number as number_of
from jaxcam.datasets._example import Example, MaskFile, Path, array_of, existing, in_order, names_of

COLUMNS = ("image", "label", "mask", "xmin", "ymin", "xmax", "ymax")


def csv(
    path: Path,
    *,
    root: Path | None = None,
    classes: Classes | None = None,
    masks: Path | None = None,
    inside: Sequence[int] | None = None,
    ignore: Sequence[int] = (255,),
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, object] | None = None,
) -> list[Example]:
    """The pictures that a csv file lists, with classes, masks and boxes where it has them.

        image,label,mask,xmin,ymin,xmax,ymax
        a.jpg,cat,masks/a.png,10,20,110,220
        a.jpg,cat,masks/a.png,130,25,190,80
        b.jpg,dog,,,,,

    Only `image` has to be there. A row is a box, and the rows of one image and label are one example. Boxes are in
    pixels from 0, up to and without xmax and ymax; a cell may be empty.

    Args:
      path: of the file, with a line of column names.
      root: what the files' paths start from; where absent, the csv's folder.
      classes: the labels' names in the order of the model's outputs, or a mapping from name to number; it has to be
        there where labels are names.
      masks: a folder with the mask of `a.jpg` as `a.png`, in place of a column; from the current folder.
      inside: the mask's values of the object; None for all but 0 and those of `ignore`. Oxford pets: (1,).
      ignore: the mask's values that are not counted. Oxford pets: (3,).
      columns: the names of columns that are called otherwise, as in {"image": "file"}.
      where: the rows that are wanted, by the value of a column, as in {"split": "test"}.

    Returns:
      An example for each image and label, sorted by name: the file's without its suffix, with the label where an image
      has several.

    Raises:
      ValueError: a column that is not there, a cell that is no number, a name without `classes` or not in it, no row.
      FileNotFoundError: no such csv, picture or mask.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     (pathlib.Path(path) / "a.jpg").touch()
      ...     _ = (pathlib.Path(path) / "a.csv").write_text("file,label\\na.jpg,dog\\n")
      ...     [found] = csv(pathlib.Path(path) / "a.csv", classes=("cat", "dog"), columns={"image": "file"})
      >>> found.name, found.label
      ('a', 1)
    """
    source = pathlib.Path(path)
    base = source.parent if root is None else pathlib.Path(root)
    columns = dict(columns or {})
    for key in columns.keys() - set(COLUMNS):
        raise ValueError(f"columns has {key!r}: choose from {', '.join(COLUMNS)}")
    header, rows = _rows(source)
    for key in ["image", *columns]:
        _check_column(columns.get(key, key), header, source)
    for key in where or {}:
        _check_column(key, header, source)
    sides = [columns.get(key, key) in header for key in COLUMNS[3:]]
    if any(sides) and not all(sides):
        raise ValueError(f"{source} has some of the columns {', '.join(COLUMNS[3:])}: all four or none are wanted")
    classes = None if classes is None else checked_classes(classes)
    numbers: dict[str, int | None] = {"": None}
    found: dict[tuple[str, int | None], tuple[str, list]] = {}
    for line, row in rows:
        if any(row[key].strip() != str(value) for key, value in (where or {}).items()):
            continue
        cell = {key: row.get(columns.get(key, key), "").strip() for key in COLUMNS}
        place = f"{source}, line {line}"
        if not cell["image"]:
            raise ValueError(f"{place}: no image")
        if cell["label"] not in numbers:
            numbers[cell["label"]] = _label(cell["label"], classes, place)
        label = numbers[cell["label"]]
        mask, boxes = found.setdefault((cell["image"], label), (cell["mask"], []))
        if mask != cell["mask"]:
            raise ValueError(f"{place}: mask {cell['mask']!r}, and {mask!r} on another line of the same example")
        if any(cell[key] for key in COLUMNS[3:]):
            xmin, ymin, xmax, ymax = (_float(cell[key], key, place) for key in COLUMNS[3:])
            boxes.append([ymin, xmin, ymax, xmax])
    if not found:
        wanted = f" with {', '.join(f'{key} = {value}' for key, value in where.items())}" if where else ""
        raise ValueError(f"{source} has no row{wanted}")
    files = dict.fromkeys(image for image, _ in found)
    names = dict(zip(files, names_of([pathlib.Path(file) for file in files]), strict=True))
    labels = Counter(image for image, _ in found)
    examples = []
    for (image, label), (mask, boxes) in found.items():
        file = base / mask if mask else None
        if masks is not None:
            file = pathlib.Path(masks) / f"{pathlib.Path(image).stem}.png"
        shown = None if file is None else MaskFile(existing(file), inside, tuple(ignore))
        name = names[image] if labels[image] == 1 else f"{names[image]}-{label}"
        examples.append(Example(existing(base / image), label, shown, array_of(boxes), name))
    return in_order(examples)


def _rows(source):
    """The names of the columns, and the rows with the numbers of their lines."""
    with open(source, newline="", encoding="utf-8-sig") as file:
        reader = DictReader(file, restval="")
        try:
            rows = [(reader.line_num, row) for row in reader]
        except (CsvError, UnicodeDecodeError) as error:
            raise ValueError(f"{source} is not a csv file: {error}") from error
        for line, row in rows:
            if None in row:
                raise ValueError(f"{source}, line {line}: more cells than columns")
        return reader.fieldnames or [], rows


def _check_column(name, header, source):
    if name not in header:
        raise ValueError(f"{source} has no column {name!r}: it has {', '.join(header) or 'none'}")


def _label(text, classes, place):
    if classes is not None:
        return number_of(text, classes, place)
    if not text.isdecimal():
        raise ValueError(f"{place}: label {text!r} is a name: give classes=, the names in the order of the outputs")
    return int(text)


def _float(text, column, place):
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{place}: {column} is {text!r}: a number of pixels is wanted") from error
