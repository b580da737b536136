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

import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from csv import DictReader
from csv import Error as CsvError
from xml.etree import ElementTree

import numpy as np

from jaxcam.examples import Example, MaskFile, load
from jaxcam.labels import SYNSET, Classes, checked_classes, lines_of, of_imagenet, synset_order, synsets
from jaxcam.labels import number as number_of

__all__ = ["VOC_CLASSES", "Example", "MaskFile", "csv", "folder", "imagenet", "load", "synsets", "voc"]

Path = str | os.PathLike

COLUMNS = ("image", "label", "mask", "xmin", "ymin", "xmax", "ymax")
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


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
    pictures = [picture for each in folders for picture in _pictures(each)]
    if not pictures:
        raise ValueError(f"{root} has folders, and none has pictures in it")
    names = _names([picture.relative_to(root) for picture in pictures])
    return _sorted(Example(p, number[p.parent], name=name) for p, name in zip(pictures, names, strict=True))


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
    names = dict(zip(files, _names([pathlib.Path(file) for file in files]), strict=True))
    labels = Counter(image for image, _ in found)
    examples = []
    for (image, label), (mask, boxes) in found.items():
        file = base / mask if mask else None
        if masks is not None:
            file = pathlib.Path(masks) / f"{pathlib.Path(image).stem}.png"
        shown = None if file is None else MaskFile(_there(file), inside, tuple(ignore))
        name = names[image] if labels[image] == 1 else f"{names[image]}-{label}"
        examples.append(Example(_there(base / image), label, shown, _array(boxes), name))
    return _sorted(examples)


def imagenet(
    images: Path,
    labels: Path,
    *,
    boxes: Path | None = None,
    classes: Classes | None = None,
    blacklist: Path | None = None,
) -> list[Example]:
    """ImageNet's validation images in one folder, with a file of labels.

        images/ILSVRC2012_val_00000001.JPEG ...
        boxes/ILSVRC2012_val_00000001.xml ...

    The labels are in one of these forms:

    - Kaggle's LOC_val_solution.csv, which has the boxes too;
    - lines of a file's name and a number from 0, or a synset: `ILSVRC2012_val_00000001.JPEG 65`;
    - a synset for each line, in the order of the images' names.

    The devkit's ILSVRC2012_validation_ground_truth.txt is refused: its numbers are not those of any model's outputs.

    Boxes are taken as the ILSVRC annotations have them: pixels from 0, both ends within the box.

    Args:
      images: the folder. It may hold a part of the images that have labels.
      labels: the file.
      boxes: the folder of the annotations, `val` of ILSVRC2012_bbox_val_v3.tgz.
      classes: as `synsets` reads them, or a mapping from synset to number, for labels that are synsets; where absent,
        the labels have to name all 1000, and sorting puts them in order.
      blacklist: a file of the numbers of images to leave out, one a line, from 1: the devkit's
        ILSVRC2015_clsloc_validation_blacklist.txt has the 1762 whose boxes are bad, which the challenge's localisation
        error does not count.

    Returns:
      An example for each picture, sorted by name.

    Raises:
      ValueError: no pictures, labels in another form, a picture without a label, numbers that are in doubt.
      FileNotFoundError: no such file of labels, or no annotation of a picture.

    Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 2015.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     (pathlib.Path(path) / "ILSVRC2012_val_00000001.JPEG").touch()
      ...     _ = (pathlib.Path(path) / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 65")
      ...     [found] = imagenet(path, pathlib.Path(path) / "val.txt")
      >>> found.name, found.label
      ('ILSVRC2012_val_00000001', 65)
    """
    root, source = pathlib.Path(images), pathlib.Path(labels)
    pictures = _pictures(root)
    if not pictures:
        inner = any(each.is_dir() for each in root.iterdir())
        raise ValueError(f"{root} has no pictures{': see folder for a folder for each class' if inner else ''}")
    known = of_imagenet(source, [picture.stem for picture in pictures])
    if blacklist is not None:
        out = {f"ILSVRC2012_val_{line:0>8}" for line in lines_of(blacklist)}
        pictures = [picture for picture in pictures if picture.stem not in out]
    named = {label for label, _ in known.values() if SYNSET.fullmatch(label)}
    number = {label: int(label) for label, _ in known.values() if label not in named}
    if named:
        order = synset_order(sorted(named), source) if classes is None else checked_classes(classes)
        number = {label: number_of(label, order, source) for label in named}
    elif not set(number.values()) <= set(range(1000)) or (0 not in number.values() and len(number) >= 999):
        numbers = number.values()
        raise ValueError(f"{source} has labels {min(numbers)}..{max(numbers)}: 0..999 are wanted, as outputs count")
    examples = []
    for picture in pictures:
        if picture.stem not in known:
            raise ValueError(f"{source} has no label for {picture.name}")
        label, found = known[picture.stem]
        if boxes is not None:
            annotation = _there(pathlib.Path(boxes) / f"{picture.stem}.xml")
            found = [box for name, _, box in _annotated(annotation, first=0) if not named or name == label]
            if not found:
                raise ValueError(f"{annotation} has no box of {label}")
        examples.append(Example(picture, number[label], None, _array(found), picture.stem))
    return _sorted(examples)


def voc(
    root: Path,
    *,
    split: str = "test",
    classes: Classes = VOC_CLASSES,
    difficult: bool = False,
    masks: bool = False,
) -> list[Example]:
    """PASCAL VOC's images: an example for each image and each class in it, with the boxes of that class.

        root/                          VOCdevkit/VOC2007, or another year's
          JPEGImages/000001.jpg
          Annotations/000001.xml
          ImageSets/Main/test.txt
          ImageSets/Segmentation/test.txt
          SegmentationClass/000001.png

    The annotations count pixels from 1 and end within the box; they become boxes from 0 whose ends are excluded.

    Args:
      root: the folder above.
      split: the list of images, ImageSets/Main/`split`.txt; with masks, ImageSets/Segmentation/`split`.txt.
      classes: VOC's names in the order of the model's outputs, or a mapping from name to number.
      difficult: whether objects that are marked so count. Where they do not, their boxes are left out, and a class
        that has no others in an image has no example; their pixels are in the masks all the same.
      masks: whether the masks of SegmentationClass are wanted. The outlines, 255, are not counted.

    Returns:
      Examples called such as "000001-dog", sorted by name.

    Raises:
      ValueError: another layout, an annotation that cannot be read, an object of no class.
      FileNotFoundError: no such list, picture, annotation or mask.

    Everingham et al., "The PASCAL visual object classes (VOC) challenge", IJCV 2010.

    Example:
      >>> import tempfile
      >>> box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>5</ymax>"
      >>> files = {
      ...     "ImageSets/Main/test.txt": "000001",
      ...     "JPEGImages/000001.jpg": "",
      ...     "Annotations/000001.xml": f"<a><object><name>dog</name><bndbox>{box}</bndbox></object></a>",
      ... }
      >>> with tempfile.TemporaryDirectory() as path:
      ...     for name, text in files.items():
      ...         (pathlib.Path(path) / name).parent.mkdir(parents=True)
      ...         _ = (pathlib.Path(path) / name).write_text(text)
      ...     [found] = voc(path)
      >>> found.name, found.label, found.boxes.tolist()
      ('000001-dog', 11, [[0.0, 0.0, 5.0, 9.0]])
    """
    base = pathlib.Path(root)
    if not (base / "JPEGImages").is_dir():
        near = sorted(each.parent.name for each in base.glob("*/JPEGImages"))
        raise ValueError(f"{base} has no folder JPEGImages{f': did you mean {base / near[0]}?' if near else ''}")
    classes = checked_classes(classes)
    examples = []
    for line in lines_of(_there(base / "ImageSets" / ("Segmentation" if masks else "Main") / f"{split}.txt")):
        image = line.split()[0]
        picture = _there(base / "JPEGImages" / f"{image}.jpg")
        annotation = _there(base / "Annotations" / f"{image}.xml")
        boxes: dict[str, list] = {}
        for name, hard, box in _annotated(annotation, first=1):
            if difficult or not hard:
                boxes.setdefault(name, []).append(box)
        for name, found in boxes.items():
            label, mask = number_of(name, classes, annotation), None
            if masks:
                value = number_of(name, VOC_CLASSES, annotation) + 1
                mask = MaskFile(_there(base / "SegmentationClass" / f"{image}.png"), (value,))
            examples.append(Example(picture, label, mask, _array(found), f"{image}-{name}"))
    if not examples:
        raise ValueError(f"{base}: split {split!r} has no objects")
    return _sorted(examples)


def _pictures(folder):
    from PIL import Image

    known = Image.registered_extensions()
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in known and not p.name.startswith("."))


def _names(files):
    """A name for each file, as short as tells them apart: the stem, the path as one word, or that with the suffix."""
    stems = [file.stem for file in files]
    parts = [[part for part in file.parts if part not in (file.anchor, "..")] for file in files]
    parted = ["-".join([*each[:-1], stem]) for each, stem in zip(parts, stems, strict=True)]
    whole = ["-".join(each) for each in parts]
    return next((names for names in (stems, parted) if len(set(names)) == len(names)), whole)


def _sorted(examples):
    examples = sorted(examples, key=lambda example: example.name)
    for one, other in zip(examples, examples[1:], strict=False):
        if one.name == other.name:
            raise ValueError(f"{one.image} and {other.image} are both called {one.name!r}")
    return examples


def _there(path):
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path


def _array(boxes):
    return np.array(boxes, np.float32) if boxes else None


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


def _annotated(path, *, first):
    """The objects of an annotation in PASCAL's form, `(name, difficult, box)`, whose pixels count from `first`."""
    try:
        root = ElementTree.parse(path).getroot()
        height, width = (float(root.findtext(f"size/{side}") or 0) or np.inf for side in ("height", "width"))
        objects = []
        for each in root.findall("object"):
            low, high = (
                [float(each.findtext(f"bndbox/{side}{end}") or "") - first for side in "yx"] for end in ("min", "max")
            )
            box = [*np.maximum(low, 0), *np.minimum(np.add(high, 1), [height, width])]
            objects.append((each.findtext("name", "").strip(), each.findtext("difficult", "0").strip() == "1", box))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} is not an annotation that can be read: {error}") from error
    return objects
