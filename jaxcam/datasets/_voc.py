"""PASCAL VOC's images, and annotations in its form.

>>> VOC_CLASSES.index("dog")
11
"""

import pathlib
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxcam.datasets._classes import Classes, checked_classes, class_number
from jaxcam.datasets._example import Example, MaskFile
from jaxcam.datasets._files import Path, boxes_array, check_size, existing_file, lines_of, sorted_by_name

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def voc(
    root: Path,
    *,
    split: str = "test",
    classes: Classes = VOC_CLASSES,
    difficult: bool = False,
    masks: bool = False,
) -> list[Example]:
    """Lists PASCAL VOC's images: an example for each image and each class in it, with the boxes of that class.

        root/                          VOCdevkit/VOC2007, or another year's
          JPEGImages/000001.jpg
          Annotations/000001.xml
          ImageSets/Main/test.txt
          ImageSets/Segmentation/test.txt
          SegmentationClass/000001.png

    The annotations count pixels from 1 and include the last one. The boxes of the examples count from 0 and exclude it.

    Args:
      root: the folder above.
      split: the list of images, ImageSets/Main/`split`.txt; with masks, ImageSets/Segmentation/`split`.txt.
      classes: VOC's names in the order of the model's outputs, or a mapping from name to number.
      difficult: whether objects count that are marked as difficult. If not, their boxes are omitted, and an image has
        no example of a class that has only such objects. Masks contain their pixels in any case.
      masks: whether to list the masks of SegmentationClass. Pixels of the outlines, 255, do not count.

    Returns:
      Examples with names such as "000001-dog", sorted by name.

    Raises:
      ValueError: the layout differs, an annotation cannot be read, or an object has no class.
      FileNotFoundError: a list, a picture, an annotation or a mask does not exist.

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
      ...     [example] = voc(path)
      >>> example.name, example.label, example.boxes.tolist()
      ('000001-dog', 11, [[0.0, 0.0, 5.0, 9.0]])
    """
    base = pathlib.Path(root)
    if not (base / "JPEGImages").is_dir():
        near = sorted(pictures.parent.name for pictures in base.glob("*/JPEGImages"))
        raise ValueError(f"{base} has no folder JPEGImages{f': did you mean {base / near[0]}?' if near else ''}")
    classes = checked_classes(classes)
    examples = []
    for line in lines_of(existing_file(base / "ImageSets" / ("Segmentation" if masks else "Main") / f"{split}.txt")):
        image = line.split()[0]
        picture = existing_file(base / "JPEGImages" / f"{image}.jpg")
        annotation = existing_file(base / "Annotations" / f"{image}.xml")
        boxes_by_class: dict[str, list] = {}
        for annotated in annotated_objects(annotation, first=1):
            if difficult or not annotated.difficult:
                boxes_by_class.setdefault(annotated.name, []).append(annotated.box)
        for name, boxes in boxes_by_class.items():
            label, mask = class_number(name, classes, annotation), None
            if masks:
                value = class_number(name, VOC_CLASSES, annotation) + 1
                mask = MaskFile(existing_file(base / "SegmentationClass" / f"{image}.png"), (value,))
            examples.append(Example(picture, label, mask, boxes_array(boxes), f"{image}-{name}"))
    if not examples:
        raise ValueError(f"{base}: split {split!r} has no objects")
    return sorted_by_name(examples)


class AnnotatedObject(NamedTuple):
    """An object of an annotation: its class, whether it is marked as difficult, and its box."""

    name: str
    difficult: bool
    box: list[float]


def annotated_objects(path: pathlib.Path, *, first: int) -> list[AnnotatedObject]:
    """The objects of an annotation in PASCAL's form, whose pixels count from `first`."""
    try:
        check_size(path)
        # Whole: in pieces, expat reads a long name again for each piece. It refuses entities that grow.
        root = ElementTree.fromstring(path.read_bytes())
        height, width = (float(root.findtext(f"size/{side}") or 0) or np.inf for side in ("height", "width"))
        objects = []
        for element in root.findall("object"):
            low, high = (
                [float(element.findtext(f"bndbox/{side}{end}") or "") - first for side in "yx"]
                for end in ("min", "max")
            )
            box = [*np.maximum(low, 0), *np.minimum(np.add(high, 1), [height, width])]
            name, difficult = (element.findtext(tag, "").strip() for tag in ("name", "difficult"))
            objects.append(AnnotatedObject(name, difficult == "1", box))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that is not known
        raise ValueError(f"{path} is not an annotation that can be read: {error!s:.200}") from error
    return objects
