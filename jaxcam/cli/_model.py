"""The network that the options name, opened, and the class and the image to explain."""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxcam
from jaxcam.opening import ModelSource, OpenedModel, model_source, read_class_names

# The sample canvas that is explained when no image is given.
SAMPLE = 1
# Of `jaxcam.open_model`; the command line's options have the same names.
OPEN_OPTIONS = (
    "layer", "classes", "preprocess", "fit", "input_size", "output", "after", "grid", "prefix", "channel_axis",
    "image_channel_axis",
)  # fmt: skip


class OpenedAndImage(NamedTuple):
    """A network, and one image as its cut takes it."""

    opened: OpenedModel
    image: np.ndarray


def source_of(options: argparse.Namespace) -> ModelSource:
    """The network that `--model` and `--weights` name, which is not built yet.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no such network.
    """
    name = options.model
    if name is None and options.weights is None:
        name = options.default_model
    elif name is None:
        name = "vgg16" if options.weights == "imagenet" else "vgg"
    activation = getattr(options, "activation", None)
    return model_source(
        name, weights=options.weights, activation=None if activation is None else getattr(jax.nn, activation)
    )


def known_class_names(source: ModelSource, options: argparse.Namespace) -> tuple[str, ...] | None:
    """The names of the classes, if they are known before the network is built.

    Raises:
      OSError, ValueError: `--classes` is no file of class names.
    """
    return read_class_names(options.classes) or source.class_names


def open_model(options: argparse.Namespace) -> OpenedModel:
    """The network, opened. What it ends in, and a preprocessing that nobody gave, are said on stderr.

    `--target` is checked before anything is built: half a gigabyte of weights may have to be downloaded.

    Raises:
      OSError, TypeError, ValueError: as `jaxcam.open_model` and `find_target`.
    """
    source = source_of(options)
    names = known_class_names(source, options)
    if names is not None:
        find_target(getattr(options, "target", None), names)
    opened = jaxcam.open_model(source, **open_options(options))
    if opened.last_activation is not None:
        _say(f"the network ends in a {opened.last_activation}: the logits in front of it are explained")
    if "weights=none" in opened.name or options.weights == "none":
        _say("the weights are random: classes and maps show that the command works, and no more")
    if opened.preprocessing.assumed:
        _say(f"{opened.name} gets RGB in {opened.preprocessing.values}: --preprocess changes that")
    return opened


def open_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `jaxcam.open_model` that say how a network is opened."""
    return {name: getattr(options, name) for name in OPEN_OPTIONS}


def _say(message: str) -> None:
    """Print a line on stderr, as stdout may be JSON."""
    print(f"jaxcam: {message}", file=sys.stderr)


def find_target(text: str | None, names: Sequence[str]) -> int | None:
    """The number of the class that `--target` names; None, the most probable class, if it is not given."""
    return None if text is None else jaxcam.pretrained.find_class(text, names)


def sample_picture(source: ModelSource) -> pathlib.Path | np.ndarray:
    """What is explained without an image: a photograph for networks of ImageNet's classes, a canvas for digits.

    Raises:
      ValueError: a network of other classes.
    """
    if source.name == "digits":
        return jaxcam.pretrained.digits_canvas(SAMPLE)[0]
    if source.class_names != jaxcam.pretrained.imagenet_classes():
        raise ValueError("the samples do not show the classes of this network: give an IMAGE")
    return jaxcam.datasets.sample_photograph()


def opened_and_image(options: argparse.Namespace) -> OpenedAndImage:
    """The network and the image, or a sample.

    Raises:
      ValueError: as `sample_picture` and `open_model`.
    """
    picture = sample_picture(source_of(options)) if options.image is None else options.image
    opened = open_model(options)
    return OpenedAndImage(opened, picture if isinstance(picture, np.ndarray) else opened.read(picture))
