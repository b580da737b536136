"""Explain one picture by a network that is opened.

>>> import jaxcam
>>> opened = jaxcam.open_model("digits")
>>> image, _ = jaxcam.pretrained.digits_canvas(1)
>>> print(explain(opened, image, methods=["grad_cam", "grad_cam_pp"], top=2))
the image: class '3', probability ...
  most probable: '3' ..., ...
  layer block3_conv2, Grad-CAM, Grad-CAM++
"""

import functools
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam.methods
from jaxcam import datasets
from jaxcam._base import checks
from jaxcam._base.types import Method
from jaxcam.cutting import Cut, class_probabilities
from jaxcam.datasets import find_class, fitted_region
from jaxcam.evaluation import key_of
from jaxcam.explaining._explanation import ClassProbability, Explanation
from jaxcam.methods import METHOD_TITLES, map_of
from jaxcam.opening import OpenedModel

# The height and width, in pixels, that a panel of a figure has at most; larger pictures may be reduced.
DRAWN = 360


def explain(
    opened: OpenedModel,
    image: str | os.PathLike | np.ndarray | jax.Array,
    target: int | str | None = None,
    key: jax.Array | None = None,
    *,
    methods: str | Sequence[str] | Mapping[str, Method] = "smooth_grad_cam_pp",
    top: int = 5,
) -> Explanation:
    """Explains one picture: the most probable classes, and the maps of a class by one or several methods.

    Args:
      opened: what `jaxcam.open_model` returned.
      image: a picture file, or RGB in 0..1, `[h w 3]`, of any size.
      target: the class to explain, a number or a name; None for the most probable one.
      key: for methods that draw noise; None for `jax.random.key(0)`.
      methods: names of methods of jaxcam, such as "grad_cam", or a dict of methods by any name, with their options
        bound by `functools.partial`.
      top: how many of the most probable classes to list.

    Returns:
      An `Explanation`.

    Raises:
      OSError: the file cannot be read.
      TypeError: `opened` is not an `OpenedModel`.
      ValueError: the file is no picture, there is no such class or method, it is not known what the network's outputs
        are, or a map is not finite.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> explanation = jaxcam.explain(jaxcam.open_model("digits"), image, methods="grad_cam")
      >>> explanation.class_name, explanation.maps["grad_cam"].shape, explanation.on_image("grad_cam").shape
      ('3', (16, 16), (64, 64))
    """
    if not isinstance(opened, OpenedModel):
        raise TypeError(f"expected a network of jaxcam.open_model, got {type(opened).__name__}: open it first")
    checks.check_count("top", top, at_least=1)
    functions = _methods_by_name(methods)
    number = find_class(target, opened.class_names) if isinstance(target, str) else target
    if number is not None and not 0 <= number < len(opened.class_names):
        raise ValueError(f"no class {number}: there are {len(opened.class_names)}, from 0")
    key = jax.random.key(0) if key is None else key
    source, picture = _read(image, opened.input_size)
    fit = opened.preprocessing.fit
    fitted = np.asarray(datasets.load(datasets.Example(picture), opened.input_size, fit=fit).image)
    probabilities = np.asarray(probabilities_of(opened.cut, fitted))
    number = int(probabilities.argmax()) if number is None else int(number)
    # New partials of a dict would compile anew at each call, so each method keeps its own compiled programs.
    compute = _maps_of if len(functions) > 1 and not isinstance(methods, Mapping) else inspect.unwrap(_maps_of)
    by_name = compute(tuple(functions.items()), opened.cut, jnp.asarray(fitted), jnp.int32(number), key)
    maps = {name: np.asarray(saliency) for name, saliency in by_name.items()}
    for name, saliency in maps.items():
        if not np.isfinite(saliency).all():
            functions[name](opened.cut, fitted, number, **key_of(functions[name], key))  # a method of jaxcam says why
            raise ValueError(f"the map is not finite: {name} is not defined for this layer")
    return Explanation(
        source=source,
        image=picture,
        fitted=fitted,
        region=fitted_region(picture.shape[:2], opened.input_size, fit),
        layer=opened.layer,
        target=number,
        class_name=opened.class_names[number],
        probability=float(probabilities[number]),
        top=most_probable(probabilities, opened.class_names, top),
        maps=maps,
    )


def most_probable(probabilities: np.ndarray, class_names: Sequence[str], count: int) -> tuple[ClassProbability, ...]:
    """The most probable classes, the most probable one first.

    Example:
      >>> most_probable(np.array([0.2, 0.5, 0.3]), ("cat", "dog", "fox"), 2)[0]
      ClassProbability(number=1, name='dog', probability=0.5)
    """
    order = np.argsort(-np.asarray(probabilities), kind="stable")[:count]
    return tuple(ClassProbability(int(i), class_names[i], float(probabilities[i])) for i in order)


# One program, which computes what the methods share once and takes less time to compile than one for each.
@functools.partial(jax.jit, static_argnums=0)
def _maps_of(
    functions: tuple[tuple[str, Method], ...], cut: Cut, image: jax.Array, target: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """The maps of several methods by their names."""
    return {name: map_of(f(cut, image, target, **key_of(f, key))) for name, f in functions}


_jitted_probabilities = jax.jit(class_probabilities)


def probabilities_of(cut: Cut, image: Any) -> jax.Array:
    """The probabilities of all classes.

    Raises:
      ValueError: it is not known what the network's outputs are.
    """
    probabilities = _jitted_probabilities(cut, jnp.asarray(image))
    if probabilities is None:
        raise ValueError(
            "expected a network that returns logits or probabilities of classes, got one of unknown outputs"
        )
    return probabilities


def _methods_by_name(methods: str | Sequence[str] | Mapping[str, Method]) -> dict[str, Method]:
    if not methods:
        raise ValueError(f"no methods: choose some of {', '.join(METHOD_TITLES)}")
    if isinstance(methods, Mapping):
        return dict(methods)
    names = [methods] if isinstance(methods, str) else list(methods)
    for name in names:
        if name not in METHOD_TITLES:
            raise ValueError(f"no method {name!r}: choose one of {', '.join(METHOD_TITLES)}")
    return {name: getattr(jaxcam.methods, name) for name in names}


def _read(image: Any, size: tuple[int, int]) -> tuple[str, np.ndarray]:
    """The name of a picture, and its pixels."""
    if isinstance(image, str | os.PathLike):
        from jaxcam.datasets import images  # loads Pillow

        at_least = max(DRAWN, size[0]), max(DRAWN, size[1])
        return os.fspath(image), images.read(image, at_least=at_least)
    pixels = np.asarray(image, np.float32)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(f"expected an image [h w 3] or the path of a picture, got shape {pixels.shape}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"expected RGB in 0..1, got values from {pixels.min():g} to {pixels.max():g}")
    return "the image", pixels
