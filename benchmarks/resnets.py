"""ResNet-18 as published, in NNX and in Linen: what the benchmarks run on. By its arguments also a small one."""

import functools
from collections.abc import Sequence

import jax
from flax import linen, nnx

BLOCKS = (2, 2, 2, 2)
WIDTHS = (64, 128, 256, 512)


class BasicBlock(nnx.Module):
    """Two convolutions and a shortcut, which is a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, rngs: nnx.Rngs):
        conv = functools.partial(nnx.Conv, use_bias=False, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.conv1 = conv(inputs, outputs, (3, 3), strides=stride, padding=1)
        self.bn1 = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)
        self.conv2 = conv(outputs, outputs, (3, 3), padding=1)
        self.bn2 = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)
        projection = None
        if stride != 1 or inputs != outputs:
            norm = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)
            projection = nnx.Sequential(conv(inputs, outputs, (1, 1), strides=stride), norm)
        self.shortcut = projection

    def __call__(self, x: jax.Array) -> jax.Array:
        """[b h w inputs] to [b h/stride w/stride outputs]."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """Images [b h w 3] to logits [b classes]."""

    def __init__(
        self,
        *,
        blocks: Sequence[int] = BLOCKS,
        widths: Sequence[int] = WIDTHS,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        he = nnx.initializers.he_normal()
        self.conv = nnx.Conv(3, widths[0], (7, 7), strides=2, padding=3, use_bias=False, kernel_init=he, rngs=rngs)
        self.bn = nnx.BatchNorm(widths[0], momentum=0.9, rngs=rngs)
        self.stages: nnx.List[nnx.List[BasicBlock]] = nnx.List()
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            self.stages.append(nnx.List())
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages[-1].append(BasicBlock(inputs, width, stride=stride, rngs=rngs))
                inputs = width
        self.fc = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits, in the mode (`train` or `eval`) that the model is in."""
        x = nnx.relu(self.bn(self.conv(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.fc(x.mean((1, 2)))


class LinenBasicBlock(linen.Module):
    """`BasicBlock` in Linen."""

    width: int
    stride: int = 1

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b h w inputs] to [b h/stride w/stride width]."""
        conv = functools.partial(linen.Conv, use_bias=False, kernel_init=linen.initializers.he_normal())
        norm = functools.partial(linen.BatchNorm, use_running_average=not train, momentum=0.9)
        y = conv(self.width, (3, 3), strides=self.stride, padding=1, name="conv1")(x)
        y = linen.relu(norm(name="bn1")(y))
        y = norm(name="bn2")(conv(self.width, (3, 3), padding=1, name="conv2")(y))
        if x.shape != y.shape:
            x = conv(self.width, (1, 1), strides=self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_bn")(x)
        return linen.relu(y + x)


class LinenResNet(linen.Module):
    """`ResNet` in Linen."""

    blocks: Sequence[int] = BLOCKS
    widths: Sequence[int] = WIDTHS
    classes: int = 1000

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Logits [b classes] of images [b h w 3]."""
        he = linen.initializers.he_normal()
        x = linen.Conv(self.widths[0], (7, 7), strides=2, padding=3, use_bias=False, kernel_init=he, name="conv")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, momentum=0.9, name="bn")(x))
        x = linen.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                x = LinenBasicBlock(width, stride, name=f"stage{stage}_block{block}")(x, train)
        return linen.Dense(self.classes, name="fc")(x.mean((1, 2)))
