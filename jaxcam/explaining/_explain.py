"""Explain one picture by a network that is opened, or by several.

>>> import jaxcam
>>> opened = jaxcam.open_model("digits")
>>> image, _ = jaxcam.pretrained.digits_canvas(1)
>>> print(explain(opened, image, methods=["grad_cam", "grad_cam_pp"]))
the image: class '3', probability ...
  most probable: '3' ..., ...
  layer block3_conv2, Grad-CAM, Grad-CAM++
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam.methods
from jaxcam import datasets
from jaxcam._base import checks
from jaxcam._base.types import Method
from jaxcam.cutting import Cut, class_probabilities
from jaxcam.datasets import Frame, PictureFile, fitted_region, name_of
from jaxcam.evaluation import key_of
from jaxcam.explaining._chosen import chosen_classes, fused_maps, networks_at_layers
from jaxcam.explaining._explanation import ClassProbability, Explanation
from jaxcam.explaining._explanations import Explanations
from jaxcam.methods import METHOD_TITLES, map_of
from jaxcam.opening import OpenedModel

# The height and width, in pixels, that a panel of a figure has at most; larger pictures may be reduced.
DRAWN = 360
LISTED = 5  # of the most probable classes

Picture = PictureFile | Frame | np.ndarray | jax.Array
Methods = str | Sequence[str] | Mapping[str, Method]
Class = int | str


# mypy cannot say that the third form is for the calls that the first two are not for.
@overload
def explain(  # type: ignore[overload-overlap]
    opened: OpenedModel,
    image: Picture,
    target: Class | None = None,
    key: jax.Array | None = None,
    *,
    methods: Methods = "smooth_grad_cam_pp",
    top: None = None,
    layers: None = None,
    fuse: None = None,
) -> Explanation: ...
@overload
def explain(  # type: ignore[overload-overlap]
    opened: OpenedModel,
    image: Picture,
    target: Class | None = None,
    key: jax.Array | None = None,
    *,
    methods: Methods = "smooth_grad_cam_pp",
    top: None = None,
    layers: Sequence[str],
    fuse: str,
) -> Explanation: ...
@overload
def explain(
    opened: OpenedModel | Sequence[OpenedModel],
    image: Picture,
    target: Class | Sequence[Class] | None = None,
    key: jax.Array | None = None,
    *,
    methods: Methods = "smooth_grad_cam_pp",
    top: int | None = None,
    layers: Sequence[str] | None = None,
    fuse: str | None = None,
) -> Explanations: ...
def explain(
    opened: OpenedModel | Sequence[OpenedModel],
    image: Picture,
    target: Class | Sequence[Class] | None = None,
    key: jax.Array | None = None,
    *,
    methods: Methods = "smooth_grad_cam_pp",
    top: int | None = None,
    layers: Sequence[str] | None = None,
    fuse: str | None = None,
) -> Explanation | Explanations:
    """Explains one picture: the most probable classes, and the maps of a class by one or several methods.

    Args:
      opened: what `jaxcam.open_model` returned; or several networks, to compare them.
      image: a picture file, an open binary file, a `jaxcam.datasets.Frame` of an animated picture, or RGB in 0..1,
        `[h w 3]`, of any size.
      target: the class to explain, a number or a name; a list of them; or None for the most probable one.
      key: for methods that draw noise; None for `jax.random.key(0)`.
      methods: names of methods of jaxcam, such as "grad_cam", or a dict of methods by any name, with their options
        bound by `functools.partial`.
      top: explain each of so many of the most probable classes, in the place of `target`.
      layers: the layers to explain at, in the place of the one at which the network was opened.
      fuse: "mean" or "maximum": one map of all layers, by `jaxcam.fuse`, in the place of one for each.

    Returns:
      An `Explanation` of one class at one layer, or of fused layers. `Explanations`, a sequence of them, if there are
      several networks, a list of classes, `top`, or layers that are not fused: by class, then by network or layer.
      Of several networks the first one decides which class is the most probable one, for all that have its class names;
      others explain their own.

    Raises:
      OSError: the file cannot be read.
      TypeError: `opened` is not an `OpenedModel`.
      ValueError: the file is no picture, there is no such class, method or layer, options contradict each other, it is
        not known what the network's outputs are, or a map is not finite.

    Example:
      >>> import jaxcam
      >>> opened = jaxcam.open_model("digits")
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> explanation = jaxcam.explain(opened, image, methods="grad_cam")
      >>> explanation.class_name, explanation.maps["grad_cam"].shape, explanation.on_image("grad_cam").shape
      ('3', (16, 16), (64, 64))
      >>> several = jaxcam.explain(opened, image, methods="grad_cam", top=2)
      >>> [explanation.class_name for explanation in several]
      ['3', ...]
    """
    several = explain_each(opened, image, target, key, methods=methods, top=top, layers=layers, fuse=fuse)
    has_one_place = isinstance(opened, OpenedModel) and (layers is None or fuse is not None)
    has_one_class = top is None and (target is None or isinstance(target, str) or np.ndim(target) == 0)
    return several[0] if has_one_place and has_one_class else several


def explain_each(
    opened: OpenedModel | Sequence[OpenedModel],
    image: Picture,
    target: Class | Sequence[Class] | None = None,
    key: jax.Array | None = None,
    *,
    methods: Methods = "smooth_grad_cam_pp",
    top: int | None = None,
    layers: Sequence[str] | None = None,
    fuse: str | None = None,
) -> Explanations:
    """As `explain`, with `Explanations` of one explanation, too.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> len(explain_each(jaxcam.open_model("digits"), image, methods="grad_cam"))
      1
    """
    if top is not None:
        checks.check_count("top", top, at_least=1)
        if target is not None:
            raise ValueError("top explains the most probable classes, target those that it names: give one of them")
    functions = _methods_by_name(methods)
    networks = networks_at_layers(opened, layers, fuse)
    key = jax.random.key(0) if key is None else key
    source, picture = _read(image, [network.input_size for network in networks])
    if layers is None:
        seen = [_see(network, picture) for network in networks]
    else:  # one network, whose outputs are the same wherever it is cut
        seen = [_see(networks[0], picture)] * len(networks)
    explained: list[Explanation] = []
    for numbers in chosen_classes(networks, [view.probabilities for view in seen], target, top):
        of_class = [
            Explanation(
                source=source,
                image=picture,
                fitted=view.fitted,
                region=view.region,
                layer=network.layer,
                target=number,
                class_name=network.class_names[number],
                probability=float(view.probabilities[number]),
                top=most_probable(view.probabilities, network.class_names, top or LISTED),
                maps=_maps(functions, not isinstance(methods, Mapping), network.cut, view.fitted, number, key),
                network=network.name,
                layers=(network.layer,),
            )
            for network, view, number in zip(networks, seen, numbers, strict=True)
        ]
        explained += of_class if fuse is None else [fused_maps(of_class, fuse)]
    places = 1 if fuse is not None else len(networks)
    return Explanations(tuple(explained), places, of_networks=layers is None and len(networks) > 1)


class _View(NamedTuple):
    """What a network sees of a picture, and what it says."""

    fitted: np.ndarray
    region: tuple[float, float, float, float]
    probabilities: np.ndarray


def _see(network: OpenedModel, picture: np.ndarray) -> _View:
    fit = network.preprocessing.fit
    fitted = np.asarray(datasets.load(datasets.Example(picture), network.input_size, fit=fit).image)
    region = fitted_region(picture.shape[:2], network.input_size, fit)
    return _View(fitted, region, np.asarray(probabilities_of(network.cut, fitted)))


def _maps(functions, are_named, cut, fitted, number, key):
    """The maps of several methods by their names.

    Raises:
      ValueError: a map is not finite.
    """
    # New partials of a dict would compile anew at each call, so each method keeps its own compiled programs.
    compute = _maps_of if len(functions) > 1 and are_named else inspect.unwrap(_maps_of)
    by_name = compute(tuple(functions.items()), cut, jnp.asarray(fitted), jnp.int32(number), key)
    maps = {name: np.asarray(saliency) for name, saliency in by_name.items()}
    for name, saliency in maps.items():
        if not np.isfinite(saliency).all():
            functions[name](cut, fitted, number, **key_of(functions[name], key))  # a method of jaxcam says why
            raise ValueError(f"the map is not finite: {name} is not defined for this layer")
    return maps


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
    if callable(methods) or any(map(callable, methods)):
        raise TypeError("expected names of methods, got a function: give a dict, methods={'mine': function}")
    names = [methods] if isinstance(methods, str) else list(methods)
    for name in names:
        if name not in METHOD_TITLES:
            raise ValueError(f"no method {name!r}: choose one of {', '.join(METHOD_TITLES)}")
    return {name: getattr(jaxcam.methods, name) for name in names}


def _read(image: Any, sizes: Sequence[tuple[int, int]]) -> tuple[str, np.ndarray]:
    """The name of a picture, and its pixels, enough of them for inputs of these sizes."""
    if isinstance(image, Frame) or not hasattr(image, "shape"):
        from jaxcam.datasets import images  # loads Pillow

        at_least = max(DRAWN, *(size[0] for size in sizes)), max(DRAWN, *(size[1] for size in sizes))
        name = str(image) if isinstance(image, Frame) else name_of(image)
        return name, images.read(image, at_least=at_least)
    pixels = np.asarray(image, np.float32)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(f"expected an image [h w 3] or the path of a picture, got shape {pixels.shape}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"expected RGB in 0..1, got values from {pixels.min():g} to {pixels.max():g}")
    return "the image", pixels
