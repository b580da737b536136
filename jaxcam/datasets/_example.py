"""One labeled example: as files that are read when needed, or as arrays.

>>> picture = np.zeros([10, 20, 3], np.float32)
>>> example = Example(picture, label=3, boxes=np.array([[2, 4, 8, 12]]), name="a")
>>> loaded = load(example, (20, 20))
>>> loaded.image.shape, loaded.boxes.tolist()
((20, 20, 3), [[4.0, 4.0, 16.0, 12.0]])
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxcam._base.axes import spatial_shape
from jaxcam.datasets._geometry import (
    TURNS,
    cropped,
    resized_boxes,
    resized_mask,
    size_and_corner,
    turned_boxes,
    turned_mask,
)

FITS = ("stretch", "crop", "square", "pad")


class MaskFile(NamedTuple):
    """A mask in a picture file, and the meaning of its values.

    Attributes:
      path: the file: gray, one bit, or with a palette.
      inside: the values of the object. None means all values except 0 and those of `ignore`; in a mask that has only
        the values 0 and 255 it means 255.
      ignore: the values of pixels that do not count, such as a border. A value that is in `inside` counts.
    """

    path: str | os.PathLike
    inside: Sequence[int] | None = None
    ignore: Sequence[int] = (255,)


class Example(NamedTuple):
    """One labeled example, as arrays or as files that are read when needed.

    Attributes:
      image: `[*spatial c]` floats, or a picture file.
      label: the class, from 0; None if it is not known.
      mask: `[*spatial]` int8: 1 on the object, 0 off it, -1 for pixels that do not count; or a file. None if there is
        no mask.
      boxes: `[m 4]` row0, column0, row1, column1 of the objects of that class, in pixels of the stored image; the last
        row and column are excluded, and fractions are allowed. With other spatial axes `[m 2*axes]`: the first corner,
        then the last. None if there are no boxes.
      name: the name of the example in results.
      inputs: the model's arguments after the image, by position or by name, for a model that takes more than an image.
      target: what is explained, if it is not a class: anything that the score takes.
    """

    image: np.ndarray | str | os.PathLike
    label: int | None = None
    mask: np.ndarray | MaskFile | None = None
    boxes: np.ndarray | None = None
    name: str | None = None
    inputs: Sequence[Any] | Mapping[str, Any] = ()
    target: Any = None


def load(
    example: Example, shape: tuple[int, int], *, fit: str = "stretch", channel_axis: Literal[-1, 0, 2] = -1
) -> Example:
    """Reads an example as arrays of one height and width: its picture, with its mask and its boxes.

    A picture whose EXIF data turn it is turned upright. Its mask and its boxes refer to the stored pixels and are
    turned with it.

    Args:
      example: arrays or files, with an image `[h w c]`.
      shape: the height and width that the model takes.
      fit: "stretch" resizes both sides to the shape. "crop" keeps the aspect: the picture is resized so that 256/224 of
        the shape just fits into it, and the center is cropped, as networks are usually evaluated on ImageNet (the short
        side is resized to 256, and the central 224 x 224 is cropped).
      channel_axis: where the model takes the channels: 0 for `[c h w]`. An image that is an array has them there, too.

    Returns:
      The example with `image` `[*shape c]` float32, or `[c *shape]`, antialiased; `mask` `[*shape]` int8, by nearest
      neighbors, which may contain no object after a crop; `boxes` `[m 4]` float32, clipped, without boxes outside the
      crop.

    Raises:
      FileNotFoundError: a file does not exist.
      ValueError: a file is not a picture; a mask differs in size from its picture, or has no pixel of the object; a
        mask file of several values, without `inside`, has no pixel off the object; a box has no area, or is more than
        a pixel outside the picture; a label is negative.
      TypeError: a label is not an integer.

    Example:
      >>> example = Example(np.ones([64, 128, 3], np.float32), boxes=np.array([[0, 0, 64, 64]]))
      >>> load(example, (56, 56), fit="crop").boxes.tolist()
      [[0.0, 0.0, 56.0, 28.0]]
    """
    if fit not in FITS:
        raise ValueError(f"expected fit to be one of {', '.join(FITS)}, got {fit!r}")
    from jaxcam.datasets import images

    image, label, mask, boxes = example[:4]
    is_array = hasattr(image, "shape")
    what = _description(example)
    _check_label(label, what)
    shape = (shape[0], shape[1])
    if is_array:
        pixels = _as_hwc(image, channel_axis)
        upright = pixels.shape[:2]
    else:
        pixels, upright = images.read_with_size(image, lambda size: size_and_corner(size, shape, fit)[0])  # type: ignore[arg-type]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"expected {what} to have shape [h w c], got {pixels.shape}")
    turn = TURNS[1] if is_array or (mask is None and boxes is None) else TURNS[images.orientation(image)]  # type: ignore[arg-type]
    stored = upright[::-1] if turn.exchanged else upright
    resized, corner = size_and_corner(upright, shape, fit)
    if resized != upright:
        if is_array and not (0 <= pixels.min() and pixels.max() <= 1):
            raise ValueError(f"{what} has values outside 0..1, which cannot be resized to {resized}: scale it to 0..1")
        pixels = images.fit(pixels, resized)
    pixels = cropped(pixels, corner, shape)
    if mask is not None:
        mask = resized_mask(turned_mask(_mask_array(mask, stored, what), turn), resized, corner, shape)
    if boxes is not None:
        boxes = turned_boxes(_clipped_boxes(boxes, stored, what), stored, turn)
        boxes = resized_boxes(boxes, upright, resized, corner, shape)
    pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, channel_axis))
    return example._replace(image=pixels, label=label if label is None else int(label), mask=mask, boxes=boxes)


def _as_hwc(image, channel_axis):
    """An array with its channels last; one with another number of axes than three stays as it is."""
    pixels = np.asarray(image, np.float32)
    return np.moveaxis(pixels, channel_axis, -1) if pixels.ndim == 3 else pixels


def checked_example(example: Example, *, channel_axis: int | None = -1) -> Example:
    """An example of arrays with its mask as int8 and its boxes as float32; None for a mask or boxes without an object.

    Args:
      example: of arrays.
      channel_axis: of the image; None for an image without channels.

    Raises:
      TypeError: an image is a file; a label is not an integer.
      ValueError: an image is not `[*spatial c]`; a mask has another size, or values other than -1, 0 and 1; a box has
        no area, or is more than a pixel outside the image; a label is negative.

    Example:
      >>> checked_example(Example(np.ones([4, 4, 3], np.float32), mask=np.eye(4, dtype=bool))).mask.sum().item()
      4
    """
    if not isinstance(example, Example):
        raise TypeError(f"expected a jaxcam.Example, got {type(example).__name__}")
    what = _description(example)
    if not hasattr(example.image, "shape"):
        raise TypeError(f"{what} is a file: give load=functools.partial(jaxcam.datasets.load, shape=(224, 224))")
    shape = tuple(example.image.shape)
    if len(shape) < (1 if channel_axis is None else 2):
        raise ValueError(f"expected {what} to have shape [*spatial c], got {shape}")
    _check_label(example.label, what)
    mask, boxes, spatial = example.mask, example.boxes, spatial_shape(shape, channel_axis)
    if mask is not None:
        values = np.asarray(mask)
        has_no_object = values.shape == spatial and np.isin(values, (-1, 0)).all()
        mask = None if has_no_object else _mask_array(values, spatial, what)
    if boxes is not None:
        boxes = np.asarray(_clipped_boxes(boxes, spatial, what), np.float32) if len(boxes) else None
    return example._replace(mask=mask, boxes=boxes)


def _description(example):
    """How messages call an example."""
    return example.name or "the image" if hasattr(example.image, "shape") else os.fspath(example.image)


def _check_label(label, what):
    if label is None:
        return
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise TypeError(f"{what}: expected a label that is an integer, the class's number from 0, got {label!r}")
    if label < 0:
        raise ValueError(f"{what}: expected a label of at least 0, the class's number, got {label}")


def _mask_array(mask, stored, what):
    """1 on the object, 0 off it, -1 where pixels do not count. Raises a ValueError or TypeError for other masks."""
    if isinstance(mask, MaskFile):
        where = os.fspath(mask.path)
        mask, meaning = _read_mask(mask)
    elif hasattr(mask, "shape"):
        where = f"the mask of {what}"
        meaning = f"its values are {_some_values(mask)}; 1 is the object"
        if not np.isin(mask, (-1, 0, 1)).all():
            raise ValueError(f"{where}: {meaning}, 0 is not, -1 does not count")
    else:
        raise TypeError(f"{what}: expected a mask that is an array [*spatial] or a MaskFile, got {mask!r}")
    if mask.shape != stored:
        raise ValueError(f"{where} has shape {mask.shape}, but its picture, {what}, has {stored} as it is stored")
    if not (mask == 1).any():
        raise ValueError(f"{where} has no pixel of the object: {meaning}")
    return mask.astype(np.int8)


def _read_mask(mask_file):
    """The mask in a file, and what a message says of its values."""
    from jaxcam.datasets import images

    values = images.values(mask_file.path)
    # Most tools write masks in black and white, where 255 is the object, although it is the outline in VOC's masks.
    black_and_white = mask_file.inside is None and set(np.unique(values)) == {0, 255}
    ignored = np.isin(values, [] if black_and_white else list(mask_file.ignore))
    if mask_file.inside is None:
        inside = (values != 0) & ~ignored
    else:
        inside = np.isin(values, list(mask_file.inside))
    meaning = f"its values are {_some_values(values)}; inside= and ignore= say what they mean"
    if mask_file.inside is None and inside[~ignored].all() and len(np.unique(values[inside])) > 1:
        raise ValueError(f"{os.fspath(mask_file.path)} has no pixel off the object: {meaning}")
    return np.where(inside, 1, np.where(ignored, -1, 0)), meaning


def _some_values(mask):
    return ", ".join(map(str, np.unique(mask)[:8]))


def _clipped_boxes(boxes, stored, what):
    """Boxes clipped to the picture. Raises a ValueError for a box that has no area or lies outside."""
    boxes, axes = np.asarray(boxes, np.float64), len(stored)
    if boxes.ndim != 2 or boxes.shape[1] != 2 * axes:
        corners = "row0 column0 row1 column1" if axes == 2 else "the first corner, then the last"
        raise ValueError(f"{what}: expected boxes [m {2 * axes}], {corners}, got shape {boxes.shape}")
    # Annotators differ by a pixel in where the first one is and whether the last one belongs to the box.
    outside = ~((boxes >= -1) & (boxes <= np.add([*stored, *stored], 1))).all(1)
    clipped = np.clip(boxes, 0, [*stored, *stored])
    empty = ~(clipped[:, :axes] < clipped[:, axes:]).all(1)
    size = " x ".join(map(str, stored))
    for is_wrong, reason in (outside, f"is outside the picture, {size}"), (empty, "has no area"):
        if is_wrong.any():
            box = ", ".join(f"{side:g}" for side in boxes[is_wrong][0])
            raise ValueError(f"{what}: box {box} {reason}: expected row0, column0, row1, column1 in its pixels")
    return clipped
