"""Networks whose weights come in timm's layout, from the Hugging Face Hub or from a file.

The networks have timm's names, so a parameter's path says its name in the file: `layer4/2/conv1/kernel` is
`layer4.2.conv1.weight`.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxcam.datasets import imagenet_classes
from jaxcam.networks import ConvNeXt, EfficientNet, MobileNetV2, ResNet, ViT
from jaxcam.pretrained import checkpoints
from jaxcam.pretrained._arrays import parameters_by_name, with_arrays
from jaxcam.pretrained._hub import fetch_weights

Weights = str | os.PathLike | None

# The last part of a parameter's path, and of its name in the file; others are equal.
PARTS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
MOST_NAMES_IN_A_MESSAGE = 3


class Architecture(NamedTuple):
    """A network that timm has.

    Attributes:
      title: what messages call it.
      repository: where the Hub has weights that were trained, or fine-tuned, on ImageNet.
      classifier: the name of the last layer.
      build: makes the network with random weights.
    """

    title: str
    repository: str
    classifier: str
    build: Callable[..., Any]


def _resnet(number: int, block: str, depths: tuple[int, ...]) -> Architecture:
    build = functools.partial(ResNet, block=block, depths=depths)
    return Architecture(f"ResNet-{number}", f"timm/resnet{number}.tv_in1k", "fc", build)


RESNET_18 = _resnet(18, "basic", (2, 2, 2, 2))
RESNET_34 = _resnet(34, "basic", (3, 4, 6, 3))
RESNET_50 = _resnet(50, "bottleneck", (3, 4, 6, 3))
MOBILENET_V2 = Architecture("MobileNetV2", "timm/mobilenetv2_100.ra_in1k", "classifier", MobileNetV2)
EFFICIENTNET_B0 = Architecture("EfficientNet-B0", "timm/efficientnet_b0.ra_in1k", "classifier", EfficientNet)
CONVNEXT_TINY = Architecture("ConvNeXt-T", "timm/convnext_tiny.fb_in1k", "head/fc", ConvNeXt)
VIT_SMALL_PATCH16 = Architecture("ViT-S/16", "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", "head", ViT)


def resnet18(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-18: 11,689,512 parameters; `layer4` is the last layer with a map, `[7 7 512]`.

    Arguments and errors are those of `resnet50`; "imagenet" takes the Hub's `timm/resnet18.tv_in1k`.
    """
    return _network(RESNET_18, weights, options)


def resnet34(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-34: 21,797,672 parameters; `layer4` is the last layer with a map, `[7 7 512]`.

    Arguments and errors are those of `resnet50`; "imagenet" takes the Hub's `timm/resnet34.tv_in1k`.
    """
    return _network(RESNET_34, weights, options)


def resnet50(*, weights: Weights = None, **options: Any) -> ResNet:
    """ResNet-50: 25,557,032 parameters; `layer4` is the last layer with a map, `[7 7 2048]`.

    Args:
      weights: None draws them at random. A path takes those in that file, in timm's layout, which is torchvision's for
        a ResNet, or in jaxcam's own (`jaxcam.pretrained.to_arrays`); any of the formats of `checkpoints.read`.
        "imagenet" takes those of `timm/resnet50.tv_in1k` at the Hugging Face Hub, torchvision's, which are fetched once
        and then lie in the Hub's usual cache.
      **options: those of `jaxcam.networks.ResNet`: `classes`, `image_shape`, `preprocess`, `class_names`, `rngs`
        (`nnx.Rngs(0)` by default). With weights, `classes` follows from the file. A file does not say how its images
        were normalized: give `preprocess` if that differs from the default.

    Returns:
      The network in eval mode.

    Raises:
      OSError: the file cannot be read; or the weights cannot be fetched, and are not in the cache.
      ValueError: the file has not the parameters of this network.

    Example:
      >>> import jax, jaxcam
      >>> model = nnx.eval_shape(lambda: jaxcam.resnet50())
      >>> sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
      25557032
      >>> jaxcam.resnet50(weights="nowhere.safetensors")
      Traceback (most recent call last):
        ...
      FileNotFoundError: expected 'imagenet' or the path of a file for weights, got 'nowhere.safetensors'
    """
    return _network(RESNET_50, weights, options)


def mobilenet_v2(*, weights: Weights = None, **options: Any) -> MobileNetV2:
    """MobileNetV2: 3,504,872 parameters; `bn2` is the last layer with a map, `[7 7 1280]`, after its ReLU6.

    Arguments and errors are those of `resnet50`, options those of `jaxcam.networks.MobileNetV2`; "imagenet" takes the
    Hub's `timm/mobilenetv2_100.ra_in1k`.
    """
    return _network(MOBILENET_V2, weights, options)


def efficientnet_b0(*, weights: Weights = None, **options: Any) -> EfficientNet:
    """EfficientNet-B0: 5,288,548 parameters; `bn2` is the last layer with a map, `[7 7 1280]`, after its swish.

    Arguments and errors are those of `resnet50`, options those of `jaxcam.networks.EfficientNet`; "imagenet" takes the
    Hub's `timm/efficientnet_b0.ra_in1k`. Files of `tf_efficientnet_b0` have the same names, but another padding and
    another epsilon: they are not this network's, and cannot be told apart.
    """
    return _network(EFFICIENTNET_B0, weights, options)


def convnext_tiny(*, weights: Weights = None, **options: Any) -> ConvNeXt:
    """ConvNeXt-T: 28,589,128 parameters; `stages/3` is the last layer with a map, `[7 7 768]`.

    Arguments and errors are those of `resnet50`, options those of `jaxcam.networks.ConvNeXt`; "imagenet" takes the
    Hub's `timm/convnext_tiny.fb_in1k`.
    """
    return _network(CONVNEXT_TINY, weights, options)


def vit_small_patch16(*, weights: Weights = None, **options: Any) -> ViT:
    """ViT-S/16: 22,050,664 parameters; `blocks/10` is the last layer with a map, of 1 + 14 * 14 tokens `[197 384]`.

    Arguments and errors are those of `resnet50`, options those of `jaxcam.networks.ViT`; "imagenet" takes the Hub's
    `timm/vit_small_patch16_224.augreg_in21k_ft_in1k`. With weights, `image_shape` must be that of the file's position
    embeddings. A cut at a block leaves the class token out and has the other tokens in their grid, `[14 14 384]`.
    `preprocess=jaxcam.vgg.torchvision` normalizes as the weights of DeiT-S and DINO expect.
    """
    return _network(VIT_SMALL_PATCH16, weights, options)


def _network(architecture: Architecture, weights: Weights, options: dict[str, Any]) -> Any:
    """The network, with weights that are drawn at random, from the Hub, or from a file."""
    if weights is None:
        return architecture.build(**{"rngs": nnx.Rngs(0), **options})
    if weights == "imagenet":
        weights = fetch_weights(architecture.repository)
        options = {"class_names": imagenet_classes(), **options}
    elif not os.path.exists(weights):
        raise FileNotFoundError(f"expected 'imagenet' or the path of a file for weights, got {os.fspath(weights)!r}")
    arrays = checkpoints.read(weights)
    try:
        biases = (f"{architecture.classifier}/bias", _timm_name(f"{architecture.classifier}/bias"))
        classes = [len(arrays[name]) for name in biases if name in arrays and arrays[name].ndim == 1]
        options = {**({"classes": classes[0]} if classes else {}), **options}
        # Zeros, which are replaced, are traced much faster than random draws.
        zeros = {**options, "kernel_init": nnx.initializers.zeros_init()}
        model = nnx.eval_shape(lambda: architecture.build(**{**zeros, "rngs": nnx.Rngs(0)}))
        return with_arrays(model, _in_jaxcam_names(arrays, model, architecture.title))
    except ValueError as error:
        raise ValueError(f"{os.fspath(weights)}: {error}") from error


def _in_jaxcam_names(arrays: Mapping[str, np.ndarray], model: nnx.Module, title: str) -> Mapping[str, np.ndarray]:
    """The arrays under jaxcam's names and in its shapes; arrays in jaxcam's own layout as they are.

    Raises:
      ValueError: there is not one array for each parameter of the model.
    """
    parameters = parameters_by_name(model)
    if all(name in parameters for name in arrays):
        return arrays
    arrays = {name: array for name, array in arrays.items() if not name.endswith(".num_batches_tracked")}
    names = {_timm_name(name): name for name in parameters}
    for problem, strange in (("has", arrays.keys() - names.keys()), ("lacks", names.keys() - arrays.keys())):
        if strange:
            shown = sorted(strange)[:MOST_NAMES_IN_A_MESSAGE]
            rest = f" and {len(strange) - len(shown)} more" if len(strange) > len(shown) else ""
            raise ValueError(f"not a {title} in timm's layout: it {problem} {', '.join(shown)}{rest}")
    return {name: _as_flax(name, arrays[file_name]) for file_name, name in names.items()}


def _timm_name(name: str) -> str:
    """A parameter's name in timm's layout."""
    *modules, part = name.split("/")
    return ".".join((*modules, PARTS.get(part, part)))


def _as_flax(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel with its outputs last, convolutions' as `[h w in out]`; other parameters as they are."""
    if not name.endswith("/kernel"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
