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
    """The size that a picture is resized to, and the corner at which `shape` is cropped from it."""
    if fit == "stretch":
        return shape, (0, 0)
    enlarged = [round(side * 256 / 224) for side in shape]
    short = 0 if enlarged[0] * stored[1] >= enlarged[1] * stored[0] else 1
    height, width = (side * enlarged[short] // stored[short] for side in stored)
    return (height, width), (round((height - shape[0]) / 2), round((width - shape[1]) / 2))


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
    """A mask resized by nearest neighbors and cropped to `shape`."""
    rows, columns = (
        ((np.arange(side) + first + 0.5) * size / whole).astype(int)
        for side, first, size, whole in zip(shape, corner, mask.shape, resized, strict=True)
    )
    return mask[rows[:, None], columns]


def resized_boxes(boxes: np.ndarray, stored: Size, resized: Size, corner: Size, shape: Size) -> np.ndarray:
    """Boxes resized and clipped to the crop, without the boxes outside it."""
    moved = boxes * np.tile(np.divide(resized, stored), 2) - np.tile(corner, 2)
    moved = np.clip(moved, 0, [*shape, *shape])
    return moved[(moved[:, :2] < moved[:, 2:]).all(1)].astype(np.float32)
