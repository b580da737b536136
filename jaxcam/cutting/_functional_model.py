"""A model as parameters and a pure function: what each framework gives, and all that tracing needs to know."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcam.cutting._arguments import Arguments
from jaxcam.cutting._image_network import TokenGrid
from jaxcam.cutting._memo import Memo
from jaxcam.cutting._pickled import Recipe

# The beginning of the marks on running statistics after the call. In eval mode the call does not change them.
STATISTICS_MARK = "statistics of "


class SaidAxes(NamedTuple):
    """What a framework says of the channel axes of its layers, in one example.

    Attributes:
      by_layer: of the layers that say it.
      default: of the others.
      of_image: of the image.
    """

    by_layer: Mapping[str, int]
    default: int
    of_image: int

    def of_layer(self, mark_name: str, ndim: int) -> int:
        """The channel axis of a layer's output with `ndim` axes; tokens `[tokens k]` have no other layout."""
        return self.by_layer.get(mark_name.split("[")[0], self.default if ndim > 2 else -1)


@dataclass(frozen=True, eq=False)
class ModelCall:
    """The pure call of a model: `(params, random_streams, args, kwargs, layers) -> outputs`, in eval mode.

    The outputs of `layers` are marked; those of all layers for None. Equal Flax models have the same call.

    Attributes:
      call: the function.
      recipe: makes this call again, for pickle.
      arguments: those of the call; None if they are not known.
      channel_axes: what the framework says of its layers, if its layouts are several (Keras).
      memo: the functions that are made for this model. They live as long as the call, which holds a Keras model.
    """

    call: Callable[..., Any]
    recipe: Recipe
    arguments: Arguments | None = None
    channel_axes: SaidAxes | None = None
    memo: Memo = field(default_factory=Memo, repr=False)

    def __call__(
        self, params: Any, random_streams: Any, args: tuple, kwargs: dict, layers: Sequence[str] | None
    ) -> Any:
        """The model's outputs. An error of the model gets a note that says what it was called with."""
        try:
            return self.call(params, random_streams, args, kwargs, layers)
        except Exception as error:
            shapes = [str(list(np.shape(leaf))) for leaf in jax.tree.leaves((args, kwargs))]
            error.add_note(
                f"jaxcam called the model with {', '.join(shapes)}; what it takes besides the image goes into inputs="
            )
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """The recipe."""
        return _made_call, (self.recipe,)


def _made_call(recipe: Recipe) -> ModelCall:
    return recipe()


class RandomStreams(NamedTuple):
    """The shapes and types of a model's random streams, which a model in eval mode does not read."""

    leaves: tuple[jax.ShapeDtypeStruct, ...]
    structure: Any

    @classmethod
    def of(cls, tree: Any) -> "RandomStreams":
        """The streams in a pytree of arrays, or of their shapes."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), structure)


class FunctionalModel(NamedTuple):
    """A model as parameters and a pure function.

    Attributes:
      params: a pytree of what the model has learned.
      random_streams: the model's random streams.
      call: how the model is called.
      layer_names: the names of all layers; None if only a call tells them (Linen).
      image_shape: the shape of one image, if the model says it (Keras, `ImageNetwork`).
      own_grid: the grid of its tokens, if the model says it (`ImageNetwork`).
    """

    params: Any
    random_streams: RandomStreams
    call: ModelCall
    layer_names: tuple[str, ...] | None
    image_shape: tuple[int, ...] | None = None
    own_grid: TokenGrid | None = None
