"""An example as the programs of an evaluation take it: arrays of few shapes, and a seed from the image's pixels."""

import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcam._base import checks
from jaxcam.datasets import Example, checked_example
from jaxcam.runtime import target_as_arrays

FEWEST_BOXES = 4
UNKNOWN = -1  # the label of an example without one


class Loaded(NamedTuple):
    """An example as the programs take it.

    Attributes:
      image: `[*spatial c]`, floats.
      label: the class, or -1 if it is not known.
      seed: a number from the image's pixels. Random numbers depend on it, and not on the image's place in the list.
      mask: `[*spatial]` bool, the object; None if it is not known.
      ignore: `[*spatial]` bool, pixels that do not count; None if there is no mask.
      boxes: `[m 2 axes]`, padded by boxes without an area; None if there are none.
      target: what is explained, as arrays and static leaves; None for the class that the evaluation explains.
    """

    image: np.ndarray
    label: np.int32
    seed: np.uint32
    mask: np.ndarray | None
    ignore: np.ndarray | None
    boxes: np.ndarray | None
    target: Any = None

    def without_places(self) -> "Loaded":
        """The example without mask and boxes, whose shapes are many."""
        return self._replace(mask=None, ignore=None, boxes=None)


def loaded(example: Example, *, channel_axis: int | None = -1) -> Loaded:
    """An example of arrays, as the programs take it.

    Args:
      example: of arrays.
      channel_axis: of its image; None for an image without channels.

    Raises:
      TypeError, ValueError: an image that is not finite floats `[*spatial c]`; a mask of another size; boxes or a label
        of another form; inputs besides the image; a target with integers that are too large.
    """
    example = checked_example(example, channel_axis=channel_axis)
    if len(example.inputs) > 0:
        raise ValueError("the example has inputs besides its image, but evaluate gives the model only the image")
    image = np.asarray(checks.checked_image(example.image))
    mask = ignore = boxes = None
    if example.mask is not None:
        mask, ignore = np.asarray(example.mask) == 1, np.asarray(example.mask) == -1
    if example.boxes is not None:
        boxes = _padded_boxes(example.boxes)
    label = np.int32(UNKNOWN if example.label is None else min(example.label, np.iinfo(np.int32).max))
    seed = np.uint32(zlib.crc32(image.tobytes()))
    return Loaded(image, label, seed, mask, ignore, boxes, target_as_arrays(example.target))


def _padded_boxes(boxes):
    """The boxes, and boxes without an area up to a power of two, so that few shapes are compiled."""
    count, sides = boxes.shape
    padded = np.zeros((max(FEWEST_BOXES, 1 << (count - 1).bit_length()), sides), np.float32)
    padded[:count] = boxes
    return padded


def own_key(key: jax.Array, example: Loaded) -> jax.Array:
    """The key of an image, by its pixels."""
    return jax.random.fold_in(key, example.seed)
