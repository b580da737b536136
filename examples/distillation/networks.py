"""The teachers and students by their names: "vgg-64", "cnn-32", "wrn-16-2".

"vgg-64" is the network of the embedded digits; the number is that of the channels in its last block, and all other
widths are in proportion. "cnn-32" has four convolutions, the last two with 32 channels, and a maximum over space, which
learns in few steps where a digit may be anywhere. "wrn-16-2" is a wide residual network with 16 layers and 2 times the
width.

The wide residual networks have group norm where the paper has batch norm. A map in a loss belongs to the network that
the cut runs, which is in eval mode, with running statistics; the cross-entropy would see the statistics of the batch,
so that the two terms would teach two functions. With group norm there is one function of one image.
"""

import re

import jax
from flax import nnx

import jaxcam
from jaxcam.cutting import ImageNetwork

GROUPS = 8  # of a group norm, of two channels or more
LAYERS = {"vgg": "block3_conv2", "cnn": "last", "wrn": "last"}


class Normed(nnx.Module):
    """Group norm and ReLU."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.norm = nnx.GroupNorm(channels, num_groups=GROUPS, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The value after the ReLU."""
        return jax.nn.relu(self.norm(x))


class Block(nnx.Module):
    """Norm, ReLU and convolution, twice, beside a shortcut; the first norm serves the shortcut too if shapes change."""

    def __init__(self, channels: int, width: int, *, stride: int, rngs: nnx.Rngs):
        self.norm1 = Normed(channels, rngs=rngs)
        self.conv1 = _convolution(channels, width, 3, stride, rngs)
        self.norm2 = Normed(width, rngs=rngs)
        self.conv2 = _convolution(width, width, 3, 1, rngs)
        changes = stride > 1 or channels != width
        self.shortcut = _convolution(channels, width, 1, stride, rngs) if changes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w width]`."""
        normed = self.norm1(x)
        shortcut = x if self.shortcut is None else self.shortcut(normed)
        return shortcut + self.conv2(self.norm2(self.conv1(normed)))


class Convolved(nnx.Module):
    """A 3 x 3 convolution and ReLU."""

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        self.convolution = nnx.Conv(channels, width, (3, 3), kernel_init=nnx.initializers.he_normal(), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The value after the ReLU."""
        return jax.nn.relu(self.convolution(x))


class SmallNetwork(nnx.Module, ImageNetwork):
    """Four convolutions, the first two before a maximum of 2 x 2 pixels; the maximum over space; two linear layers.

    Args:
      width: the channels of the last convolution, and of the hidden layer.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image, floats in 0..1.
      rngs: where the initial parameters come from.
    """

    def __init__(self, width: int, *, classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs):
        self.image_shape = image_shape
        self.block1 = Convolved(3, width // 4, rngs=rngs)
        self.block2 = Convolved(width // 4, width // 2, rngs=rngs)
        self.block3 = Convolved(width // 2, width, rngs=rngs)
        self.last = Convolved(width, width, rngs=rngs)
        self.hidden = nnx.Linear(width, width, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.predictions = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`."""
        x = _halved(self.block2(_halved(self.block1(image))))
        x = self.last(self.block3(x)).max((1, 2))
        return self.predictions(jax.nn.relu(self.hidden(x)))


class WideResNet(nnx.Module, ImageNetwork):
    """A wide residual network: a convolution, three groups of blocks, norm and ReLU, mean over space, a linear layer.

    Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016, Table 1, with group norm in the place of batch norm.

    Args:
      depth: 6 n + 4 for n blocks in each group.
      widening: k; the groups have 16 k, 32 k and 64 k channels.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image, floats in 0..1.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: no such depth.
    """

    def __init__(self, depth: int, widening: int, *, classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs):
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"expected a depth of 6 n + 4, such as 10, 16 or 40, got {depth}")
        self.image_shape = image_shape
        self.conv1 = _convolution(3, 16, 3, 1, rngs)
        blocks = []
        channels = 16
        for group in range(3):
            for place in range((depth - 4) // 6):
                width = 16 * widening * 2**group
                blocks.append(Block(channels, width, stride=2 if group and not place else 1, rngs=rngs))
                channels = width
        self.blocks = nnx.List(blocks)
        self.last = Normed(channels, rngs=rngs)
        self.fc = nnx.Linear(channels, classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`."""
        x = self.conv1(4 * (image - 0.5))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.last(x).mean((1, 2)))


def build(name: str, *, image_shape: tuple[int, int, int], seed: int, classes: int = 10) -> nnx.Module:
    """A network by its name, with random parameters.

    Raises:
      ValueError: a name of another form.
    """
    rngs = nnx.Rngs(seed)
    if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        depth, widening = map(int, match.groups())
        return WideResNet(depth, widening, classes=classes, image_shape=image_shape, rngs=rngs)
    if match := re.fullmatch(r"vgg-(\d+)", name):
        scale = int(match[1]) / 64
        blocks = [[round(width * scale)] * 2 for width in (16, 32, 64)]
        dense = [round(width * scale) for width in (128, 64)]
        return jaxcam.vgg_digits(blocks=blocks, dense=dense, classes=classes, image_shape=image_shape, rngs=rngs)
    if match := re.fullmatch(r"cnn-(\d+)", name):
        return SmallNetwork(int(match[1]), classes=classes, image_shape=image_shape, rngs=rngs)
    raise ValueError(f"expected a network such as vgg-64, cnn-32 or wrn-16-2, got {name!r}")


def layer_of(name: str) -> str:
    """The layer of a network's maps: its last convolutional one, after the ReLU."""
    return LAYERS[name[:3]]


def _halved(x: jax.Array) -> jax.Array:
    """The maxima of 2 x 2 pixels. XLA's gradient of this is several times as fast on a CPU as that of a window's."""
    b, h, w, channels = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, channels).max((2, 4))


def _convolution(channels: int, width: int, kernel: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        channels, width, (kernel, kernel), strides=stride, padding=(kernel - 1) // 2, use_bias=False,
        kernel_init=nnx.initializers.he_normal(), rngs=rngs,
    )  # fmt: skip
