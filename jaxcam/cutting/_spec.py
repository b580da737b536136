"""What is cut and where: everything that the functions of a cut depend on, except arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cutting._arguments import check_arguments
from jaxcam.cutting._calls import parsed_name
from jaxcam.cutting._frameworks import functional_model
from jaxcam.cutting._functional_model import ModelCall, RandomStreams
from jaxcam.cutting._image_network import TokenGrid
from jaxcam.cutting._memo import canonical_function


class FurtherInputs(NamedTuple):
    """What a model takes besides the image, without the arrays, which are parameters of the cut.

    Attributes:
      structure: the tree of the inputs, a tuple for arguments by position or a dict for those by name.
      leaves: the tree's leaves, with None in the place of each array.
      array_places: where the arrays are among the leaves.
      types: the leaves' types, because True is equal to 1 and is another input.
    """

    structure: Any
    leaves: tuple[Any, ...]
    array_places: tuple[int, ...]
    types: tuple[type, ...]


class CutSpec(NamedTuple):
    """Everything that the functions of a cut depend on, except arrays: what they are remembered by.

    Attributes:
      call: how the model is called.
      random_streams: the model's random streams.
      further_inputs: what the model takes besides the image.
      layers: the names of the layers; None for all of the model's. A name may choose a call: "encoder:1".
      after: a function that the model applies to the layer's output; the cut is after it. None for the output itself.
      grid: the spatial shape of the tokens; None if the layer's output is taken as it is.
      prefix: how many tokens stand before the grid.
      suffix: how many tokens stand behind the grid.
      channel_axis: the axis of one example of the layer's output that holds the channels. -1 is also the default, which
        a Keras model and its program replace.
      image_channel_axis: that of the image; None for an image without channels.
      image: the name, or the position, of the argument that is the image.
      output: what is taken of the model's outputs; see `select_output`.
      batched: whether the model takes a batch axis.
      image_shape: the shape of one image; None if it is not known before the cut sees one.
      without_jit: whether jitted blocks in the model are traced as if they were written out.
      through_stop_gradient: whether the model's `stop_gradient`s are left out.
      own_grid: what the model says of its tokens, which is taken at a layer of so many tokens if `grid` is None.
    """

    call: ModelCall
    random_streams: RandomStreams
    further_inputs: FurtherInputs
    layers: tuple[str, ...] | None
    after: Callable[[jax.Array], jax.Array] | None = None
    grid: tuple[int, ...] | None = None
    prefix: int = 0
    batched: bool = True
    image_shape: tuple[int, ...] | None = None
    without_jit: bool = False
    suffix: int = 0
    channel_axis: int = -1
    image_channel_axis: int | None = -1
    image: int | str = 0
    output: str | Callable[[Any], Any] | None = None
    through_stop_gradient: bool = False
    own_grid: TokenGrid | None = None

    @property
    def marked(self) -> tuple[str, ...] | None:
        """The names of the layers without the numbers of calls; None for all layers."""
        return None if self.layers is None else tuple(dict.fromkeys(parsed_name(name).layer for name in self.layers))

    def of_program(self) -> "CutSpec":
        """The spec without what the trace of the model does not depend on."""
        return self._replace(
            layers=self.marked, after=None, grid=None, prefix=0, suffix=0, image_shape=None, channel_axis=-1,
            image_channel_axis=-1, through_stop_gradient=False, own_grid=None,
        )  # fmt: skip

    def with_batch_axis(self, array: jax.Array) -> jax.Array:
        """One example's array as the model takes it."""
        return array[None] if self.batched else array

    def without_batch_axis(self, array: jax.typing.ArrayLike) -> jax.Array:
        """An array of the model as that of one example; an array without a batch axis of length 1 stays as it is."""
        array = jnp.asarray(array)
        return array.squeeze(0) if self.batched and array.ndim and array.shape[0] == 1 else array


def spec_of(
    model: Any,
    layers: tuple[str, ...] | None,
    inputs: Sequence[Any] | Mapping[str, Any],
    image_shape: Sequence[int] | None,
    *,
    after: Callable[[jax.Array], jax.Array] | None = None,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    suffix: int = 0,
    channel_axis: int = -1,
    image_channel_axis: int | None = -1,
    image: int | str = 0,
    output: str | Callable[[Any], Any] | None = None,
    method: str = "__call__",
    batched: bool = True,
    through_stop_gradient: bool = False,
) -> tuple[Any, CutSpec, tuple[str, ...] | None]:
    """The parameters of a cut, its spec, and the names of the model's layers if they are known without a call.

    The arguments are those of `jaxcam.cut`. The parameters are the model's; if `inputs` has arrays, a dict of "model"
    and "inputs".

    Raises:
      TypeError: not a model that can be cut; `inputs` is neither a tuple nor a dict, or does not fit the model's call.
    """
    functional = functional_model(model, method)
    check_arguments(functional.call.arguments, _checked_inputs(inputs), image)
    said = functional.call.channel_axes
    if said is not None and image_channel_axis == -1:
        image_channel_axis = said.of_image
    arrays, further_inputs = _split_inputs(inputs)
    params = {"model": functional.params, "inputs": arrays} if further_inputs.array_places else functional.params
    spec = CutSpec(
        functional.call,
        functional.random_streams,
        further_inputs,
        layers,
        canonical_function(after),
        None if grid is None else tuple(grid),
        prefix,
        bool(batched),
        functional.image_shape if image_shape is None else tuple(image_shape),
        suffix=suffix,
        channel_axis=channel_axis,
        image_channel_axis=image_channel_axis,
        image=image,
        output=output,
        through_stop_gradient=bool(through_stop_gradient),
        own_grid=functional.own_grid,
    )
    return params, spec, functional.layer_names


def _checked_inputs(inputs: Any) -> Sequence[Any] | Mapping[str, Any]:
    if not isinstance(inputs, Mapping | tuple | list):
        raise TypeError(f"expected a tuple (array,) or a dict of arguments for inputs, got {type(inputs).__name__}")
    return inputs


def _split_inputs(inputs) -> tuple[Any, FurtherInputs]:
    """The arrays among a model's further inputs, in the inputs' form with None for the rest, and the rest."""
    leaves, structure = jax.tree.flatten(dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs))
    places = tuple(i for i, leaf in enumerate(leaves) if hasattr(leaf, "shape") and hasattr(leaf, "dtype"))
    static = tuple(None if i in places else leaf for i, leaf in enumerate(leaves))
    arrays = [jnp.asarray(leaf) if i in places else None for i, leaf in enumerate(leaves)]
    rest = FurtherInputs(structure, static, places, tuple(map(type, static)))
    return jax.tree.unflatten(structure, arrays), rest


def image_struct(shape: Any) -> jax.ShapeDtypeStruct:
    """An image of this shape, to trace with.

    Raises:
      TypeError: the shape is not integers.
    """
    if not all(isinstance(size, int | np.integer) for size in shape):
        types = ", ".join(type(size).__name__ for size in shape)
        raise TypeError(f"expected integers (h, w, channels) for image_shape, got ({types})")
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
