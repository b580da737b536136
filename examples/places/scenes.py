"""Scenes: one to four handwritten digits of several classes among clutter, with the box and the mask of each.

They are the canvases of `examples.digits.canvases`, whose digits, textures and splits they share, but the digits of one
picture differ.

    scene = draw(numpy.random.default_rng(0), "test")
    scene.image    # [64 64 3] float32 in 0..1
    scene.labels   # [digits] int
    scene.boxes    # [digits 4] int: row0, column0, row1, column1, the last two exclusive
    scene.masks    # [digits 64 64] bool: the ink of each digit
"""

from typing import NamedTuple

import numpy as np

from examples.digits import canvases
from examples.digits.canvases import SIDE

BACKGROUND = 10  # the class of a pixel without the ink of a digit


class Scene(NamedTuple):
    """One picture with its ground truth, in the shapes of the module's docstring."""

    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray

    def classes(self) -> np.ndarray:
        """The class of each pixel, `[64 64]` int: a digit's, or `BACKGROUND`."""
        pixels = np.full((SIDE, SIDE), BACKGROUND)
        for label, mask in zip(self.labels, self.masks, strict=True):
            pixels[mask] = label
        return pixels


def draw(rng: np.random.Generator, split: str) -> Scene:
    """One scene of a split, "train" or "test", with 1 to 4 digits of random classes."""
    image = canvases._background(rng, split)
    labels: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    masks: list[np.ndarray] = []
    count = int(rng.integers(1, 5))
    while len(boxes) < count:
        label = int(rng.integers(10))
        ink = canvases._digit(rng, split, label)
        box = _place(rng, ink)
        if any(canvases._overlap(box, other) for other in boxes):
            continue
        mask = np.zeros((SIDE, SIDE), bool)
        mask[box[0] : box[2], box[1] : box[3]] = ink > 0.5
        labels.append(label)
        boxes.append(box)
        masks.append(mask)
        canvases._paint(rng, image, ink, box)
    for _ in range(rng.integers(2, 6)):
        ink = canvases._fragment(rng, canvases._digit(rng, split, int(rng.integers(10))))
        box = _place(rng, ink)
        if not any(canvases._overlap(box, taken) for taken in boxes):
            canvases._paint(rng, image, ink, box)
    image += rng.normal(0, 0.02, image.shape)
    return Scene(np.clip(image, 0, 1).astype(np.float32), np.array(labels), np.array(boxes), np.array(masks))


def draw_many(seed: int, split: str, count: int) -> list[Scene]:
    """`count` scenes. The same seed gives the same scenes."""
    rng = np.random.default_rng(seed)
    return [draw(rng, split) for _ in range(count)]


def _place(rng, ink):
    """A box `row0, column0, row1, column1` of the ink's size at a random place."""
    height, width = ink.shape
    row, column = rng.integers(0, SIDE - height + 1), rng.integers(0, SIDE - width + 1)
    return int(row), int(column), int(row + height), int(column + width)
