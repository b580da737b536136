"""A csv file of pictures, with their labels, masks and boxes."""

import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from csv import Error as CsvError
from csv import reader as csv_reader
from typing import NamedTuple

from jaxcam._base import limits
from jaxcam.datasets._classes import Classes, checked_classes, checked_int, class_number
from jaxcam.datasets._example import Example, MaskFile
from jaxcam.datasets._files import Path, boxes_array, check_size, distinct_names, existing_file, sorted_by_name

SIDES = ("xmin", "ymin", "xmax", "ymax")
MOST_SHOWN = 20  # columns in a message
COLUMNS = ("image", "label", "mask", *SIDES)


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
    """Lists the pictures of a csv file, with the classes, masks and boxes that it has.

        image,label,mask,xmin,ymin,xmax,ymax
        a.jpg,cat,masks/a.png,10,20,110,220
        a.jpg,cat,masks/a.png,130,25,190,80
        b.jpg,dog,,,,,

    Only the column `image` is required. Each row is a box; the rows of one image and label are one example. Boxes are
    in pixels from 0; xmax and ymax are excluded. A cell may be empty.

    Args:
      path: the file, with a line of column names.
      root: the folder that the files' paths start from; defaults to the folder of the csv file.
      classes: the labels' names in the order of the model's outputs, or a mapping from name to number; required if
        labels are names.
      masks: a folder that has the mask of `a.jpg` as `a.png`, instead of a column; relative to the current folder.
      inside: the mask's values of the object; None for all values except 0 and those of `ignore`. Oxford pets: (1,).
      ignore: the mask's values of pixels that do not count. Oxford pets: (3,).
      columns: other names of columns, such as {"image": "file"}.
      where: the rows to list, by the value of a column, such as {"split": "test"}.

    Returns:
      An example for each image and label, sorted by name. The name is that of the file without its suffix, with the
      label if an image has several.

    Raises:
      ValueError: a column is missing, a cell is not a number, a label is a name without `classes` or not in it, or no
        row is left.
      FileNotFoundError: the csv file, a picture or a mask does not exist.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     (pathlib.Path(path) / "a.jpg").touch()
      ...     _ = (pathlib.Path(path) / "a.csv").write_text("file,label\\na.jpg,dog\\n")
      ...     [example] = csv(pathlib.Path(path) / "a.csv", classes=("cat", "dog"), columns={"image": "file"})
      >>> example.name, example.label
      ('a', 1)
    """
    source = pathlib.Path(path)
    base = source.parent if root is None else pathlib.Path(root)
    where = where or {}
    rows = list(_rows(source, columns or {}, where))
    if not rows:
        condition = " with " + ", ".join(f"{key} = {value}" for key, value in where.items()) if where else ""
        raise ValueError(f"{source} has no row{condition}")
    records = _records(rows, None if classes is None else checked_classes(classes))
    files = dict.fromkeys(image for image, _ in records)
    names = dict(zip(files, distinct_names([pathlib.Path(file) for file in files]), strict=True))
    labels = Counter(image for image, _ in records)
    examples = []
    for (image, label), record in records.items():
        mask_file = base / record.mask if record.mask else None
        if masks is not None:
            mask_file = pathlib.Path(masks) / f"{pathlib.Path(image).stem}.png"
        mask = None if mask_file is None else MaskFile(existing_file(mask_file), inside, tuple(ignore))
        name = names[image] if labels[image] == 1 else f"{names[image]}-{label}"
        examples.append(Example(existing_file(base / image), label, mask, boxes_array(record.boxes), name))
    return sorted_by_name(examples)


class _Record(NamedTuple):
    """The rows of one image and label: the mask's path, and the boxes."""

    mask: str
    boxes: list[list[float]]


def _records(rows, classes) -> dict[tuple[str, int | None], _Record]:
    """By image and label, the mask and the boxes of the rows `(place, cells)`."""
    numbers: dict[str, int | None] = {"": None}
    records: dict[tuple[str, int | None], _Record] = {}
    for place, cells in rows:
        if not cells["image"]:
            raise ValueError(f"{place}: no image")
        if cells["label"] not in numbers:
            numbers[cells["label"]] = _label_number(cells["label"], classes, place)
        key = cells["image"], numbers[cells["label"]]
        mask, boxes = records.setdefault(key, _Record(cells["mask"], []))
        if mask != cells["mask"]:
            raise ValueError(f"{place}: mask {cells['mask']!r:.80}, and {mask!r:.80} on another line of an example")
        if any(cells[side] for side in SIDES):
            xmin, ymin, xmax, ymax = (_pixels(cells[side], side, place) for side in SIDES)
            boxes.append([ymin, xmin, ymax, xmax])
    return records


def _rows(source, columns, where) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows that `where` selects: the place of each for messages, and its cells by the names of COLUMNS."""
    for key in columns.keys() - set(COLUMNS):
        raise ValueError(f"columns has {key!r}: choose from {', '.join(COLUMNS)}")
    header, rows = _header_and_rows(source)
    for name in [*(columns.get(key, key) for key in ["image", *columns]), *where]:
        if name not in header:
            shown = [f"{column:.40}" if column.isprintable() else f"{column!r:.40}" for column in header[:MOST_SHOWN]]
            names = ", ".join(shown) + (", ..." if len(header) > MOST_SHOWN else "")
            raise ValueError(f"{source} has no column {name!r}: it has {names or 'none'}")
    has_sides = [columns.get(side, side) in header for side in SIDES]
    if any(has_sides) and not all(has_sides):
        raise ValueError(f"{source} has some of the columns {', '.join(SIDES)}: expected all four or none")
    places = {name: at for at, name in enumerate(header)}
    needed = {key: places[columns.get(key, key)] for key in COLUMNS if columns.get(key, key) in places}
    for line, row in rows:
        # The cells that are left out at the end of a line are empty.
        cells = dict.fromkeys(COLUMNS, "") | {key: row[at].strip() for key, at in needed.items() if at < len(row)}
        if all(
            (row[places[key]].strip() if places[key] < len(row) else "") == str(value) for key, value in where.items()
        ):
            yield f"{source}, line {line}", cells


def _header_and_rows(source) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The names of the columns, and the rows with the numbers of their lines."""
    check_size(source)
    most = limits.current().rows

    def read() -> Iterator[tuple[int, list[str]]]:
        with open(source, newline="", encoding="utf-8-sig") as file:
            reader = csv_reader(file)
            count = None  # of columns
            try:
                for number, row in enumerate(filter(None, reader)):
                    if number > most:
                        raise ValueError(f"{source} has more than {most} rows (jaxcam.limits: rows)")
                    count = len(row) if count is None else count
                    if len(row) > count:
                        raise ValueError(f"{source}, line {reader.line_num}: more cells than columns")
                    yield reader.line_num, row
            except (CsvError, UnicodeDecodeError) as error:
                raise ValueError(f"{source} is not a csv file: {error}") from error

    rows = read()
    return next(rows, (0, []))[1], rows


def _label_number(text, classes, place):
    if classes is not None:
        return class_number(text, classes, place)
    if not text.isdecimal():
        raise ValueError(f"{place}: label {text!r:.80} is a name: give classes=, the names in the order of the outputs")
    return checked_int(text, place)


def _pixels(text, column, place):
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{place}: expected a number of pixels for {column}, got {text!r}") from error
