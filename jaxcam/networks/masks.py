"""A small U-Net in Flax NNX: a class for each pixel.

    >>> import jax, jaxcam
    >>> model = nnx.eval_shape(lambda: UNet(widths=(4, 8, 16), classes=3, image_shape=(32, 48, 3), rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["block1"], shapes["block2"], shapes["block3"], shapes["up1"], shapes["classes"]
    ((32, 48, 4), (16, 24, 8), (8, 12, 16), (32, 48, 4), (32, 48, 3))

`block1`, `block2`, ... get coarser, and `up2`, `up1` get finer again. Each returns the value after its last ReLU. A cut
at the coarsest block leaves the connections that bypass it in the head.

Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015. It
differs from the paper's: convolutions are padded, so that the outputs have the image's size; a block on the way up has
one convolution, with batch norm; and the finer values come from the nearest coarser pixel.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import BatchNormAct, checked_class_names, conv


class Convolutions(nnx.Module):
    """3 x 3 convolutions with ReLU, one after the other, with batch norm or with a bias."""

    def __init__(self, channels_in: int, channels: int, *, length: int = 2, norm: bool = False, rngs: nnx.Rngs):
        self.length, self.norm = length, norm
        for number in range(length):
            inputs = channels if number else channels_in
            init = nnx.initializers.he_normal()
            setattr(self, f"conv{number + 1}", conv(inputs, channels, 3, bias=not norm, kernel_init=init, rngs=rngs))
            if norm:
                setattr(self, f"bn{number + 1}", BatchNormAct(channels, activation=jax.nn.relu, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels]`, after its ReLU."""
        for number in range(self.length):
            x = getattr(self, f"conv{number + 1}")(x)
            x = getattr(self, f"bn{number + 1}")(x) if self.norm else jax.nn.relu(x)
        return x


def add_blocks(model: nnx.Module, widths: Sequence[int], *, plain: int, rngs: nnx.Rngs) -> None:
    """Give a model the blocks `block1`, `block2`, ..., which are those of a VGG, and with batch norm after `plain`."""
    channels = 3
    for number, width in enumerate(widths):
        setattr(model, f"block{number + 1}", Convolutions(channels, width, norm=number >= plain, rngs=rngs))
        channels = width


def values_of_blocks(model: nnx.Module, image: jax.Array, depth: int) -> list[jax.Array]:
    """The values of the blocks of `add_blocks`, the finest first, with 2 x 2 max pooling between them."""
    values: list[jax.Array] = []
    for number in range(depth):
        x = nnx.max_pool(values[-1], (2, 2), strides=(2, 2)) if values else image
        values.append(getattr(model, f"block{number + 1}")(x))
    return values


def doubled(x: jax.Array) -> jax.Array:
    """Images `[b h w k]` of twice the height and the width: each pixel four times."""
    return x.repeat(2, 1).repeat(2, 2)


class UNet(nnx.Module, ImageNetwork):
    """U-Net: blocks of convolutions that halve the sides, and blocks that double them and read the earlier values too.

    Args:
      widths: channels of the blocks, the finest first, at least two.
      up_widths: channels of the blocks on the way up, the finest first, one less; None for those of the blocks.
      plain: the number of blocks that are those of a VGG, without batch norm.
      classes: the number of outputs of each pixel, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes whose sides are multiples of its stride,
        `2 ** (len(widths) - 1)`.
      class_names: one for each class; None if they are not known.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: fewer than two widths, or `up_widths` of another length; an `image_shape` that is no multiple of the
        stride; `class_names` that are not one for each class.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64, 96),
        up_widths: Sequence[int] | None = None,
        plain: int = 3,
        classes: int,
        image_shape: tuple[int, int, int] = (64, 64, 3),
        class_names: Sequence[str] | None = None,
        rngs: nnx.Rngs,
    ):
        up_widths = tuple(widths[:-1] if up_widths is None else up_widths)
        if len(widths) < 2 or len(up_widths) != len(widths) - 1:
            raise ValueError(f"expected at least two widths and one up_width less, got {tuple(widths)} and {up_widths}")
        self.depth = len(widths)
        self.stride = 2 ** (self.depth - 1)
        self.image_shape = tuple(image_shape)
        check_sides(self.image_shape[:2], self.stride)
        self.class_names = checked_class_names(class_names, classes)
        add_blocks(self, widths, plain=plain, rngs=rngs)
        channels = widths[-1]
        for number in reversed(range(self.depth - 1)):
            block = Convolutions(channels + widths[number], up_widths[number], length=1, norm=True, rngs=rngs)
            setattr(self, f"up{number + 1}", block)
            channels = up_widths[number]
        self.classes = nnx.Conv(channels, classes, (1, 1), rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b h w classes]` of the images `[b h w 3]`, floats in 0..1.

        Raises:
          ValueError: sides that are no multiples of the stride.
        """
        check_sides(image.shape[1:3], self.stride)
        *earlier, x = values_of_blocks(self, image, self.depth)
        for number in reversed(range(self.depth - 1)):
            x = getattr(self, f"up{number + 1}")(jnp.concatenate([doubled(x), earlier[number]], -1))
        return self.classes(x)


def check_sides(sides: Sequence[int], stride: int) -> None:
    """Raises a ValueError if the sides of an image are no multiples of a stride."""
    if any(side % stride or side < stride for side in sides):
        raise ValueError(f"expected images whose sides are multiples of {stride}, got {tuple(sides)}")
