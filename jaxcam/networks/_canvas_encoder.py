"""The convolutional encoder of the captioner and the answerer: 64 x 64 images to a map of 8 x 8 locations."""

import jax
import jax.numpy as jnp
from flax import nnx

TRUNK_CHANNELS = 64
LEVEL_CHANNELS = (16, 32, TRUNK_CHANNELS)  # of the blocks of `jaxcam.vgg_digits`, two convolutions each
COLOR_CHANNELS = 16
MAP_CHANNELS = 48


def _convolution(channels_in: int, channels_out: int, stride: int = 1, *, rngs: nnx.Rngs) -> nnx.Conv:
    he = nnx.initializers.he_normal()
    return nnx.Conv(channels_in, channels_out, (3, 3), strides=stride, kernel_init=he, rngs=rngs)


class Trunk(nnx.Module):
    """The convolutions of `jaxcam.vgg_digits` up to `block3_pool`, with its names: `[n 64 64 3]` to `[n 8 8 64]`."""

    def __init__(self, *, rngs: nnx.Rngs):
        channels = 3
        for number, width in enumerate(LEVEL_CHANNELS, start=1):
            setattr(self, f"block{number}_conv1", _convolution(channels, width, rngs=rngs))
            setattr(self, f"block{number}_conv2", _convolution(width, width, rngs=rngs))
            channels = width

    def __call__(self, images: jax.Array) -> jax.Array:
        """The output of `block3_pool`."""
        x = images
        for number in range(1, len(LEVEL_CHANNELS) + 1):
            x = jax.nn.relu(getattr(self, f"block{number}_conv1")(x))
            x = jax.nn.relu(getattr(self, f"block{number}_conv2")(x))
            x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return x


class CanvasEncoder(nnx.Module):
    """Two convolutions behind the trunk, and a short path from the image's colors, which the trunk hardly tells apart.

    Args:
      rngs: where the initial parameters come from.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.trunk = Trunk(rngs=rngs)
        self.color1 = _convolution(3, COLOR_CHANNELS, 2, rngs=rngs)
        self.color2 = _convolution(COLOR_CHANNELS, 2 * COLOR_CHANNELS, 2, rngs=rngs)
        self.conv1 = _convolution(TRUNK_CHANNELS + 2 * COLOR_CHANNELS, 64, rngs=rngs)
        self.conv2 = _convolution(64, MAP_CHANNELS, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """The map `[n 8 8 48]` of the images `[n 64 64 3]`, after its relu."""
        return self.behind_trunk(self.trunk(images), images)

    def behind_trunk(self, x: jax.Array, images: jax.Array) -> jax.Array:
        """The map from the trunk's output `[n 8 8 64]`, which training computes once."""
        colors = jax.nn.relu(self.color2(jax.nn.relu(self.color1(images))))
        x = jnp.concatenate([x, nnx.max_pool(colors, (2, 2), strides=(2, 2))], -1)
        return jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(x))))


def row_and_column_means(A: jax.Array) -> jax.Array:
    """The mean of every row and of every column of a map `[n rows columns k]`, as `[n (rows + columns) k]` in one axis.

    They say how many and where, with a small part of the numbers that the flattened map has.
    """
    return jnp.concatenate([A.mean(2).reshape(len(A), -1), A.mean(1).reshape(len(A), -1)], -1)
