"""Trained weights: the embedded digits network, and any VGG from named arrays.

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
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcam.vgg import VGG, vgg_digits

Model = TypeVar("Model", bound=nnx.Module)

DIGITS_CLASSES = tuple("0123456789")


def digits(*, activation: Callable[[jax.Array], jax.Array] = jax.nn.relu) -> VGG:
    """The embedded default: a small VGG trained on handwritten digits among clutter, 64 x 64 images, ten classes.

    It is trained by `examples/digits/train.py`; the scores that the script printed are in `jaxcam/digits/scores.json`,
    and what the weights were made from, with its licence, in `jaxcam/digits/NOTICE.md`. They were trained with relu;
    another `activation` puts the same weights into a network for the study of derivatives, and not of digits.
    """
    build = functools.partial(vgg_digits, activation=activation)
    with _embedded("weights.npz").open("rb") as file, np.load(file) as arrays:
        return from_arrays(build, {name: arrays[name].astype(np.float32) for name in arrays})


def digits_canvas(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample canvas `number` of the test split, as `(image, boxes)`.

    The image is `[64 64 3]`, float32 in 0..1; the boxes of the copies are `[copies 4]`, row0, column0, row1, column1,
    the last two excluded.
    """
    from PIL import Image

    canvases = json.loads(_embedded("canvases.json").read_text())
    if not 0 <= number < len(canvases):
        raise ValueError(f"canvas {number} does not exist: choose one of 0..{len(canvases) - 1}")
    with _embedded(canvases[number]["file"]).open("rb") as file, Image.open(file) as picture:
        image = np.asarray(picture.convert("RGB"), np.float32) / 255
    return image, np.array(canvases[number]["boxes"])


def from_arrays(build: Callable[[], Model], arrays: Mapping[str, np.ndarray]) -> Model:
    """The model that `build()` describes, with `arrays` for its parameters; nothing is initialised first.

    Args:
      build: a function without arguments that returns an `nnx.Module`, `jaxcam.vgg16` say; it is only traced.
      arrays: one for each parameter, named by its path: `block1_conv1/kernel`, `fc1/bias`. Kernels are `[3 3 in out]`
        for convolutions and `[in out]` for dense layers.

    Raises:
      ValueError: an array that is missing, not known, of another shape, or with values that are not finite.

    Example:
      >>> import functools, jaxcam, numpy
      >>> build = functools.partial(jaxcam.vgg_digits, classes=2)
      >>> arrays = jaxcam.pretrained.to_arrays(build())
      >>> model = jaxcam.pretrained.from_arrays(build, arrays)
      >>> arrays["fc1/bias"] = numpy.zeros(3)
      >>> jaxcam.pretrained.from_arrays(build, arrays)
      Traceback (most recent call last):
        ...
      ValueError: fc1/bias has shape (3,): this model wants (128,)
    """
    graphdef, state = nnx.split(nnx.eval_shape(build))
    leaves, treedef = jax.tree.flatten_with_path(state)
    wanted = {_name(path): leaf for path, leaf in leaves}
    for problem, names in (("missing", set(wanted) - set(arrays)), ("not in this model", set(arrays) - set(wanted))):
        if names:
            raise ValueError(f"parameters {problem}: {', '.join(sorted(names))}; it wants {', '.join(wanted)}")
    for name, leaf in wanted.items():
        if arrays[name].shape != leaf.shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}: this model wants {leaf.shape}")
        if not np.isfinite(np.asarray(arrays[name]).astype(leaf.dtype)).all():
            raise ValueError(f"{name} has values that are not finite")
    values = [jnp.asarray(arrays[name], leaf.dtype) for name, leaf in wanted.items()]
    return nnx.merge(graphdef, jax.tree.unflatten(treedef, values))


def to_arrays(model: nnx.Module) -> dict[str, np.ndarray]:
    """The parameters of a model by their paths: what `from_arrays` takes and `numpy.savez` writes."""
    leaves, _ = jax.tree.flatten_with_path(nnx.state(model))
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _name(path) -> str:
    return "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))


def _embedded(name: str):
    return importlib.resources.files("jaxcam") / "digits" / name
