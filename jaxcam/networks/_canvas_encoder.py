"""The convolutional encoder of the captioner and the answerer: 64 x 64 images to a map of 8 x 8 locations."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.networks.masks import Convolutions, add_blocks

BLOCK_CHANNELS = (16, 32, 64)  # of the blocks of `jaxcam.vgg_digits`, two convolutions each
COLOR_CHANNELS = 16
MAP_CHANNELS = 48
BLOCKS_SCALE = 0.2  # the values of the blocks are several times as large as those of the colors before training


class CanvasEncoder(nnx.Module):
    """The first blocks of `jaxcam.vgg_digits` and a path for colors, which the blocks hardly tell apart, joined.

    Args:
      rngs: where the initial parameters come from.
    """

    block1: Convolutions
    block2: Convolutions
    block3: Convolutions

    def __init__(self, *, rngs: nnx.Rngs):
        he = nnx.initializers.he_normal()
        add_blocks(self, BLOCK_CHANNELS, plain=len(BLOCK_CHANNELS), rngs=rngs)
        self.color1 = nnx.Conv(3, COLOR_CHANNELS, (3, 3), strides=2, kernel_init=he, rngs=rngs)
        self.color2 = nnx.Conv(COLOR_CHANNELS, 2 * COLOR_CHANNELS, (3, 3), strides=2, kernel_init=he, rngs=rngs)
        self.joined = Convolutions(BLOCK_CHANNELS[-1] + 2 * COLOR_CHANNELS, 96, norm=True, rngs=rngs)
        self.map = Convolutions(96, MAP_CHANNELS, length=1, norm=True, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """The map `[n 8 8 48]` of the images `[n 64 64 3]`, after its ReLU."""
        return self.behind_block2(self.up_to_block2(images), images)

    def up_to_block2(self, images: jax.Array) -> jax.Array:
        """The value `[n 16 16 32]` behind the second block, which training computes once."""
        return _halved(self.block2(_halved(self.block1(images))))

    def behind_block2(self, x: jax.Array, images: jax.Array) -> jax.Array:
        """The map from the value behind the second block."""
        colors = jax.nn.relu(self.color2(jax.nn.relu(self.color1(images))))
        x = jnp.concatenate([BLOCKS_SCALE * _halved(self.block3(x)), _halved(colors)], -1)
        return self.map(self.joined(x))


def _halved(x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


def row_and_column_means(A: jax.Array) -> jax.Array:
    """The mean of every row and of every column of a map `[n rows columns k]`, as `[n (rows + columns) k]` in one axis.

    They say how many and where, with a small part of the numbers that the flattened map has.
    """
    return jnp.concatenate([A.mean(2).reshape(len(A), -1), A.mean(1).reshape(len(A), -1)], -1)
