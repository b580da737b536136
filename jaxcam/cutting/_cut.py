"""What `jaxcam.cut` returns: a model in two functions at a layer, or one that can be added to at several layers."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

# What the outputs of a model may be; `jaxcam.cutting.output_kind` explains them.
OUTPUTS = ("logits", "sigmoid logits", "probabilities", "sigmoids", "unknown")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["features", "head", "layer", "reads_input", "outputs", "image_channel_axis"],
)
@dataclass(frozen=True, eq=False)
class Cut:
    """A model in two parts, on one example without a batch axis.

    A cut is a pytree whose leaves are the parameters. Pass it to a jitted function as an argument: closed over, the
    parameters become constants of the program, which for VGG-16 takes a gigabyte and seconds to compile.

    Attributes:
      params: any pytree; what the two functions take first.
      features: `(params, x) -> A`, with `A` of shape `[*spatial k]`: channels last, any number of spatial axes.
      head: `(params, A, x) -> outputs`. It takes the input too, for layers that a skip connection bypasses.
      layer: the layer's name, for messages and titles.
      reads_input: whether the head needs the input beside A, as it does where a connection goes round the layer; None
        where that is not known.
      outputs: what the outputs are: "logits", "sigmoid logits" (of independent classes), "probabilities", "sigmoids" or
        "unknown". None reads it from the head's program when a score needs it; `jaxcam.cut` does so at once if it knows
        the image's shape.
      image_channel_axis: the axis of the image that holds its channels; None for an image without channels. A map
        `[*spatial]` is laid over the other axes.
    """

    params: Any
    features: Callable[[Any, Any], jax.Array] = field(repr=False)
    head: Callable[[Any, Any, Any], Any] = field(repr=False)
    layer: str = ""
    reads_input: bool | None = None
    outputs: str | None = None
    image_channel_axis: int | None = -1

    def __post_init__(self) -> None:
        _check_outputs(self.outputs)

    def __repr__(self) -> str:
        known = {None: "", True: ", the head reads the input", False: ", the head does not read the input"}
        reads = known[self.reads_input]
        return f"Cut(layer={self.layer!r}, {_parameter_count(self.params):,} parameters{reads}{_outputs_text(self)})"


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["tapped", "layers", "outputs", "image_channel_axis"],
)
@dataclass(frozen=True, eq=False)
class Cuts:
    """A model that can be added to at several layers, on one example: one backward pass reaches all of them.

    The derivatives of the outputs in what is added to a layer are those of the head of a `Cut` at that layer in A, of
    every order; but the heads are one program here. A pytree like a `Cut`, whose leaves are the parameters.

    Attributes:
      params: any pytree; what the function takes first.
      tapped: `(params, deltas, x) -> (activations, outputs)`: the model, with `deltas[layer]` added to the layer's
        value. Deltas and activations are dicts by layer, `[*spatial k]` each. A layer that is missing in `deltas` has
        nothing added to it, so `{}` gives the model as it is; an activation has its delta in it.
      layers: the layers' names, in the order that they were given in. The activations are in it too, but JAX sorts the
        keys of what goes through its transformations.
      outputs: as in `Cut`.
      image_channel_axis: as in `Cut`.

    Example:
      >>> import jax, jaxcam
      >>> cuts = jaxcam.cut(jaxcam.digits(), ["block2_conv2", "block3_conv2"])
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> activations, outputs = cuts.tapped(cuts.params, {}, image)
      >>> zeros = jax.tree.map(jax.numpy.zeros_like, activations)
      >>> gradients = jax.grad(lambda deltas: cuts.tapped(cuts.params, deltas, image)[1][3])(zeros)
      >>> {layer: gradients[layer].shape for layer in cuts.layers}
      {'block2_conv2': (32, 32, 32), 'block3_conv2': (16, 16, 64)}
    """

    params: Any
    tapped: Callable[[Any, Mapping[str, jax.Array], Any], tuple[dict[str, jax.Array], Any]] = field(repr=False)
    layers: tuple[str, ...] = ()
    outputs: str | None = None
    image_channel_axis: int | None = -1

    def __post_init__(self) -> None:
        _check_outputs(self.outputs)

    def __repr__(self) -> str:
        return f"Cuts(layers={self.layers!r}, {_parameter_count(self.params):,} parameters{_outputs_text(self)})"


def _check_outputs(outputs):
    if outputs is not None and outputs not in OUTPUTS:
        raise ValueError(f"outputs is {outputs!r}: choose one of {', '.join(OUTPUTS)}, or None")


def _outputs_text(cut):
    return "" if cut.outputs in (None, "logits") else f", outputs: {cut.outputs}"


def _parameter_count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params) if hasattr(leaf, "size"))


def activations(cut: Cut | Cuts, image: Any) -> tuple[dict[str, jax.Array], Any]:
    """The activations of one example by layer, and the model's outputs, a pytree."""
    if isinstance(cut, Cuts):
        return cut.tapped(cut.params, {}, image)
    A = cut.features(cut.params, image)
    return {cut.layer: A}, cut.head(cut.params, A, image)
