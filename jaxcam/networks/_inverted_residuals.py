"""The blocks of MobileNetV2 and EfficientNet, with timm's names."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import Activation, BatchNormAct, Chain, checked_class_names, conv
from jaxcam.networks.efficientnet import Stage
from jaxcam.networks.vgg import torchvision


class SqueezeExcite(nnx.Module):
    """A gate for each channel, from the channels' means: x sigmoid(W2 silu(W1 mean(x)))."""

    def __init__(self, channels: int, reduced: int, **init: Any):
        self.conv_reduce = conv(channels, reduced, 1, bias=True, **init)
        self.conv_expand = conv(reduced, channels, 1, bias=True, **init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The gated value, `[b h w channels]`."""
        squeezed = jax.nn.silu(self.conv_reduce(x.mean((1, 2), keepdims=True)))
        return x * jax.nn.sigmoid(self.conv_expand(squeezed))


class DepthwiseSeparable(nnx.Module):
    """A depthwise convolution and a linear 1 x 1 convolution: the first block, which does not expand."""

    def __init__(
        self, channels_in: int, stage: Stage, *, stride: int, activation: Activation, gated: bool, **init: Any
    ):
        self.conv_dw = conv(channels_in, channels_in, stage.kernel, stride=stride, groups=channels_in, **init)
        self.bn1 = BatchNormAct(channels_in, activation=activation, **init)
        self.se = SqueezeExcite(channels_in, channels_in // 4, **init) if gated else None
        self.conv_pw = conv(channels_in, stage.channels, 1, **init)
        self.bn2 = BatchNormAct(stage.channels, **init)
        self.has_shortcut = stride == 1 and channels_in == stage.channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels]`."""
        filtered = self.bn1(self.conv_dw(x))
        filtered = filtered if self.se is None else self.se(filtered)
        projected = self.bn2(self.conv_pw(filtered))
        return x + projected if self.has_shortcut else projected


class InvertedResidual(nnx.Module):
    """1 x 1 expansion, depthwise convolution, linear 1 x 1 projection, and a shortcut where the shapes agree."""

    def __init__(
        self, channels_in: int, stage: Stage, *, stride: int, activation: Activation, gated: bool, **init: Any
    ):
        width = channels_in * stage.expansion
        self.conv_pw = conv(channels_in, width, 1, **init)
        self.bn1 = BatchNormAct(width, activation=activation, **init)
        self.conv_dw = conv(width, width, stage.kernel, stride=stride, groups=width, **init)
        self.bn2 = BatchNormAct(width, activation=activation, **init)
        self.se = SqueezeExcite(width, channels_in // 4, **init) if gated else None
        self.conv_pwl = conv(width, stage.channels, 1, **init)
        self.bn3 = BatchNormAct(stage.channels, **init)
        self.has_shortcut = stride == 1 and channels_in == stage.channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels]`."""
        filtered = self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))
        filtered = filtered if self.se is None else self.se(filtered)
        projected = self.bn3(self.conv_pwl(filtered))
        return x + projected if self.has_shortcut else projected


def blocks_of(stages: Sequence[Stage], channels: int, **options: Any) -> nnx.List[Chain]:
    """The blocks of each stage, `blocks/STAGE/BLOCK`; the first block of a stage has the stride.

    Args:
      stages: the rows of the network's table.
      channels: those of the stem.
      **options: the `activation` of the blocks, whether they are `gated`, and how parameters are drawn.
    """
    chains = []
    for stage in stages:
        block = DepthwiseSeparable if stage.expansion == 1 else InvertedResidual
        blocks = []
        for place in range(stage.repeats):
            blocks.append(block(channels, stage, stride=stage.stride if place == 0 else 1, **options))
            channels = stage.channels
        chains.append(Chain(blocks))
    return nnx.List(chains)


class InvertedResidualNetwork(nnx.Module, ImageNetwork):
    """A stem, inverted residual blocks, a 1 x 1 convolution, mean over space, one linear layer.

    Args:
      stages: the rows of the network's table between the stem and the last convolution.
      activation: behind every convolution but those at the end of a block.
      gated: whether the blocks have a squeeze-and-excite gate.
      stem: the channels of the first convolution.
      head: the channels of the last convolution.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes, too.
      preprocess: applied to the image first, `[b h w 3] -> [b h w 3]`; None for nothing.
      class_names: one for each output, in the order of the classes; None if they are not known.
      kernel_init: draws the kernels of the convolutions; He et al. 2015 by default.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: `class_names` that are not one for each class.
    """

    def __init__(
        self,
        *,
        stages: Sequence[Stage],
        activation: Activation,
        gated: bool,
        stem: int = 32,
        head: int = 1280,
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        preprocess: Activation | None = torchvision,
        class_names: Sequence[str] | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        self.image_shape = tuple(image_shape)
        self.preprocess = preprocess
        self.class_names = checked_class_names(class_names, classes)
        init: dict[str, Any] = {"kernel_init": kernel_init, "rngs": rngs}
        self.conv_stem = conv(3, stem, 3, stride=2, **init)
        self.bn1 = BatchNormAct(stem, activation=activation, **init)
        self.blocks = blocks_of(stages, stem, activation=activation, gated=gated, **init)
        self.conv_head = conv(stages[-1].channels, head, 1, **init)
        self.bn2 = BatchNormAct(head, activation=activation, **init)
        self.classifier = nnx.Linear(head, classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`, floats in 0..1."""
        x = image if self.preprocess is None else self.preprocess(image)
        x = self.bn1(self.conv_stem(x))
        for blocks in self.blocks:
            x = blocks(x)
        return self.classifier(self.bn2(self.conv_head(x)).mean((1, 2)))
