"""One labelled image: as files to be read when its turn comes, and as arrays of the model's height and width.

>>> picture = np.zeros([10, 20, 3], np.float32)
>>> example = Example(picture, label=3, boxes=np.array([[2, 4, 8, 12]]), name="a")
>>> loaded = load(example, (20, 20))
>>> loaded.image.shape, loaded.boxes.tolist()
((20, 20, 3), [[4.0, 4.0, 16.0, 12.0]])
"""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

Path = str | os.PathLike
FITS = ("stretch", "crop")

# How an EXIF orientation turns the stored pixels: rows and columns exchanged, then rows, then columns reversed.
TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip


class MaskFile(NamedTuple):
    """A mask in a picture file, with what its values mean.

    Attributes:
      path: of the file: grey, one bit, or of a palette.
      inside: the values of the object; None for all but 0 and those of `ignore`, and for white in a mask of 0 and 255.
      ignore: the values that are not counted, such as a border; `inside` goes before it.
    """

    path: Path
    inside: Sequence[int] | None = None
    ignore: Sequence[int] = (255,)


class Example(NamedTuple):
    """One labelled image, as arrays or as files to be read when its turn comes.

    Attributes:
      image: `[h w c]` floats, or a picture file.
      label: its class, from 0; None where it is not known.
      mask: `[h w]` int8, 1 on the object, 0 off it, -1 not counted; or a file of one. None where there is none.
      boxes: `[m 4]` row0, column0, row1, column1 of the objects of that class, the last two excluded, in pixels of the
        image as it is stored; parts of pixels are allowed. None where there are none.
      name: of the example, for its results.
    """

    image: np.ndarray | Path
    label: int | None = None
    mask: np.ndarray | MaskFile | None = None
    boxes: np.ndarray | None = None
    name: str | None = None


def load(example: Example, shape: tuple[int, int], *, fit: str = "stretch") -> Example:
    """The example as arrays at a height and width: its picture, its mask and its boxes, moved alike.

    A picture that its EXIF turns is turned, and its mask and boxes, which are those of the stored pixels, with it.

    Args:
      example: of arrays or files.
      shape: height and width, as the model wants them.
      fit: "stretch", both sides to the shape; or "crop", the centre of the picture after it is resized so that 256/224
        of the shape just fits into it: the short side to 256 and the central 224 x 224 out of it, as networks are
        usually evaluated on ImageNet.

    Returns:
      The example with `image` `[*shape c]` float32, antialiased; `mask` `[*shape]` int8, by nearest neighbour, which
      may have no object left where the crop cuts it off; `boxes` `[m 4]` float32, clipped, without those cut off.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is no picture; a mask of another size than its picture, or without a pixel of the object;
        a box without an area, or more than a pixel outside the picture; a negative label.
      TypeError: a label that is no integer.

    Example:
      >>> example = Example(np.ones([64, 128, 3], np.float32), boxes=np.array([[0, 0, 64, 64]]))
      >>> load(example, (56, 56), fit="crop").boxes.tolist()
      [[0.0, 0.0, 56.0, 28.0]]
    """
    if fit not in FITS:
        raise ValueError(f"fit is {fit!r}: choose one of {', '.join(FITS)}")
    from jaxcam.datasets import images

    image, label, mask, boxes, name = example
    arrays = hasattr(image, "shape")
    what = name or "the image" if arrays else os.fspath(image)  # type: ignore[arg-type]
    _check_label(label, what)
    pixels = np.asarray(image, np.float32) if arrays else images.read(image)  # type: ignore[arg-type]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"{what} has shape {pixels.shape}: [h w c] is wanted")
    turn = TURNS[1] if arrays or (mask is None and boxes is None) else TURNS[images.orientation(image)]  # type: ignore[arg-type]
    upright = pixels.shape[:2]
    stored = upright[::-1] if turn[0] else upright
    resized, corner = _geometry(upright, shape, fit)
    if resized != upright:
        if arrays and not (0 <= pixels.min() and pixels.max() <= 1):
            raise ValueError(f"{what} has values outside 0..1: it is resized to {resized}, which wants 0..1")
        pixels = images.fit(pixels, resized)
    pixels = pixels[corner[0] : corner[0] + shape[0], corner[1] : corner[1] + shape[1]]
    if mask is not None:
        mask = _nearest(_turned(_mask(mask, stored, what), turn), resized, corner, shape)
    if boxes is not None:
        boxes = _moved(_turned_boxes(_boxes(boxes, stored, what), stored, turn), upright, resized, corner, shape)
    return Example(pixels, label if label is None else int(label), mask, boxes, name)


def checked(example: Example) -> Example:
    """An example of arrays as it is, its mask as int8 and its boxes as float32; None for those without an object.

    Raises:
      TypeError, ValueError: an image that is a file, or not `[h w c]`; a mask with other values than -1, 0 and 1, or of
        another size; a box without an area, or more than a pixel outside the image; a label that is no class.

    Example:
      >>> checked(Example(np.ones([4, 4, 3], np.float32), mask=np.eye(4, dtype=bool))).mask.sum().item()
      4
    """
    if not isinstance(example, Example):
        raise TypeError(f"{type(example).__name__} is no example: a jaxcam.Example is wanted")
    what = example.name or "the image"
    if not hasattr(example.image, "shape"):
        raise TypeError(f"{what} is a file: give load=functools.partial(jaxcam.datasets.load, shape=(224, 224)), say")
    if len(example.image.shape) != 3:
        raise ValueError(f"{what} has shape {tuple(example.image.shape)}: [h w c] is wanted")
    _check_label(example.label, what)
    mask, boxes, stored = example.mask, example.boxes, tuple(example.image.shape[:2])
    if mask is not None:
        given = np.asarray(mask)
        nothing = given.shape == stored and np.isin(given, (-1, 0)).all()
        mask = None if nothing else _mask(given, stored, what)
    if boxes is not None:
        boxes = np.asarray(_boxes(boxes, stored, what), np.float32) if len(boxes) else None
    return example._replace(mask=mask, boxes=boxes)


def pictures_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The picture files of a folder, sorted, without hidden ones."""
    from PIL import Image

    known = Image.registered_extensions()
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in known and not p.name.startswith("."))


def names_of(files: Sequence[pathlib.Path]) -> list[str]:
    """A name for each file, as short as tells them apart: the stem, the path as one word, or that with the suffix."""
    stems = [file.stem for file in files]
    parts = [[part for part in file.parts if part not in (file.anchor, "..")] for file in files]
    parted = ["-".join([*each[:-1], stem]) for each, stem in zip(parts, stems, strict=True)]
    whole = ["-".join(each) for each in parts]
    return next((names for names in (stems, parted) if len(set(names)) == len(names)), whole)


def in_order(examples: Iterable[Example]) -> list[Example]:
    """The examples sorted by name; a ValueError where two have one."""
    examples = sorted(examples, key=lambda example: example.name or "")
    for one, other in zip(examples, examples[1:], strict=False):
        if one.name == other.name:
            raise ValueError(f"{one.image} and {other.image} are both called {one.name!r}")
    return examples


def existing(path: pathlib.Path) -> pathlib.Path:
    """The path of a file; a FileNotFoundError where it is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path


def array_of(boxes: list[list[float]]) -> np.ndarray | None:
    """Boxes as an array `[m 4]`; None where there are none."""
    return np.array(boxes, np.float32) if boxes else None


def _check_label(label, what):
    if label is None:
        return
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise TypeError(f"{what}: label is {label!r}: an integer, the class's number from 0, is wanted")
    if label < 0:
        raise ValueError(f"{what}: label is {label}: a class's number from 0 is wanted")


def _geometry(stored, shape, fit):
    """The size that the picture is resized to, and the corner where the shape is cut out of that."""
    if fit == "stretch":
        return tuple(shape), (0, 0)
    around = [round(side * 256 / 224) for side in shape]
    short = 0 if around[0] * stored[1] >= around[1] * stored[0] else 1
    resized = [side * around[short] // stored[short] for side in stored]
    return tuple(resized), tuple(round((whole - part) / 2) for whole, part in zip(resized, shape, strict=True))


def _mask(mask, stored, what):
    """1 on the object, 0 off it, -1 where it is not counted."""
    if isinstance(mask, MaskFile):
        from jaxcam.datasets import images

        where, values = os.fspath(mask.path), images.values(mask.path)
        # Black and white, as most tools write a mask: there 255 is the object, whatever VOC's outlines are.
        white = mask.inside is None and set(np.unique(values)) == {0, 255}
        ignored = np.isin(values, [] if white else list(mask.ignore))
        inside = (values != 0) & ~ignored if mask.inside is None else np.isin(values, list(mask.inside))
        mask = np.where(inside, 1, np.where(ignored, -1, 0))
        has = f"its values are {', '.join(map(str, np.unique(values)[:8]))}; inside= and ignore= say what they mean"
    elif hasattr(mask, "shape"):
        where = f"the mask of {what}"
        has = f"its values are {', '.join(map(str, np.unique(mask)[:8]))}; 1 is the object"
        if not np.isin(mask, (-1, 0, 1)).all():
            raise ValueError(f"{where}: {has}, 0 is not, -1 is not counted")
    else:
        raise TypeError(f"{what}: mask is {mask!r}: an array [h w] or a MaskFile is wanted")
    if mask.shape != stored:
        raise ValueError(f"{where} has shape {mask.shape}: its picture, {what}, has {stored} as it is stored")
    if not (mask == 1).any():
        raise ValueError(f"{where} has no pixel of the object: {has}")
    return mask.astype(np.int8)


def _boxes(boxes, stored, what):
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{what} has boxes of shape {boxes.shape}: [m 4] is wanted, row0 column0 row1 column1")
    # Annotators differ by a pixel in where the first one is and whether the last belongs to the box.
    outside = ~((boxes >= -1) & (boxes <= np.add([*stored, *stored], 1))).all(1)
    clipped = np.clip(boxes, 0, [*stored, *stored])
    empty = ~(clipped[:, :2] < clipped[:, 2:]).all(1)
    for bad, wrong in (outside, f"is outside the picture, {stored[0]} x {stored[1]}"), (empty, "has no area"):
        if bad.any():
            box = ", ".join(f"{side:g}" for side in boxes[bad][0])
            raise ValueError(f"{what}: box {box} {wrong}: row0, column0, row1, column1 in its pixels are wanted")
    return clipped


def _turned(mask, turn):
    exchanged, *reversed_ = turn
    mask = mask.T if exchanged else mask
    return mask[tuple(slice(None, None, -1 if each else 1) for each in reversed_)]


def _turned_boxes(boxes, stored, turn):
    exchanged, *reversed_ = turn
    if exchanged:
        boxes, stored = boxes[:, [1, 0, 3, 2]], stored[::-1]
    for axis in (0, 1):
        if reversed_[axis]:
            low, high = boxes[:, axis].copy(), boxes[:, axis + 2].copy()
            boxes[:, axis], boxes[:, axis + 2] = stored[axis] - high, stored[axis] - low
    return boxes


def _nearest(mask, resized, corner, shape):
    rows, columns = (
        ((np.arange(side) + first + 0.5) * size / whole).astype(int)
        for side, first, size, whole in zip(shape, corner, mask.shape, resized, strict=True)
    )
    return mask[rows[:, None], columns]


def _moved(boxes, stored, resized, corner, shape):
    moved = boxes * np.tile(np.divide(resized, stored), 2) - np.tile(corner, 2)
    moved = np.clip(moved, 0, [*shape, *shape])
    return moved[(moved[:, :2] < moved[:, 2:]).all(1)].astype(np.float32)
