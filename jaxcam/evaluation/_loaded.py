"""TODO."""

import zlib
from typing import NamedTuple

import jax
import numpy as np

from jaxcam._base import checks
from jaxcam.datasets import Example, checked

FEWEST_BOXES = 4
UNKNOWN = -1  # a label that there is none of


class Loaded(NamedTuple):
    """An example as the programs take it. What is drawn at random is drawn by its pixels, not by its place."""

    image: np.ndarray
    label: np.int32
    seed: np.uint32
    mask: np.ndarray | None
    ignore: np.ndarray | None
    boxes: np.ndarray | None


def loaded(example: Example) -> Loaded:
    """An example of arrays, as the programs take it.

    Raises:
      TypeError, ValueError: an image that is not floats `[h w c]`, or not finite; a mask of another size; boxes or a
        label of another form.
    """
    example = checked(example)
    image = np.asarray(checks.checked_image(example.image))
    mask = ignore = boxes = None
    if example.mask is not None:
        mask, ignore = np.asarray(example.mask) == 1, np.asarray(example.mask) == -1
    if example.boxes is not None:
        # Padded by boxes of no area, so that few shapes are compiled.
        boxes = np.zeros((max(FEWEST_BOXES, 1 << (len(example.boxes) - 1).bit_length()), 4), np.float32)
        boxes[: len(example.boxes)] = example.boxes
    label = np.int32(UNKNOWN if example.label is None else min(example.label, np.iinfo(np.int32).max))
    return Loaded(image, label, np.uint32(zlib.crc32(image.tobytes())), mask, ignore, boxes)


def own_key(key: jax.Array, example: Loaded) -> jax.Array:
    """The key of an image, by its pixels."""
    return jax.random.fold_in(key, example.seed)
