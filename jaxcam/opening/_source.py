"""Where a network comes from: one of jaxcam's own, a Keras application, a file, a function's name, or an object.

A text is checked before anything is built or downloaded.

>>> model_source("digits").class_names
('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
>>> model_source("resnet")
Traceback (most recent call last):
  ...
ValueError: no network 'resnet': choose one of efficientnet_lite0, ..., or give keras:NAME, a .keras or .h5 file, or ...
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxcam import pretrained
from jaxcam.datasets import imagenet_classes
from jaxcam.opening._keras import application, check_application, saved_model, takes_bytes
from jaxcam.opening._keras_files import SUFFIXES
from jaxcam.opening._named_functions import called, is_name
from jaxcam.opening._preprocessing import Values, in_bytes, unchanged

# Networks of timm's, whose activations are their own.
WITH_THEIR_ACTIVATION: dict[str, Callable[..., Any]] = {
    "resnet18": pretrained.resnet18,
    "resnet34": pretrained.resnet34,
    "resnet50": pretrained.resnet50,
    "mobilenet_v2": pretrained.mobilenet_v2,
    "efficientnet_b0": pretrained.efficientnet_b0,
    "convnext_tiny": pretrained.convnext_tiny,
    "vit_small_patch16": pretrained.vit_small_patch16,
}
# jaxcam's own networks by their names; "vgg" is whichever VGG a file of weights holds.
NETWORKS: dict[str, Callable[..., Any]] = {
    "efficientnet_lite0": pretrained.efficientnet_lite0,
    "efficientnet_lite1": pretrained.efficientnet_lite1,
    "efficientnet_lite2": pretrained.efficientnet_lite2,
    "vgg11": pretrained.vgg11,
    "vgg13": pretrained.vgg13,
    "vgg16": pretrained.vgg16,
    "vgg19": pretrained.vgg19,
    "vgg": pretrained.load,
    **WITH_THEIR_ACTIVATION,
    "digits": pretrained.digits,
}
FORMS = "keras:NAME, a .keras or .h5 file, or package.module:function"
KERAS = "keras:"
OF_WEIGHTS = (".pth", ".pt", ".safetensors", ".npz", ".bin", ".ckpt")


class FoundModel(NamedTuple):
    """A model, and what it says about itself.

    Attributes:
      model: what `jaxcam.cut` takes, or a `Cut`.
      image_shape: of one image as the model takes it, with None for a size that it leaves open; None if the model does
        not say it.
      class_names: in the order of the outputs; None if they are not known.
      values: from RGB in 0..1 to the model's values, with its name; None if the model does not say it.
    """

    model: Any
    image_shape: tuple[int | None, ...] | None = None
    class_names: tuple[str, ...] | None = None
    values: tuple[str, Values] | None = None


class ModelSource(NamedTuple):
    """A network that is not built yet.

    Attributes:
      name: what the user called it.
      build: builds it.
      class_names: if they are known before it is built.
    """

    name: str
    build: Callable[[], FoundModel]
    class_names: tuple[str, ...] | None = None


def model_source(
    model: Any,
    *,
    weights: str | os.PathLike | None = None,
    activation: Callable[[jax.Array], jax.Array] | None = None,
) -> ModelSource:
    """The source of a network.

    Args:
      model: a name of `NETWORKS`, "keras:NAME", "keras:NAME:weights=none", a `.keras` or `.h5` file,
        "package.module:function", or a model, a `(linen_module, variables)` pair or a `Cut`.
      weights: a file, "imagenet" or "none", of jaxcam's own networks and of Keras's applications.
      activation: replaces the activation of jaxcam's own networks.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a text of no known form, no such Keras application, or an option that does not go with the network.
    """
    if not isinstance(model, str | os.PathLike):
        source = ModelSource(type(model).__name__, functools.partial(_described, model))
    else:
        text = os.fspath(model)
        if activation is not None and (text not in NETWORKS or text in WITH_THEIR_ACTIVATION):
            able = ", ".join(name for name in NETWORKS if name not in WITH_THEIR_ACTIVATION)
            raise ValueError(f"{text} takes no other activation: it is an option of {able}")
        if text in NETWORKS:
            return _own_network(text, weights, activation)
        if text.startswith(KERAS):
            return _keras_application(text, weights)
        source = _of_text(text)
    for option, value in (("weights", weights), ("activation", activation)):
        if value is not None:
            raise ValueError(f"{source.name} takes no {option}: it brings its own")
    return source


def _of_text(text: str) -> ModelSource:
    """A file, or a function by its name."""
    suffix = pathlib.PurePath(text).suffix.lower()
    if suffix in SUFFIXES:
        if not os.path.exists(text):
            raise FileNotFoundError(2, "No such file or directory", text)
        return ModelSource(text, functools.partial(_saved, text))
    if is_name(text):
        return ModelSource(text, lambda: _described(called(text)))
    if suffix in OF_WEIGHTS:
        raise ValueError(
            f"{text} has weights without a network: give the network, such as vgg16, and the file as weights"
        )
    if os.path.exists(text):
        raise ValueError(f"{text} is no model: expected {FORMS}")
    raise ValueError(f"no network {text!r}: choose one of {', '.join(NETWORKS)}, or give {FORMS}")


def _own_network(name: str, weights: str | os.PathLike | None, activation: Any) -> ModelSource:
    options = {} if activation is None else {"activation": activation}
    build = functools.partial(NETWORKS[name], **options)
    names: tuple[str, ...] | None = pretrained.DIGITS_CLASSES
    if name == "digits":
        if weights is not None:
            raise ValueError("digits brings its own weights: give vgg and the file for those of another network")
    elif name == "vgg":
        if weights is None or weights in ("imagenet", "none"):
            raise ValueError("vgg is the network that a file holds: give the file as weights, or name vgg16")
        build, names = functools.partial(build, weights), None
    else:
        weights = "imagenet" if weights is None else weights
        names = imagenet_classes() if weights == "imagenet" else None
        build = functools.partial(build, weights=None if weights == "none" else weights)
    return ModelSource(name, lambda: _described(build()), names)


def _keras_application(text: str, weights: str | os.PathLike | None) -> ModelSource:
    """`keras:NAME`, or `keras:NAME:weights=...`."""
    name, _, option = text.removeprefix(KERAS).partition(":")
    if option:
        key, _, value = option.partition("=")
        if key != "weights" or not value:
            raise ValueError(f"{text}: no option {option!r}: expected weights=imagenet, weights=none or weights=FILE")
        if weights is not None:
            raise ValueError(f"{text} has weights already: leave out the other weights")
        weights = value
    weights = "imagenet" if weights is None else os.fspath(weights)
    check_application(name)

    def build() -> FoundModel:
        model, preprocess = application(name, None if weights == "none" else weights)
        names = imagenet_classes()
        return _described(model)._replace(class_names=names, values=(f"{KERAS}{name}", preprocess))

    return ModelSource(text, build, imagenet_classes())


def _saved(path: str) -> FoundModel:
    found = _described(saved_model(path))
    return found._replace(values=("0..255", in_bytes)) if takes_bytes(found.model) else found


def _described(model: Any) -> FoundModel:
    """A model with what its attributes say."""
    shape = getattr(model, "image_shape", None)
    if shape is None:
        whole = getattr(model, "input_shape", None)  # Keras's, with the batch axis
        shape = whole[1:] if isinstance(whole, tuple) and len(whole) in (3, 4) else None
    names = getattr(model, "class_names", None)
    is_own = type(model).__module__.startswith("jaxcam.networks.")
    return FoundModel(
        model,
        None if shape is None else tuple(shape),
        None if names is None else tuple(names),
        ("0..1", unchanged) if is_own else None,
    )
