"""ImageNet's validation images (ILSVRC 2012) in one folder, with a file of labels."""

import pathlib
import re
from typing import NamedTuple

from jaxcam.datasets._classes import SYNSET, Classes, checked_classes, checked_int, class_number, sorted_synsets
from jaxcam.datasets._example import Example
from jaxcam.datasets._files import Path, boxes_array, existing_file, lines_of, pictures_in, sorted_by_name
from jaxcam.datasets._voc import annotated_objects


def imagenet(
    images: Path,
    labels: Path,
    *,
    boxes: Path | None = None,
    classes: Classes | None = None,
    blacklist: Path | None = None,
) -> list[Example]:
    """Lists ImageNet's validation images in one folder, with a file of labels.

        images/ILSVRC2012_val_00000001.JPEG ...
        boxes/ILSVRC2012_val_00000001.xml ...

    The labels have one of these forms:

    - Kaggle's LOC_val_solution.csv, which has boxes, too;
    - lines of a file's name and a number from 0, or a synset: `ILSVRC2012_val_00000001.JPEG 65`;
    - one synset per line, in the order of the images' names.

    The devkit's ILSVRC2012_validation_ground_truth.txt is refused: its numbers are not those of any model's outputs.

    Boxes follow the ILSVRC annotations: pixels from 0, both ends within the box.

    Args:
      images: the folder. It may hold a part of the images that have labels.
      labels: the file.
      boxes: the folder of the annotations, `val` of ILSVRC2012_bbox_val_v3.tgz.
      classes: for labels that are synsets: what `synsets` reads, or a mapping from synset to number. By default the
        labels must name all 1000 synsets, which are sorted.
      blacklist: a file with the numbers of images to omit, one per line, from 1. The devkit's
        ILSVRC2015_clsloc_validation_blacklist.txt has the 1762 images with bad boxes, which the challenge's
        localization error omits.

    Returns:
      An example for each picture, sorted by name.

    Raises:
      ValueError: there are no pictures, the labels have another form, a picture has no label, or numbers are ambiguous.
      FileNotFoundError: the file of labels, or the annotation of a picture, does not exist.

    Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 2015.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     (pathlib.Path(path) / "ILSVRC2012_val_00000001.JPEG").touch()
      ...     _ = (pathlib.Path(path) / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 65")
      ...     [example] = imagenet(path, pathlib.Path(path) / "val.txt")
      >>> example.name, example.label
      ('ILSVRC2012_val_00000001', 65)
    """
    root, source = pathlib.Path(images), pathlib.Path(labels)
    pictures = pictures_in(root)
    if not pictures:
        has_folders = any(child.is_dir() for child in root.iterdir())
        raise ValueError(f"{root} has no pictures{': folder reads a folder for each class' if has_folders else ''}")
    records = _records(source, [picture.stem for picture in pictures])
    numbers = _label_numbers({record.label for record in records.values()}, classes, source)
    omitted = set() if blacklist is None else _blacklisted_names(blacklist)
    examples = []
    for picture in pictures:
        if picture.stem in omitted:
            continue
        if picture.stem not in records:
            raise ValueError(f"{source} has no label for {picture.name}")
        label, picture_boxes = records[picture.stem]
        if boxes is not None:
            annotation = existing_file(pathlib.Path(boxes) / f"{picture.stem}.xml")
            picture_boxes = [
                annotated.box
                for annotated in annotated_objects(annotation, first=0)
                if not SYNSET.fullmatch(label) or annotated.name == label
            ]
            if not picture_boxes:
                raise ValueError(f"{annotation} has no box of {label}")
        examples.append(Example(picture, numbers[label], None, boxes_array(picture_boxes), picture.stem))
    return sorted_by_name(examples)


class _Record(NamedTuple):
    """What the file of labels has for an image: a synset or a number as text, and boxes."""

    label: str
    boxes: list[list[float]]


def _blacklisted_names(blacklist):
    lines = lines_of(blacklist)
    if not all(map(str.isdecimal, lines)):
        raise ValueError(f"{blacklist}: expected the number of an image on each line, got a line that is no number")
    return {f"ILSVRC2012_val_{checked_int(line, blacklist):08d}" for line in lines}


def _label_numbers(labels, classes, source):
    """The numbers of labels, which are synsets or numbers as text."""
    if all(map(SYNSET.fullmatch, labels)):
        order = sorted_synsets(sorted(labels), source) if classes is None else checked_classes(classes)
        return {label: class_number(label, order, source) for label in labels}
    numbers = {label: checked_int(label, source) for label in labels}
    low, high = min(numbers.values()), max(numbers.values())
    if high > 999 or (low > 0 and len(numbers) > 998):
        raise ValueError(f"{source}: expected labels 0..999, as outputs count, got labels {low}..{high}")
    return numbers


def _records(path, stems) -> dict[str, _Record]:
    """By the stem of each image, its label and its boxes; `stems` name the lines of a file without names."""
    lines = lines_of(path)
    of_kaggle = lines[0].lower().startswith("imageid,predictionstring")
    if of_kaggle:
        rows = [line.split(",", 1) for line in lines[1:]]
    else:
        rows = [re.split(r"[\s,]+", line) for line in lines]
        if all(len(fields) == 1 for fields in rows):
            labels = _checked_unnamed([fields[0] for fields in rows], len(stems), path)
            rows = [[stem, label] for stem, label in zip(stems, labels, strict=True)]
    records: dict[str, _Record] = {}
    for fields in rows:
        if len(fields) != 2:
            raise ValueError(f"{path}: expected a file's name and a label, got {' '.join(fields)!r:.80}")
        stem = pathlib.PurePath(fields[0]).stem
        record = _kaggle_record(fields[1], path) if of_kaggle else _Record(fields[1], [])
        if not (SYNSET.fullmatch(record.label) or record.label.isdecimal()):
            raise ValueError(f"{path}: expected a number or a synset, {stem:.80} has label {record.label!r:.80}")
        if records.setdefault(stem, record).label != record.label:
            raise ValueError(f"{path}: {stem:.80} has two labels, {records[stem].label:.80} and {record.label:.80}")
    if len({SYNSET.fullmatch(record.label) is None for record in records.values()}) > 1:
        raise ValueError(f"{path}: expected synsets or numbers, got synsets and numbers")
    return records


def _checked_unnamed(labels, count, path):
    """Returns labels without names. Raises a ValueError for the devkit's numbers, or another count of labels."""
    if not all(map(SYNSET.fullmatch, labels)):
        raise ValueError(
            f"{path} has a number a line, as the devkit's ground truth does: those are the devkit's ids, in the order "
            "of its meta.mat and not that of any model's outputs; take Kaggle's LOC_val_solution.csv, or lines of a "
            "file's name and a label"
        )
    if len(labels) != count:
        raise ValueError(f"{path}: expected a label for each picture, got {len(labels)} labels for {count} pictures")
    return labels


def _kaggle_record(text, path):
    """Kaggle's "synset xmin ymin xmax ymax synset ...": the synset and its boxes."""
    words = text.split()
    groups = [words[i : i + 5] for i in range(0, len(words), 5)]
    try:
        boxes = [[ymin, xmin, ymax + 1, xmax + 1] for _, *box in groups for xmin, ymin, xmax, ymax in [map(float, box)]]
    except ValueError as error:
        raise ValueError(f"{path}: expected 'synset xmin ymin xmax ymax' for each box, got {text!r:.80}") from error
    if len({group[0] for group in groups}) != 1:
        raise ValueError(f"{path}: expected boxes of one synset, got {text!r:.80}")
    return _Record(words[0], boxes)
