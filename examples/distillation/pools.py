"""The images that students learn from, drawn once: a pool that every student and every row sees.

canvases   one digit, in one to four copies, among clutter: `examples.digits.canvases`
several    one to three different digits: `examples.captions.scenes`; the map's class is one of them at random
cifar10    CIFAR-10, each image in some augmentations that are drawn once (a crop of the image with a border of 4
           pixels, mirrored or not), so that the teacher's maps and logits of them can be kept
"""

import io
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from examples.captions import scenes
from examples.digits import canvases

CLASSES = 10
BORDER = 4
TRAIN_SEED, TEST_SEED = 7_000_000, 8_000_000


class Pool(NamedTuple):
    """Images `[n h w 3]` in 0..255, the class of each one's map `[n]`, and which classes are in it, `[n 10]`."""

    images: np.ndarray
    targets: np.ndarray
    present: np.ndarray


def draw(
    data: str, split: str, count: int, *, copies: int = 1, side: int = 32, folder: pathlib.Path | None = None
) -> Pool:
    """The pool of a split, "train" or "test".

    Args:
      data: "canvases", "several" or "cifar10".
      split: which digits, textures or photographs.
      count: number of images, before they are augmented.
      copies: augmentations of each training image of CIFAR-10.
      side: of CIFAR-10's images: 32, or 16 for the means of 2 x 2 pixels.
      folder: of CIFAR-10's train.npz and test.npz.

    Raises:
      ValueError: CIFAR-10 has fewer images.
    """
    rng = np.random.default_rng(TEST_SEED if split == "test" else TRAIN_SEED)
    if data == "cifar10":
        assert folder is not None
        pool = _cifar10(rng, folder / f"{split}.npz", count, copies if split == "train" else 0)
        return pool._replace(images=shrunk(pool.images, pool.images.shape[1] // side))
    if data == "canvases":
        drawn = [canvases.draw(rng, split) for _ in range(count)]
        return _pool([canvas.image for canvas in drawn], [(canvas.label,) for canvas in drawn], rng)
    pictures = [scenes.draw(rng, split) for _ in range(count)]
    return _pool([scene.image for scene in pictures], [tuple(set(scene.digits)) for scene in pictures], rng)


def _pool(images, classes, rng) -> Pool:
    targets = np.array([rng.choice(present) for present in classes])
    present = np.zeros((len(images), CLASSES), np.float32)
    for row, numbers in enumerate(classes):
        present[row, list(numbers)] = 1
    return Pool(np.round(255 * np.stack(images)).astype(np.uint8), targets, present)


def _cifar10(rng, file: pathlib.Path, count: int, copies: int) -> Pool:
    """The first images of each class, equally many; no copies leaves them as they are."""
    with np.load(file) as arrays:
        data, offsets, labels = arrays["data"], arrays["offsets"], arrays["labels"].astype(int)
    each = count // CLASSES
    rows = np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(CLASSES)])
    if len(rows) < each * CLASSES:
        raise ValueError(f"expected at least {each} images of each class in {file}, got {len(labels)} in all")
    images = np.stack([np.asarray(Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes()))) for i in rows])
    if copies:
        images = np.concatenate([augmented(rng, images) for _ in range(copies)])
    targets = np.tile(labels[rows], max(copies, 1))
    return Pool(images, targets, np.eye(CLASSES, dtype=np.float32)[targets])


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """The means of `factor` x `factor` pixels."""
    n, h, w, channels = images.shape
    parts = images.reshape(n, h // factor, factor, w // factor, factor, channels)
    return np.round(parts.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def augmented(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Each image shifted by up to 4 pixels, and mirrored or not.

    Example:
      >>> image = np.arange(3072, dtype=np.uint8).reshape(1, 32, 32, 3)
      >>> augmented(np.random.default_rng(0), image).shape
      (1, 32, 32, 3)
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="reflect")
    changed = np.empty_like(images)
    for i, (row, column) in enumerate(rng.integers(0, 2 * BORDER + 1, (len(images), 2))):
        changed[i] = padded[i, row : row + height, column : column + width]
    mirrored = rng.random(len(images)) < 0.5
    changed[mirrored] = changed[mirrored][:, :, ::-1]
    return changed
