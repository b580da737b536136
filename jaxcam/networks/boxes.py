"""A small detector of one stage in Flax NNX: a score, a box and a class at each location.

    >>> import jax, jaxcam
    >>> model = nnx.eval_shape(lambda: Detector(widths=(4, 8, 8, 8), neck=8, classes=3, rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["block4"], shapes["neck"]
    ((8, 8, 8), (16, 16, 8))

`block1`, `block2`, ... get coarser. `neck` reads the two coarsest, at the finer one's resolution, which is that of the
locations: 16 x 16 for 64 x 64 pixels. Each returns the value after its last ReLU.

Every location (i, j), with its center (y, x) = stride (i + 0.5, j + 0.5), predicts the logits of the classes and four
distances d >= 0 from its center to the sides of a box, (y - d_top, x - d_left, y + d_bottom, x + d_right). Softplus
makes the distances positive, so the boxes, unlike the scores, are smooth functions of the activations.

Tian, Shen, Chen and He, "FCOS: fully convolutional one-stage object detection", ICCV 2019, without its centerness and
with one level instead of five.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import checked_class_names
from jaxcam.networks.masks import Convolutions, add_blocks, check_sides, doubled, values_of_blocks


class Detector(nnx.Module, ImageNetwork):
    """One stage: blocks of convolutions that halve the sides, and two 1 x 1 convolutions, for classes and boxes.

    Args:
      widths: channels of the blocks, the finest first, at least two.
      neck: channels of the neck.
      plain: the number of blocks that are those of a VGG, without batch norm.
      classes: the number of classes.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes whose sides are multiples of
        `2 ** (len(widths) - 1)`.
      class_names: one for each class; None if they are not known.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: fewer than two widths; an `image_shape` that is no multiple; `class_names` that are not one for each
        class.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64, 96),
        neck: int = 64,
        plain: int = 3,
        classes: int,
        image_shape: tuple[int, int, int] = (64, 64, 3),
        class_names: Sequence[str] | None = None,
        rngs: nnx.Rngs,
    ):
        if len(widths) < 2:
            raise ValueError(f"expected at least two widths, got {tuple(widths)}")
        self.image_shape = tuple(image_shape)
        self.class_names = checked_class_names(class_names, classes)
        self.depth = len(widths)
        self.stride = 2 ** (self.depth - 2)
        check_sides(self.image_shape[:2], 2 * self.stride)
        add_blocks(self, widths, plain=plain, rngs=rngs)
        self.neck = Convolutions(widths[-2] + widths[-1], neck, length=1, norm=True, rngs=rngs)
        # A class is rare at a location: the logits start at log(0.01 / 0.99), as in "Focal loss", section 4.1.
        self.classes = nnx.Conv(neck, classes, (1, 1), bias_init=nnx.initializers.constant(-4.6), rngs=rngs)
        self.sides = nnx.Conv(neck, 4, (1, 1), bias_init=nnx.initializers.constant(1.0), rngs=rngs)

    def __call__(self, image: jax.Array) -> dict[str, jax.Array]:
        """What `jaxcam.scores.box` takes, of the images `[b h w 3]`, floats in 0..1.

        Returns:
          A dict: "scores" `[b n]`, the largest logit of each location; "boxes" `[b n 4]`, row0, column0, row1, column1
          in pixels; "classes" `[b n classes]`, logits. The locations are in reading order.

        Raises:
          ValueError: sides that are no multiples of the coarsest stride.
        """
        check_sides(image.shape[1:3], 2 * self.stride)
        *_, finer, coarser = values_of_blocks(self, image, self.depth)
        x = self.neck(jnp.concatenate([finer, doubled(coarser)], -1))
        batch, rows, columns, _ = x.shape
        classes = self.classes(x).reshape(batch, rows * columns, -1)
        sides = self.stride * jax.nn.softplus(self.sides(x)).reshape(batch, rows * columns, 4)
        centers = location_centers((rows, columns), self.stride).astype(sides.dtype)[None]
        boxes = jnp.concatenate([centers - sides[..., :2], centers + sides[..., 2:]], -1)
        return {"scores": classes.max(-1), "boxes": boxes, "classes": classes}


def location_centers(grid: tuple[int, int], stride: int) -> jax.Array:
    """The centers of locations in pixels, `[rows * columns 2]`, in reading order.

    Example:
      >>> location_centers((1, 2), 4).tolist()
      [[2.0, 2.0], [2.0, 6.0]]
    """
    rows, columns = (stride * (jnp.arange(length, dtype=float) + 0.5) for length in grid)
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
