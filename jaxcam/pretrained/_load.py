"""Trained weights: the embedded digits network, a VGG from a file of anyone's, and any model from named arrays.

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
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcam.datasets import imagenet_classes
from jaxcam.networks.vgg import DEPTHS, VGG, vgg_digits
from jaxcam.pretrained import checkpoints, layouts

Model = TypeVar("Model", bound=nnx.Module)
Weights = str | os.PathLike | None
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


def vgg11(*, weights: Weights = None, **options) -> VGG:
    """VGG-11, configuration A. Weights and options are those of `vgg16`."""
    return _vgg(11, weights, options)


def vgg13(*, weights: Weights = None, **options) -> VGG:
    """VGG-13, configuration B. Weights and options are those of `vgg16`."""
    return _vgg(13, weights, options)


def vgg16(*, weights: Weights = None, **options) -> VGG:
    """VGG-16, configuration D: 13 convolutions, 3 fully connected layers, 138,357,544 parameters.

    Args:
      weights: None draws them at random. A path takes those in that file, as `load` does. "imagenet" takes
        torchvision's, trained on ImageNet, from timm's copy at the Hugging Face Hub: about half a gigabyte that is
        fetched once and then lies in the Hub's usual cache.
      **options: any of `VGG`'s: `activation`, `classes`, `dense`, `top`, `image_shape`, `preprocess`, `class_names`,
        and `rngs` (`nnx.Rngs(0)` where absent). With `weights` the file decides what is not given.

    Raises:
      OSError: the file cannot be read; or the weights cannot be fetched, and are not in the cache.
      ValueError: what `load` raises, or the file's network has another depth.

    Example:
      >>> from flax import nnx
      >>> import jaxcam
      >>> model = nnx.eval_shape(lambda: jaxcam.vgg16(activation=nnx.gelu))
      >>> sum(p.size for p in jax.tree.leaves(nnx.state(model)))
      138357544
    """
    return _vgg(16, weights, options)


def vgg19(*, weights: Weights = None, **options) -> VGG:
    """VGG-19, configuration E. Weights and options are those of `vgg16`."""
    return _vgg(19, weights, options)


def _vgg(depth, weights, options) -> VGG:
    if weights is None:
        blocks = [(width,) * n for width, n in zip((64, 128, 256, 512, 512), DEPTHS[depth], strict=True)]
        return VGG(**{"blocks": blocks, "rngs": nnx.Rngs(0), **options})
    if weights == "imagenet":
        weights, options = _fetch(f"timm/vgg{depth}.tv_in1k"), {"class_names": imagenet_classes(), **options}
    return _load(weights, options, depth)


def _fetch(repository):
    """The path of a repository's weights in the Hub's cache, where they are put if need be."""
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
    if isinstance(cached, str):
        return cached
    try:
        return huggingface_hub.hf_hub_download(repository, "model.safetensors")
    except Exception as error:  # of the Hub's client, or of whichever HTTP library it uses: three in its last versions
        reason = " ".join(str(error).split())
        raise OSError(
            f"the weights {repository} are not in the Hugging Face cache and cannot be fetched: give a file instead "
            f"of 'imagenet' ({type(error).__name__}: {reason:.100})"
        ) from error


def load(path: str | os.PathLike, **options) -> VGG:
    """The VGG whose weights are in a file: any of `checkpoints.read`'s formats, in any of `layouts.vgg`'s layouts.

    The network, and the `preprocess` that its weights expect, are found from the file. jaxcam's own layout, which
    `to_arrays` returns and `numpy.savez` writes, says nothing of preprocessing: give it.

    Args:
      path: the file.
      **options: any of `VGG`'s, instead of what the file says: `activation`, `preprocess`, `class_names`, or the
        `image_shape` of a network for images that are not square. `rngs` is not needed: nothing is drawn.

    Returns:
      The model with all parameters from the file, or none: a file that is not whole is an error.

    Raises:
      OSError: the file cannot be read.
      ValueError: in one line that begins with the path, what is wrong with the file or does not fit the options.

    Example:
      >>> import pathlib, tempfile
      >>> import jaxcam, numpy
      >>> model = jaxcam.digits()
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "digits.npz"
      ...     numpy.savez(path, **jaxcam.pretrained.to_arrays(model))
      ...     again = jaxcam.pretrained.load(path)
      >>> again.layers == model.layers, again.image_shape
      (True, (64, 64, 3))
    """
    return _load(path, options, None)


def _load(path, options, depth):
    arrays = checkpoints.read(path)
    try:
        found = layouts.vgg(arrays)
        lengths = tuple(len(widths) for widths in found.options["blocks"])
        if depth is not None and lengths != DEPTHS[depth]:
            names = {known: f"VGG-{other}: use jaxcam.vgg{other}" for other, known in DEPTHS.items()}
            other = f"a network of {sum(lengths)} convolutions: use jaxcam.pretrained.load"
            raise ValueError(f"holds {names.get(lengths, other)}")
        return from_arrays(lambda: VGG(**{**found.options, **options, "rngs": nnx.Rngs(0)}), found.arrays)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


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
        if not np.isfinite(np.asarray(arrays[name]).astype(leaf.dtype, copy=False)).all():
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
    return importlib.resources.files("jaxcam.pretrained") / name
