"""Labelled images as they lie on disks, each as an `Example`: its picture, its class, where the object is.

`folder`, `csv`, `imagenet` and `voc` list examples without reading a pixel; `load` reads one when its turn comes.

>>> import importlib.resources, tempfile
>>> digits = importlib.resources.files("jaxcam") / "digits"
>>> with tempfile.TemporaryDirectory() as path:
...     table = pathlib.Path(path) / "labels.csv"
...     _ = table.write_text("image,label,xmin,ymin,xmax,ymax\\ncanvas1.png,3,2,4,8,12\\n")
...     [example] = csv(table, root=digits)
>>> loaded = load(example, (32, 32))
>>> loaded.image.shape, loaded.label, loaded.boxes.tolist()
((32, 32, 3), 3, [[2.0, 1.0, 6.0, 4.0]])

Class numbers are those of the model's outputs, from 0. Where a folder or file does not say them beyond doubt, `classes`
is asked for: a number that is off by one raises no error anywhere, and only makes the figures bad.
"""

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from csv import DictReader
from csv import Error as CsvError

from jaxcam.challenges import VOC_CLASSES, imagenet, voc
from jaxcam.examples import Example, MaskFile, Path, array_of, existing, in_order, load, names_of, pictures_in
from jaxcam.labels import SYNSET, Classes, checked_classes, synset_order, synsets
from jaxcam.labels import number as number_of

__all__ = ["VOC_CLASSES", "Example", "MaskFile", "csv", "folder", "imagenet", "load", "synsets", "voc"]

COLUMNS = ("image", "label", "mask", "xmin", "ymin", "xmax", "ymax")


def folder(path: Path, *, classes: Classes | None = None) -> list[Example]:
    """The pictures of a folder for each class, as ImageNet's validation images are usually kept.

        path/
          n01440764/ILSVRC2012_val_00000293.JPEG
          n01443537/...

    Args:
      path: of the folder of folders.
      classes: the folders' names in the order of the model's outputs, or a mapping from name to number. Where absent,
        the folders' names are numbered in sorted order, as torchvision and Keras do; give it where a class may have
        no folder here. Folders of ImageNet's synsets that are not all 1000, and folders called by numbers that sorting
        would put in another order (10 before 2), are refused without it.

    Returns:
      An example for each picture, sorted by name: the file's without its suffix, after its class where names recur.

    Raises:
      ValueError: no folders, no pictures, numbers that are in doubt, a folder that is no class.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     for name in ("cat", "dog"):
      ...         (pathlib.Path(path) / name).mkdir()
      ...         (pathlib.Path(path) / name / "1.png").touch()
      ...     [(each.name, each.label) for each in folder(path)]
      [('cat-1', 0), ('dog-1', 1)]
    """
    root = pathlib.Path(path)
    folders = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise ValueError(f"{root} has no folders: one for each class is wanted; see csv and imagenet for a flat folder")
    if classes is None:
        names = [each.name for each in folders]
        if all(map(str.isdecimal, names)) and names != list(map(str, range(len(names)))):
            raise ValueError(
                f"{root} has folders called by numbers, {', '.join(names[:4])}, ..., and it is not clear whether those "
                "are the model's: give classes=, [*map(str, range(1000))] if so, the names in its order if not"
            )
        classes = synset_order(names, root) if all(map(SYNSET.fullmatch, names)) else names
    classes = checked_classes(classes)
    number = {each: number_of(each.name, classes, each) for each in folders}
    pictures = [picture for each in folders for picture in pictures_in(each)]
    if not pictures:
        raise ValueError(f"{root} has folders, and none has pictures in it")
    names = names_of([picture.relative_to(root) for picture in pictures])
    return in_order(Example(p, number[p.parent], name=name) for p, name in zip(pictures, names, strict=True))


def of_synsets(path: Path) -> bool:
    """Whether a folder's folders are called by ImageNet's synsets, as in n01440764."""
    folders = [each.name for each in pathlib.Path(path).iterdir() if each.is_dir() and not each.name.startswith(".")]
    return bool(folders) and all(map(SYNSET.fullmatch, folders))


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
