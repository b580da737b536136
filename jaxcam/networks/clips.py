"""A small network of 3-D convolutions in Flax NNX: a class for a clip of any number of frames.

    >>> import jax, jaxcam
    >>> model = nnx.eval_shape(lambda: C3D(widths=(4, 8, 8, 8), classes=3, rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["conv1"], shapes["conv2"], shapes["conv3"], shapes["conv4"], shapes["fc"]
    ((16, 16, 16, 4), (8, 8, 8, 8), (8, 8, 8, 8), (4, 8, 8, 8), (3,))

A block `conv1`, `conv2`, ... returns the value after its ReLU, `[t h w k]`.

Tran et al., "Learning spatiotemporal features with 3D convolutional networks", ICCV 2015. It differs from the paper's
in its size, in batch norm, in the first block, which reads frames of half the height and the width with stride 2, and
in the mean over time and space instead of two dense layers, so that it takes any number of frames.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import BatchNormAct, checked_class_names


class Convolution3d(nnx.Module):
    """A 3 x 3 x 3 convolution with batch norm and ReLU."""

    def __init__(self, channels_in: int, channels: int, *, strides: tuple[int, int, int] = (1, 1, 1), rngs: nnx.Rngs):
        padding = ((1, 1),) * 3
        self.conv = nnx.Conv(
            channels_in, channels, (3, 3, 3), strides=strides, padding=padding, use_bias=False, rngs=rngs
        )
        self.bn = BatchNormAct(channels, activation=jax.nn.relu, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b t h w channels]`, after its ReLU."""
        return self.bn(self.conv(x))


class C3D(nnx.Module, ImageNetwork):
    """C3D in small: blocks of one 3 x 3 x 3 convolution, mean over time and space, one linear layer.

    Args:
      widths: channels of the blocks.
      pools: the frames, rows and columns of the maximum in front of each block, after the first.
      classes: the number of outputs, which are logits.
      image_shape: `(t, h, w, 3)` of one clip. The network takes other sizes, too.
      class_names: one for each class; None if they are not known.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: not one pool for each block after the first; an `image_shape` without frames; `class_names` that are
        not one for each class.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 48, 64),
        pools: Sequence[tuple[int, int, int]] = ((2, 2, 2), (1, 1, 1), (2, 1, 1)),
        classes: int,
        image_shape: tuple[int, int, int, int] = (16, 64, 64, 3),
        class_names: Sequence[str] | None = None,
        rngs: nnx.Rngs,
    ):
        if len(pools) != len(widths) - 1:
            raise ValueError(f"expected {len(widths) - 1} pools, one for each block after the first, got {len(pools)}")
        self.pools = tuple(map(tuple, pools))
        self.least = tuple(
            first * math.prod(sizes) for first, sizes in zip((1, 4, 4), zip(*pools, strict=True), strict=True)
        )
        self.image_shape = tuple(image_shape)
        self._check(self.image_shape)
        self.class_names = checked_class_names(class_names, classes)
        self.conv1 = Convolution3d(3, widths[0], strides=(1, 2, 2), rngs=rngs)
        for number in range(1, len(widths)):
            setattr(self, f"conv{number + 1}", Convolution3d(widths[number - 1], widths[number], rngs=rngs))
        self.fc = nnx.Linear(widths[-1], classes, rngs=rngs)

    def __call__(self, clip: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the clips `[b t h w 3]`, floats in 0..1.

        Raises:
          ValueError: another number of axes, or too few frames or pixels for the blocks.
        """
        self._check(clip.shape[1:])
        halved = (1, 1, 2, 2, 1)
        sums = jax.lax.reduce_window(2 * clip - 1, np.zeros((), clip.dtype), jax.lax.add, halved, halved, "VALID")
        x = self.conv1(0.25 * sums)
        for number, pool in enumerate(self.pools):
            x = nnx.max_pool(x, pool, strides=pool) if pool != (1, 1, 1) else x
            x = getattr(self, f"conv{number + 2}")(x)
        return self.fc(x.mean((1, 2, 3)))

    def _check(self, shape: Sequence[int]) -> None:
        if len(shape) != 4 or any(side < least for side, least in zip(shape, self.least, strict=False)):
            frames, rows, columns = self.least
            raise ValueError(
                f"expected a clip [t h w 3] of at least {frames} frames of {rows} x {columns} pixels, got shape "
                f"{tuple(shape)}"
            )
