"""EfficientNet-Lite in Flax NNX: an ImageNet classifier that is small, and piecewise linear.

EfficientNet-Lite is EfficientNet without squeeze-and-excite and with ReLU6 for swish. So its head is locally affine at
every layer, and the closed form of Grad-CAM++ is exact there.

    >>> import jax, jaxcam
    >>> from flax import nnx
    >>> model = EfficientNetLite(classes=10, image_shape=(64, 64, 3), rngs=nnx.Rngs(0))
    >>> shapes = jaxcam.layers(model, model.image_shape)
    >>> shapes["blocks/4"], shapes["blocks/4/depthwise"], shapes["head"], shapes["classifier"]
    ((8, 8, 40), (8, 8, 240), (2, 2, 1280), (10,))

The value of `stem`, `head`, and of `expand` and `depthwise` in a block, is the one after its ReLU6. A block and its
`project` have no activation behind them, so their values are negative, too.

Images are floats in 0..1, RGB, `[b h w 3]`.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019, Table 1; the Lite
variants were published with the TPU repository's EfficientNet code.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import checked_class_names


class Stage(NamedTuple):
    """A row of Table 1: `repeats` blocks, the first of which has the stride."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    repeats: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
Activation = Callable[[jax.Array], jax.Array]
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


def centered(image: jax.Array) -> jax.Array:
    """RGB in 0..1 to (255 image - 127) / 128: what the published weights expect."""
    return (255 * image - 127) / 128


class ConvNorm(nnx.Module):
    """A convolution without a bias, batch norm with the running statistics, and the activation if there is one.

    `init` has the `rngs` and the `kernel_init`.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None,
        **init: Any,
    ):
        self.conv = nnx.Conv(
            channels_in, channels_out, (kernel, kernel), strides=stride, feature_group_count=groups, use_bias=False,
            **init,
        )  # fmt: skip
        self.norm = nnx.BatchNorm(channels_out, epsilon=1e-3, use_running_average=True, rngs=init["rngs"])
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels_out]`."""
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class InvertedResidual(nnx.Module):
    """1 x 1 expansion, depthwise convolution, linear 1 x 1 projection, and a shortcut where the shapes agree."""

    def __init__(self, channels_in: int, stage: Stage, *, stride: int, **init: Any):
        width = channels_in * stage.expansion
        self.expand = None if stage.expansion == 1 else ConvNorm(channels_in, width, 1, **init)
        self.depthwise = ConvNorm(width, width, stage.kernel, stride=stride, groups=width, **init)
        self.project = ConvNorm(width, stage.channels, 1, **{**init, "activation": None})
        self.has_shortcut = stride == 1 and channels_in == stage.channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels]`."""
        expanded = x if self.expand is None else self.expand(x)
        projected = self.project(self.depthwise(expanded))
        return x + projected if self.has_shortcut else projected


class EfficientNetLite(nnx.Module, ImageNetwork):
    """EfficientNet-Lite: a stem, inverted residual blocks, a 1 x 1 convolution, mean over space, one linear layer.

    Args:
      width: the factor of the channels of the blocks, 1.0 for Lite0; the stem and the last convolution have 32 and
        1,280 channels in every variant.
      depth: the factor of the number of blocks in a stage, 1.0 for Lite0; the first and the last stage have one block
        in every variant.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes, too.
      class_names: one for each output, in the order of the classes; None if they are not known.
      activation: the elementwise function in the place of ReLU6. The closed form of Grad-CAM++ is exact where it is
        piecewise linear.
      kernel_init: draws the kernels of the convolutions; He et al. 2015 by default.
      rngs: where the initial parameters come from.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        class_names: tuple[str, ...] | None = None,
        activation: Activation = jax.nn.relu6,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        self.image_shape = tuple(image_shape)
        self.class_names = checked_class_names(class_names, classes)
        init: dict[str, Any] = {"activation": activation, "kernel_init": kernel_init, "rngs": rngs}
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2, **init)
        blocks, channels = [], STEM_CHANNELS
        for stage in STAGES:
            stage = stage._replace(channels=_round_to_eight(width * stage.channels))
            repeats = 1 if stage.repeats == 1 else math.ceil(depth * stage.repeats)
            for number in range(repeats):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedResidual(channels, stage, stride=stride, **init))
                channels = stage.channels
        self.blocks = nnx.List(blocks)
        self.head = ConvNorm(channels, HEAD_CHANNELS, 1, **init)
        self.classifier = nnx.Linear(HEAD_CHANNELS, classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`, floats in 0..1."""
        x = self.stem(centered(image))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((1, 2)))


def _round_to_eight(channels: float) -> int:
    """The nearest multiple of 8, at least 90% of the value."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
