"""TODO."""

import pathlib
from xml.etree import ElementTree

import numpy as np

from jaxcam.datasets._classes import Classes, checked_classes, lines_of
from jaxcam.datasets._classes import number as number_of
from jaxcam.datasets._example import Example, MaskFile, Path, array_of, existing, in_order

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
    for line in lines_of(existing(base / "ImageSets" / ("Segmentation" if masks else "Main") / f"{split}.txt")):
        image = line.split()[0]
        picture = existing(base / "JPEGImages" / f"{image}.jpg")
        annotation = existing(base / "Annotations" / f"{image}.xml")
        boxes: dict[str, list] = {}
        for name, hard, box in _annotated(annotation, first=1):
            if difficult or not hard:
                boxes.setdefault(name, []).append(box)
        for name, found in boxes.items():
            label, mask = number_of(name, classes, annotation), None
            if masks:
                value = number_of(name, VOC_CLASSES, annotation) + 1
                mask = MaskFile(existing(base / "SegmentationClass" / f"{image}.png"), (value,))
            examples.append(Example(picture, label, mask, array_of(found), f"{image}-{name}"))
    if not examples:
        raise ValueError(f"{base}: split {split!r} has no objects")
    return in_order(examples)


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
