"""The network that the options name, its classes, and the class to explain."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam.cutting import class_probabilities, output_kind

# The sample canvas that is explained when no image is given.
SAMPLE = 1


class CutAndImage(NamedTuple):
    """A network, its cut at the layer of choice, and one image of the network's size."""

    model: jaxcam.VGG
    cut: jaxcam.Cut
    image: np.ndarray


def known_class_names(options: argparse.Namespace) -> tuple[str, ...] | None:
    """The names of the classes, if they are known before the network is loaded.

    Raises:
      ValueError: `--classes` without `--weights`, or a file that is not one of class names.
    """
    if options.classes is not None and options.weights is None:
        raise ValueError("--classes goes with --weights: the embedded network knows its classes")
    if options.weights is None:
        return jaxcam.pretrained.DIGITS_CLASSES
    if options.classes == "imagenet" or (options.classes is None and options.weights == "imagenet"):
        return jaxcam.pretrained.imagenet_classes()
    return None if options.classes is None else jaxcam.pretrained.class_names(options.classes)


def check_class_options(options: argparse.Namespace) -> None:
    """Checks `--classes` and `--target` before half a gigabyte of weights is downloaded."""
    names = known_class_names(options)
    if names is not None:
        find_target(options.target, names)


def build_model(options: argparse.Namespace, **model_options: Any) -> jaxcam.VGG:
    """The network, with the names of its classes if they are known.

    Raises:
      ValueError: `--classes` has not as many names as the network has classes; a file that holds no weights.
    """
    names = known_class_names(options)
    if options.weights is None:
        return jaxcam.digits(**model_options)
    if options.weights == "imagenet":
        model = jaxcam.vgg16(weights="imagenet", **model_options)
    else:
        model = jaxcam.pretrained.load(options.weights, **model_options)
    count = len(class_names(model))
    if names is not None and len(names) != count:
        raise ValueError(f"--classes {options.classes} has {len(names)} names: the network has {count} classes")
    model.class_names = names
    return model


def activation_named(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation of that name in `jax.nn`."""
    return getattr(jax.nn, name)


def class_names(model: jaxcam.VGG) -> tuple[str, ...]:
    """The names of a network's classes; their numbers as text if there are no names."""
    return model.class_names or tuple(map(str, range(getattr(model, model.layers[-1]).out_features)))


def cut_at(model: jaxcam.VGG, layer: str) -> jaxcam.Cut:
    """The cut at a layer, of the logits: a softmax or sigmoid at the end of the network is taken off, and that is said.

    The line goes to stderr, as stdout may be JSON.
    """
    cut = jaxcam.cut(model, layer)
    kind = output_kind(cut, jax.ShapeDtypeStruct(tuple(model.image_shape), jnp.float32))
    if kind not in ("probabilities", "sigmoids"):
        return cut
    activation = "softmax" if kind == "probabilities" else "sigmoid"
    print(f"jaxcam: the network ends in a {activation}: the logits in front of it are explained", file=sys.stderr)
    return jaxcam.cut(model, layer, strip_activation=True)


def recommended_layer(model: jaxcam.VGG) -> str:
    """The default layer, which `jaxcam layers` marks.

    Raises:
      ValueError: no layer has a map.
    """
    chosen = jaxcam.describe_layers(model).recommended
    if chosen is None:
        raise ValueError("no layer of the network has a map that can be recommended: give --layer")
    return chosen.name


def find_target(text: str | None, names: Sequence[str]) -> int | None:
    """The number of the class that `--target` names; None, the most probable class, if it is not given."""
    return None if text is None else jaxcam.pretrained.find_class(text, names)


def target_and_probability(cut: jaxcam.Cut, image: np.ndarray, target: int | None = None) -> tuple[int, float]:
    """The explained class and its probability; by default the most probable class.

    Raises:
      ValueError: it is not known what the network's outputs are.
    """
    probabilities = class_probabilities(cut, jnp.asarray(image))
    if probabilities is None:
        raise ValueError(
            "expected a network that returns logits or probabilities of classes, got one of unknown outputs"
        )
    target = int(probabilities.argmax()) if target is None else target
    return target, float(probabilities[target])


def input_size(model: jaxcam.VGG) -> tuple[int, int]:
    """The height and width of the images that a network takes."""
    height, width, _ = model.image_shape
    return height, width


def read_fitted(path: str, *, shape: tuple[int, int]) -> np.ndarray:
    """A picture file, resized to the network's input. A folder of `jaxcam batch` records this function by its name."""
    from jaxcam.datasets import images  # loads Pillow

    return images.fit(images.read(path, at_least=shape), shape)


def cut_and_image(options: argparse.Namespace) -> CutAndImage:
    """The network with the activation of choice, its cut, and the image or the sample canvas.

    Raises:
      ValueError: a layer without a map; `--weights` without an image; as `build_model`.
    """
    check_class_options(options)
    model = build_model(options, activation=activation_named(options.activation))
    layer = options.layer or recommended_layer(model)
    if len(jaxcam.layers(model).get(layer, (0, 0, 0))) != 3:
        raise ValueError(f"layer {layer!r} has no map: choose a convolution or a pooling")
    if options.image is not None:
        image = read_fitted(options.image, shape=input_size(model))
    elif options.weights is None:
        image, _ = jaxcam.pretrained.digits_canvas(SAMPLE)
    else:
        raise ValueError("with --weights, give an IMAGE")
    return CutAndImage(model, cut_at(model, layer), image)
