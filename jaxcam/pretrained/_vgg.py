"""VGG networks with weights: those of the papers, and whichever VGG a file holds."""

import os

from flax import nnx

from jaxcam.datasets import imagenet_classes
from jaxcam.networks.vgg import DEPTHS, VGG
from jaxcam.pretrained import checkpoints, layouts
from jaxcam.pretrained._arrays import from_arrays
from jaxcam.pretrained._hub import fetch_weights

Weights = str | os.PathLike | None
WIDTHS = (64, 128, 256, 512, 512)  # the channels of each block


def vgg11(*, weights: Weights = None, **options) -> VGG:
    """VGG-11, configuration A. Weights and options are those of `vgg16`."""
    return _vgg_of_depth(11, weights, options)


def vgg13(*, weights: Weights = None, **options) -> VGG:
    """VGG-13, configuration B. Weights and options are those of `vgg16`."""
    return _vgg_of_depth(13, weights, options)


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
      >>> import jax, jaxcam
      >>> model = nnx.eval_shape(lambda: jaxcam.vgg16(activation=nnx.gelu))
      >>> sum(p.size for p in jax.tree.leaves(nnx.state(model)))
      138357544
    """
    return _vgg_of_depth(16, weights, options)


def vgg19(*, weights: Weights = None, **options) -> VGG:
    """VGG-19, configuration E. Weights and options are those of `vgg16`."""
    return _vgg_of_depth(19, weights, options)


def _vgg_of_depth(depth, weights, options) -> VGG:
    """The VGG with so many layers that have weights, drawn at random, from the Hub, or from a file."""
    if weights is None:
        blocks = [(width,) * length for width, length in zip(WIDTHS, DEPTHS[depth], strict=True)]
        return VGG(**{"blocks": blocks, "rngs": nnx.Rngs(0), **options})
    if weights == "imagenet":
        weights, options = fetch_weights(f"timm/vgg{depth}.tv_in1k"), {"class_names": imagenet_classes(), **options}
    return _load(weights, options, depth=depth)


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
    return _load(path, options, depth=None)


def _load(path, options, *, depth: int | None) -> VGG:
    """The VGG in a file, which must be of the depth, if one is given."""
    if depth is not None and not os.path.exists(path):
        raise FileNotFoundError(f"expected 'imagenet' or the path of a file for weights, got {os.fspath(path)!r}")
    arrays = checkpoints.read(path)
    try:
        weights = layouts.vgg(arrays)
        lengths = tuple(len(widths) for widths in weights.options["blocks"])
        if depth is not None and lengths != DEPTHS[depth]:
            names = {known: f"VGG-{other}: use jaxcam.vgg{other}" for other, known in DEPTHS.items()}
            other = f"a network of {sum(lengths)} convolutions: use jaxcam.pretrained.load"
            raise ValueError(f"holds {names.get(lengths, other)}")
        return from_arrays(lambda: VGG(**{**weights.options, **options, "rngs": nnx.Rngs(0)}), weights.arrays)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
