"""Networks that say the shape of their images and the grid of their tokens, which need not be given to `cut`."""

from typing import Any, NamedTuple


class TokenGrid(NamedTuple):
    """How tokens become a map: `prefix` of them are left out, and the others fill `grid` row by row."""

    grid: tuple[int, ...]
    prefix: int


class ImageNetwork:
    """A base class for networks in Flax NNX that say how their images and their tokens look.

    `jaxcam.cut`, `jaxcam.layers` and `jaxcam.describe_layers` take `image_shape` from the network. `jaxcam.cut` takes
    `grid` and `prefix` too, at a layer whose output has so many tokens. What is given to these functions is taken
    first.

    Attributes:
      image_shape: the shape of one image, `(h, w, 3)`.
      grid: the rows and columns of tokens; None if there are none.
      prefix: the number of tokens in front of them.

    Example:
      >>> import jax, jaxcam
      >>> from flax import nnx
      >>> class Tokens(nnx.Module, jaxcam.cutting.ImageNetwork):
      ...     image_shape, grid = (16, 24, 3), (2, 3)
      ...     def __init__(self, rngs):
      ...         self.patches = nnx.Linear(8 * 8 * 3, 4, rngs=rngs)
      ...         self.classifier = nnx.Linear(4, 5, rngs=rngs)
      ...     def __call__(self, x):
      ...         x = x.reshape(len(x), 2, 8, 3, 8, 3).swapaxes(2, 3).reshape(len(x), 6, -1)
      ...         return self.classifier(jax.nn.relu(self.patches(x)).mean(1))
      >>> cut = jaxcam.cut(Tokens(nnx.Rngs(0)), "patches")
      >>> jax.eval_shape(cut.features, cut.params, jax.numpy.ones([16, 24, 3])).shape
      (2, 3, 4)
    """

    image_shape: tuple[int, ...]
    grid: tuple[int, ...] | None = None
    prefix: int = 0


def token_grid_of(model: Any) -> TokenGrid | None:
    """The grid that a network says; None if it says none."""
    if not isinstance(model, ImageNetwork) or model.grid is None:
        return None
    return TokenGrid(tuple(model.grid), model.prefix)
