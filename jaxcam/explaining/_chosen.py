"""What is explained: the networks at their layers, and the classes of each."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcam.datasets import find_class
from jaxcam.explaining._explanation import Explanation
from jaxcam.formulas import maps as map_functions
from jaxcam.opening import OpenedModel


def networks_at_layers(opened: Any, layers: Sequence[str] | None, fuse: str | None) -> list[OpenedModel]:
    """The networks that explain: as they are opened, or one network at several layers.

    Raises:
      TypeError: one of them is not an `OpenedModel`.
      ValueError: no network, no layers or a layer twice, layers of several networks, a fusion of one layer, or no such
        layer or fusion.
    """
    networks = list(opened) if isinstance(opened, list | tuple) else [opened]
    for network in networks:
        if not isinstance(network, OpenedModel):
            raise TypeError(f"expected a network of jaxcam.open_model, got {type(network).__name__}: open it first")
    if not networks:
        raise ValueError("no networks: give at least one")
    if fuse is not None and fuse not in map_functions.FUSIONS:
        raise ValueError(f"no fusion {fuse!r}: choose one of {', '.join(map_functions.FUSIONS)}")
    if layers is None:
        if fuse is not None:
            raise ValueError("fuse joins the maps of several layers: give layers")
        return networks
    if isinstance(layers, str):
        raise TypeError(f"expected a list of layers, got {layers!r}: give [{layers!r}]")
    names = list(layers)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected layers that differ from each other, got {', '.join(names) or 'none'}")
    if len(networks) > 1:
        raise ValueError("layers are those of one network: open each network at its layer")
    if fuse is not None and len(names) < 2:
        raise ValueError(f"fuse joins the maps of several layers, got one: {names[0]}")
    return [networks[0].at_layer(name) for name in names]


def chosen_classes(
    networks: Sequence[OpenedModel],
    probabilities: Sequence[np.ndarray],
    target: Any,
    top: int | None,
) -> list[list[int]]:
    """The number of each class to explain, for each network.

    Raises:
      ValueError: no such class, more of the most probable classes than there are, or a number of networks whose classes
        have other names.
    """
    if target is None:
        return _most_probable_classes(networks, probabilities, top or 1)
    targets: list[Any] = [target] if isinstance(target, str) or np.ndim(target) == 0 else list(target)
    if not targets:
        raise ValueError("no classes: give at least one target, or None for the most probable class")
    return [_numbers_of_class(class_, networks) for class_ in targets]


def _numbers_of_class(target: int | str, networks: Sequence[OpenedModel]) -> list[int]:
    """The number of one class in each network.

    Raises:
      ValueError: a network has no such class, or a number is that of classes of several names.
    """
    numbers = [class_number(target, network) for network in networks]
    names = {network.class_names[number] for network, number in zip(networks, numbers, strict=True)}
    if len(names) > 1 and str(target).isdecimal():
        listed = ", ".join(sorted(map(repr, names)))
        raise ValueError(f"class {target} is another one in each network ({listed}): give its name")
    return numbers


def class_number(target: Any, network: OpenedModel) -> int:
    """The number of a class that is given by its name or its number.

    Raises:
      ValueError: the network has no such class.
    """
    number = find_class(target, network.class_names) if isinstance(target, str) else int(target)
    if not 0 <= number < len(network.class_names):
        raise ValueError(f"no class {number}: there are {len(network.class_names)}, from 0")
    return number


def check_top(network: OpenedModel, top: int) -> None:
    """Raises a ValueError if the network has fewer classes than are to be explained."""
    classes = len(network.class_names)
    if top > classes:
        raise ValueError(f"expected top of at most {classes}, the number of classes, got {top}")


def _most_probable_classes(networks, probabilities, count):
    first = networks[0].class_names
    by_network = []
    for network, own in zip(networks, probabilities, strict=True):
        check_top(network, count)
        # A comparison is of one class where the networks have the same ones.
        deciding = probabilities[0] if network.class_names == first else own
        by_network.append([int(number) for number in np.argsort(-np.asarray(deciding), kind="stable")[:count]])
    return [list(numbers) for numbers in zip(*by_network, strict=True)]


def fused_maps(of_layers: Sequence[Explanation], fuse: str) -> Explanation:
    """The explanation of one class at several layers, with one map by each method."""
    first = of_layers[0]
    layers = tuple(explanation.layer for explanation in of_layers)
    maps = {
        name: np.asarray(map_functions.fuse([jnp.asarray(layer.maps[name]) for layer in of_layers], how=fuse))
        for name in first.maps
    }
    return dataclasses.replace(first, layer=f"{fuse} of {', '.join(layers)}", maps=maps, layers=layers)
