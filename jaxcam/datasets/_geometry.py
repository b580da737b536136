"""A picture is turned, resized and cropped; its mask and its boxes move with it."""

from typing import NamedTuple

import numpy as np

Size = tuple[int, int]


class Turn(NamedTuple):
    """How stored pixels become upright: rows and columns are exchanged first, then reversed.

    Attributes:
      exchanged: whether rows and columns are exchanged.
      reversed: for rows and for columns, whether their order is reversed.
    """

    exchanged: bool
    reversed: tuple[bool, bool]


# By the EXIF orientation.
TURNS = {
    1: Turn(False, (False, False)), 2: Turn(False, (False, True)),
    3: Turn(False, (True, True)), 4: Turn(False, (True, False)),
    5: Turn(True, (False, False)), 6: Turn(True, (False, True)),
    7: Turn(True, (True, True)), 8: Turn(True, (True, False)),
}  # fmt: skip


def size_and_corner(stored: Size, shape: Size, fit: str) -> tuple[Size, Size]:
    """The size that a picture is resized to, and the corner at which `shape` is cropped from it.

    A corner is negative where `shape` is larger than the picture, which is then padded.
    """
    if fit == "stretch":
        return shape, (0, 0)
    zoom = 256 / 224 if fit == "crop" else 1
    enlarged = [round(side * zoom) for side in shape]
    row_ratio, column_ratio = enlarged[0] * stored[1], enlarged[1] * stored[0]
    decisive = 0 if (row_ratio <= column_ratio if fit == "pad" else row_ratio >= column_ratio) else 1
    height, width = (max(1, side * enlarged[decisive] // stored[decisive]) for side in stored)
    return (height, width), (round((height - shape[0]) / 2), round((width - shape[1]) / 2))


def fitted_region(stored: Size, shape: Size, fit: str) -> tuple[float, float, float, float]:
    """Row0, column0, row1, column1 of what a fit shows, in the picture's own pixels; beyond the picture where it pads.

    Example:
      >>> fitted_region((100, 200), (40, 40), "square"), fitted_region((100, 200), (40, 40), "pad")
      ((0.0, 50.0, 100.0, 150.0), (-50.0, 0.0, 150.0, 200.0))
    """
    resized, corner = size_and_corner(stored, shape, fit)
    scale = [size / new for size, new in zip(stored, resized, strict=True)]
    first = [start * factor for start, factor in zip(corner, scale, strict=True)]
    last = [(start + side) * factor for start, side, factor in zip(corner, shape, scale, strict=True)]
    return first[0], first[1], last[0], last[1]


def cropped(pixels: np.ndarray, corner: Size, shape: Size) -> np.ndarray:
    """The part `[*shape c]` of an image that starts at a corner; gray, 0.5, where the image has no pixel.

    Example:
      >>> cropped(np.ones([2, 4, 1]), (-1, 0), (4, 4))[..., 0].tolist()[:2]
      [[0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]]
    """
    if min(corner) < 0:
        sides = [
            (max(0, -first), max(0, first + side - whole))
            for first, side, whole in zip(corner, shape, pixels.shape, strict=False)
        ]
        pixels = np.pad(pixels, [*sides, (0, 0)], constant_values=0.5)
        corner = max(0, corner[0]), max(0, corner[1])
    return pixels[corner[0] : corner[0] + shape[0], corner[1] : corner[1] + shape[1]]


def turned_mask(mask: np.ndarray, turn: Turn) -> np.ndarray:
    """A mask of the stored pixels, upright."""
    mask = mask.T if turn.exchanged else mask
    return mask[tuple(slice(None, None, -1 if is_reversed else 1) for is_reversed in turn.reversed)]


def turned_boxes(boxes: np.ndarray, stored: Size, turn: Turn) -> np.ndarray:
    """Boxes `[m 4]` in the stored pixels, upright."""
    if turn.exchanged:
        boxes, stored = boxes[:, [1, 0, 3, 2]], stored[::-1]
    for axis in (0, 1):
        if turn.reversed[axis]:
            low, high = boxes[:, axis].copy(), boxes[:, axis + 2].copy()
            boxes[:, axis], boxes[:, axis + 2] = stored[axis] - high, stored[axis] - low
    return boxes


def resized_mask(mask: np.ndarray, resized: Size, corner: Size, shape: Size) -> np.ndarray:
    """A mask resized by nearest neighbors and cropped to `shape`; -1, which does not count, where it is padded."""
    rows, columns = (
        np.floor((np.arange(side) + first + 0.5) * size / whole).astype(int)
        for side, first, size, whole in zip(shape, corner, mask.shape, resized, strict=True)
    )
    inside = [(0 <= places) & (places < size) for places, size in zip((rows, columns), mask.shape, strict=True)]
    clipped = mask[np.clip(rows, 0, mask.shape[0] - 1)[:, None], np.clip(columns, 0, mask.shape[1] - 1)]
    return np.where(inside[0][:, None] & inside[1], clipped, np.int8(-1))


def resized_boxes(boxes: np.ndarray, stored: Size, resized: Size, corner: Size, shape: Size) -> np.ndarray:
    """Boxes resized and clipped to the crop, without the boxes outside it."""
    moved = boxes * np.tile(np.divide(resized, stored), 2) - np.tile(corner, 2)
    moved = np.clip(moved, 0, [*shape, *shape])
    return moved[(moved[:, :2] < moved[:, 2:]).all(1)].astype(np.float32)
