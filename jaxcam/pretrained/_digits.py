"""The embedded network, a small VGG trained on handwritten digits, and sample images for it.

>>> import jaxcam
>>> model = jaxcam.digits()
>>> image, boxes = jaxcam.pretrained.digits_canvas(0)
>>> image.shape
(64, 64, 3)
>>> int(model(image[None])[0].argmax())
1
"""

import functools
import importlib.resources
import json
from collections.abc import Callable
from importlib.resources.abc import Traversable

import jax
import numpy as np

from jaxcam.networks.vgg import VGG, vgg_digits
from jaxcam.pretrained._arrays import from_arrays

DIGITS_CLASSES = tuple("0123456789")


def digits(*, activation: Callable[[jax.Array], jax.Array] = jax.nn.relu) -> VGG:
    """The embedded default: a small VGG trained on handwritten digits among clutter, 64 x 64 images, ten classes.

    It is trained by `examples/digits/train.py`; the scores that the script printed are in
    `jaxcam/pretrained/digits/scores.json`, and what the weights were made from, with its license, in
    `jaxcam/pretrained/digits/NOTICE.md`. They were trained with relu;
    another `activation` puts the same weights into a network for the study of derivatives, and not of digits.
    """
    build = functools.partial(vgg_digits, activation=activation, class_names=DIGITS_CLASSES)
    with _embedded("digits/weights.npz").open("rb") as file, np.load(file) as arrays:
        return from_arrays(build, {name: arrays[name].astype(np.float32) for name in arrays})


def digits_canvas(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample canvas `number` of the test split, as `(image, boxes)`.

    The image is `[64 64 3]`, float32 in 0..1; the boxes of the copies are `[copies 4]`, row0, column0, row1, column1,
    the last two excluded.
    """
    from PIL import Image

    canvases = json.loads(_embedded("digits/canvases.json").read_text())
    if not 0 <= number < len(canvases):
        raise ValueError(f"canvas {number} does not exist: choose one of 0..{len(canvases) - 1}")
    with _embedded(f"digits/{canvases[number]['file']}").open("rb") as file, Image.open(file) as picture:
        image = np.asarray(picture.convert("RGB"), np.float32) / 255
    return image, np.array(canvases[number]["boxes"])


def _embedded(name: str) -> Traversable:
    """A file that ships with the package."""
    return importlib.resources.files("jaxcam.pretrained") / name
