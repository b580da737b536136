"""The networks that a server was started with. A visitor chooses among their labels, and names no file and no function.

>>> networks = Networks([Network("digits")])
>>> networks.labels, networks.opened("digits").layer
(('digits',), 'block3_conv2')
>>> networks.opened("../../etc/passwd")
Traceback (most recent call last):
  ...
ValueError: no network '../../etc/passwd': choose one of digits
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

import jaxcam
from jaxcam.cutting import Cut, activations
from jaxcam.opening import ModelSource, OpenedModel, describe_source, model_source
from jaxcam.web._kept import Kept, Programs

# Networks whose weights are installed with jaxcam, which every server offers.
OWN_NETWORKS = ("efficientnet_lite0", "digits")
# Enough for the visitors of a few minutes. A cut shares its parameters with the other cuts of its network.
MOST_CUTS, MOST_PROGRAMS = 32, 32
OF_LAYERS = ("input_size", "output", "channel_axis", "image_channel_axis")


@dataclass(frozen=True)
class Network:
    """A network that visitors may choose.

    Attributes:
      model: what `jaxcam.open_model` takes first: a name, a file, a function's name, or a model.
      options: of `jaxcam.open_model`, those that differ from its defaults.
    """

    model: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def source(self) -> ModelSource:
        """The network, not built yet. It is built once.

        Raises:
          FileNotFoundError, ValueError: as `jaxcam.open_model`, for a name that cannot be right.
        """
        source = model_source(self.model, weights=self.options.get("weights"))
        return source._replace(build=functools.cache(source.build))

    @property
    def label(self) -> str:
        """What visitors call it: its name, without the folder of a file."""
        return without_folder(self.source.name)

    def open(self) -> OpenedModel:
        """The network, opened at its layer."""
        return jaxcam.open_model(self.source, **{k: v for k, v in self.options.items() if k != "weights"})


def without_folder(name: str) -> str:
    """The name of a network or a file without folders, which tell a visitor about the server.

    Example:
      >>> without_folder("/home/a/model.keras"), without_folder("keras:ResNet50:weights=/home/a/b.h5")
      ('model.keras', 'keras:ResNet50:weights=b.h5')
    """
    return re.sub(r"[^=:]*[/\\]", "", name)


class LayerChoice(NamedTuple):
    """A layer that has a map.

    Attributes:
      name: of the layer.
      shape: of its activation, `[h w k]`.
      recommended: whether `jaxcam.cut` takes it by default.
    """

    name: str
    shape: tuple[int, ...]
    recommended: bool

    def __str__(self) -> str:
        return f"{self.name}, {' x '.join(map(str, self.shape))}{', recommended' if self.recommended else ''}"


class Networks:
    """The networks of a server, opened when a visitor first chooses them, with the programs that are compiled for them.

    Args:
      networks: the first one is the default.

    Raises:
      ValueError: there is none, or two have one label.
    """

    def __init__(self, networks: Sequence[Network]):
        self._by_label = {network.label: network for network in networks}
        if not networks or len(self._by_label) < len(networks):
            labels = ", ".join(network.label for network in networks)
            raise ValueError(f"expected networks with names that differ, got {labels or 'none'}")
        self._opened = Kept(len(networks))
        self._layers = Kept(len(networks))
        self._cuts = Kept(MOST_CUTS)
        self.programs = Programs(MOST_PROGRAMS)

    @property
    def labels(self) -> tuple[str, ...]:
        """What visitors choose from."""
        return tuple(self._by_label)

    def network(self, label: str | None) -> Network:
        """The network of a label, or the default.

        Raises:
          ValueError: no such network.
        """
        label = self.labels[0] if label is None else label
        if label not in self._by_label:
            raise ValueError(f"no network {label!r}: choose one of {', '.join(self.labels)}")
        return self._by_label[label]

    def opened(self, label: str | None, layer: str | None = None) -> OpenedModel:
        """A network, opened at one of its layers that have a map; by default at its own.

        Raises:
          ValueError: no such network or layer.
        """
        network = self.network(label)
        opened = self._opened.get(network.label, network.open)
        if layer is None or layer == opened.layer:
            return opened
        names = [choice.name for choice in self.layers(label)]
        if layer not in names:
            raise ValueError(f"no layer {layer!r} with a map in {network.label}: choose one of {', '.join(names)}")
        return self._cuts.get((network.label, layer), lambda: opened.at_layer(layer))

    def layers(self, label: str | None) -> tuple[LayerChoice, ...]:
        """The layers of a network that have a map of the whole output, in the order of their calls."""
        network = self.network(label)
        return self._layers.get(network.label, lambda: _layers_of(network, self.opened(network.label)))

    def shape(self, label: str | None, layer: str) -> tuple[int, ...]:
        """The shape of a layer's activation, `[h w k]`."""
        return next(choice.shape for choice in self.layers(label) if choice.name == layer)


def _layers_of(network: Network, opened: OpenedModel) -> tuple[LayerChoice, ...]:
    if isinstance(network.source.build().model, Cut):
        return (LayerChoice(opened.layer, _shape_of(opened), True),)
    options = {name: network.options[name] for name in OF_LAYERS if name in network.options}
    described = describe_source(network.source, **options)
    choices = []
    for layer in described:
        is_map = len(layer.shape) == 3 and layer.shape[0] * layer.shape[1] > 1 and layer.reads_input is False
        if layer.name == opened.layer:
            choices.append(LayerChoice(layer.name, _shape_of(opened), layer.recommended))
        elif is_map:
            choices.append(LayerChoice(layer.name, layer.shape, layer.recommended))
    return tuple(choices)


def _shape_of(opened: OpenedModel) -> tuple[int, ...]:
    image = jax.ShapeDtypeStruct((*opened.input_size, 3), jax.numpy.float32)
    return jax.eval_shape(lambda cut, x: activations(cut, x)[0], opened.cut, image)[opened.layer].shape
