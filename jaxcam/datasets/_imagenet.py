"""The images of two challenges as their makers lay them out: ImageNet's (ILSVRC 2012) and PASCAL VOC's.

>>> VOC_CLASSES.index("dog")
11
"""

import pathlib
import re

from jaxcam.datasets._classes import SYNSET, Classes, checked_classes, lines_of, synset_order
from jaxcam.datasets._classes import number as number_of
from jaxcam.datasets._example import Example, Path, array_of, existing, in_order, pictures_in
from jaxcam.datasets._voc import _annotated


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
    pictures = pictures_in(root)
    if not pictures:
        inner = any(each.is_dir() for each in root.iterdir())
        raise ValueError(f"{root} has no pictures{': see folder for a folder for each class' if inner else ''}")
    known = _labels(source, [picture.stem for picture in pictures])
    if blacklist is not None:
        numbers = lines_of(blacklist)
        if not all(map(str.isdecimal, numbers)):
            raise ValueError(f"{blacklist} has lines that are no number: a number of an image on each is wanted")
        out = {f"ILSVRC2012_val_{int(line):08d}" for line in numbers}
        pictures = [picture for picture in pictures if picture.stem not in out]
    named = {label for label, _ in known.values() if SYNSET.fullmatch(label)}
    number = {label: int(label) for label, _ in known.values() if label not in named}
    if named:
        order = synset_order(sorted(named), source) if classes is None else checked_classes(classes)
        number = {label: number_of(label, order, source) for label in named}
    elif max(number.values()) > 999 or (min(number.values()) > 0 and len(number) > 998):
        ends = f"{min(number.values())}..{max(number.values())}"
        raise ValueError(f"{source} has labels {ends}: 0..999 are wanted, as outputs count")
    examples = []
    for picture in pictures:
        if picture.stem not in known:
            raise ValueError(f"{source} has no label for {picture.name}")
        label, found = known[picture.stem]
        if boxes is not None:
            annotation = existing(pathlib.Path(boxes) / f"{picture.stem}.xml")
            found = [box for name, _, box in _annotated(annotation, first=0) if not named or name == label]
            if not found:
                raise ValueError(f"{annotation} has no box of {label}")
        examples.append(Example(picture, number[label], None, array_of(found), picture.stem))
    return in_order(examples)


def _labels(path, stems):
    """From each image's stem to its label, a synset or a number, and its boxes; `stems` for a file without names."""
    where = str(path)
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
