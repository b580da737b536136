"""ResNet in Flax NNX, with the names of torchvision and timm.

    >>> import jax, jaxcam
    >>> model = nnx.eval_shape(lambda: ResNet(block="bottleneck", depths=(1, 2), classes=10, rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["layer1"], shapes["layer2"], shapes["layer2/1/conv2"], shapes["fc"]
    ((56, 56, 256), (28, 28, 512), (28, 28, 128), (10,))

`layer1` to `layer4`, and the blocks in them, `layer4/0`, return the value after the last ReLU. `bn1`, `bn2`, `bn3`
return the value in front of the activation: cut there with `after=jax.nn.relu`.

The stride of a bottleneck is at its 3 x 3 convolution, as in torchvision and timm, which is not the paper's place.

Images are floats in 0..1, RGB, `[b h w 3]`.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, Table 1.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import Activation, BatchNormAct, Chain, checked_class_names, conv
from jaxcam.networks.vgg import torchvision


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions beside a shortcut, and ReLU after their sum."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, *, stride: int, **init: Any):
        self.conv1 = conv(channels_in, width, 3, stride=stride, **init)
        self.bn1 = BatchNormAct(width, **init)
        self.conv2 = conv(width, width, 3, **init)
        self.bn2 = BatchNormAct(width, **init)
        self.downsample = _shortcut(channels_in, width, stride, init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w width]`, after its ReLU."""
        residual = jax.nn.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        shortcut = x if self.downsample is None else self.downsample(x)
        return jax.nn.relu(residual + shortcut)


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut, and ReLU after their sum."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, *, stride: int, **init: Any):
        channels = self.expansion * width
        self.conv1 = conv(channels_in, width, 1, **init)
        self.bn1 = BatchNormAct(width, **init)
        self.conv2 = conv(width, width, 3, stride=stride, **init)
        self.bn2 = BatchNormAct(width, **init)
        self.conv3 = conv(width, channels, 1, **init)
        self.bn3 = BatchNormAct(channels, **init)
        self.downsample = _shortcut(channels_in, channels, stride, init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w 4 width]`, after its ReLU."""
        residual = jax.nn.relu(self.bn1(self.conv1(x)))
        residual = jax.nn.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        shortcut = x if self.downsample is None else self.downsample(x)
        return jax.nn.relu(residual + shortcut)


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(nnx.Module, ImageNetwork):
    """ResNet: a stem, four layers of residual blocks, mean over space, one linear layer.

    Args:
      block: "basic" has two convolutions, as ResNet-18 and 34; "bottleneck" has three, as ResNet-50.
      depths: the number of blocks in each layer.
      width: the channels of the stem, and of the 3 x 3 convolutions in the first layer; they double in each layer.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes, too.
      preprocess: applied to the image first, `[b h w 3] -> [b h w 3]`; None for nothing.
      class_names: one for each output, in the order of the classes; None if they are not known.
      kernel_init: draws the kernels of the convolutions; He et al. 2015 by default.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: a `block` of another kind; `class_names` that are not one for each class.
    """

    def __init__(
        self,
        *,
        block: str,
        depths: Sequence[int],
        width: int = 64,
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        preprocess: Activation | None = torchvision,
        class_names: Sequence[str] | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        if block not in BLOCKS:
            raise ValueError(f"expected {' or '.join(map(repr, BLOCKS))} for block, got {block!r}")
        self.image_shape = tuple(image_shape)
        self.preprocess = preprocess
        self.class_names = checked_class_names(class_names, classes)
        init: dict[str, Any] = {"kernel_init": kernel_init, "rngs": rngs}
        self.conv1 = conv(3, width, 7, stride=2, **init)
        self.bn1 = BatchNormAct(width, **init)
        self.depth = len(depths)
        channels = width
        for number, depth in enumerate(depths):
            blocks = []
            for place in range(depth):
                stride = 2 if number and place == 0 else 1
                blocks.append(BLOCKS[block](channels, width * 2**number, stride=stride, **init))
                channels = BLOCKS[block].expansion * width * 2**number
            setattr(self, f"layer{number + 1}", Chain(blocks))
        self.fc = nnx.Linear(channels, classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`, floats in 0..1."""
        x = image if self.preprocess is None else self.preprocess(image)
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for number in range(self.depth):
            x = getattr(self, f"layer{number + 1}")(x)
        return self.fc(x.mean((1, 2)))


def _shortcut(channels_in: int, channels: int, stride: int, init: dict[str, Any]) -> Chain | None:
    """A 1 x 1 convolution and batch norm where a block changes the shape; None where it does not."""
    if stride == 1 and channels_in == channels:
        return None
    return Chain([conv(channels_in, channels, 1, stride=stride, **init), BatchNormAct(channels, **init)])
