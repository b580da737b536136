"""ConvNeXt in Flax NNX, with timm's names.

    >>> import jax, jaxcam
    >>> model = nnx.eval_shape(lambda: ConvNeXt(depths=(1, 2), widths=(96, 192), classes=10, rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["stages/0"], shapes["stages/1"], shapes["stages/1/blocks/0"], shapes["head/fc"]
    ((56, 56, 96), (28, 28, 192), (28, 28, 192), (10,))

Blocks and stages return sums without an activation, so their values are negative, too.

Images are floats in 0..1, RGB, `[b h w 3]`.

Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s", CVPR 2022, Figure 4 and Table 9.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import Activation, Chain, Mlp, checked_class_names, conv, layer_norm
from jaxcam.networks.vgg import torchvision


class Block(nnx.Module):
    """x + gamma MLP(norm(7 x 7 depthwise convolution of x)); gamma is the layer scale."""

    def __init__(self, channels: int, *, layer_scale: float, **init: Any):
        self.conv_dw = conv(channels, channels, 7, groups=channels, bias=True, **init)
        self.norm = layer_norm(channels, **init)
        self.mlp = Mlp(channels, 4 * channels, **init)
        self.gamma = nnx.Param(jnp.full(channels, layer_scale))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels]`."""
        return x + self.gamma[...].reshape(1, 1, 1, -1) * self.mlp(self.norm(self.conv_dw(x)))


class ConvNeXtStage(nnx.Module):
    """Halves the height and the width, but not in the first stage, and runs the stage's blocks."""

    def __init__(self, channels_in: int, channels: int, depth: int, *, layer_scale: float, **init: Any):
        halved = [
            layer_norm(channels_in, **init),
            conv(channels_in, channels, 2, stride=2, padding=0, bias=True, **init),
        ]
        self.downsample = None if channels_in == channels else Chain(halved)
        self.blocks = Chain([Block(channels, layer_scale=layer_scale, **init) for _ in range(depth)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[b h w channels]`."""
        return self.blocks(x if self.downsample is None else self.downsample(x))


class Head(nnx.Module):
    """Mean over space, layer norm, one linear layer."""

    def __init__(self, channels: int, classes: int, **init: Any):
        self.norm = layer_norm(channels, **init)
        self.fc = nnx.Linear(channels, classes, **init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `[b classes]`."""
        return self.fc(self.norm(x.mean((1, 2))))


class ConvNeXt(nnx.Module, ImageNetwork):
    """ConvNeXt: a 4 x 4 stem, four stages of blocks with depthwise convolutions, mean over space, norm, linear layer.

    Args:
      depths: the number of blocks in each stage; ConvNeXt-T's by default.
      widths: the channels of each stage.
      layer_scale: the initial value of gamma, the factors of the channels at the end of each block.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes, too.
      preprocess: applied to the image first, `[b h w 3] -> [b h w 3]`; None for nothing.
      class_names: one for each output, in the order of the classes; None if they are not known.
      kernel_init: draws the kernels; normal with a standard deviation of 0.02, truncated, by default.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: `class_names` that are not one for each class; not as many widths as depths.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 3, 9, 3),
        widths: Sequence[int] = (96, 192, 384, 768),
        layer_scale: float = 1e-6,
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        preprocess: Activation | None = torchvision,
        class_names: Sequence[str] | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.truncated_normal(0.02),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        if len(depths) != len(widths):
            raise ValueError(f"expected a width for each of {len(depths)} depths, got {len(widths)}")
        self.image_shape = tuple(image_shape)
        self.preprocess = preprocess
        self.class_names = checked_class_names(class_names, classes)
        init: dict[str, Any] = {"kernel_init": kernel_init, "rngs": rngs}
        self.stem = Chain(
            [conv(3, widths[0], 4, stride=4, padding=0, bias=True, **init), layer_norm(widths[0], **init)]
        )
        channels_in = (widths[0], *widths[:-1])
        self.stages = nnx.List([
            ConvNeXtStage(before, channels, depth, layer_scale=layer_scale, **init)
            for before, channels, depth in zip(channels_in, widths, depths, strict=True)
        ])  # fmt: skip
        self.head = Head(widths[-1], classes, **init)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`, floats in 0..1."""
        x = image if self.preprocess is None else self.preprocess(image)
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)
