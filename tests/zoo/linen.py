"""The zoo in Linen. Flags are as users have them: `train` or `deterministic`, by default training, or none."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks import resnets
from tests.zoo.specimen import Specimen, randomized

QUESTION = np.linspace(-1, 1, 6, dtype=np.float32)


def specimen(module, image_shape=(32, 32, 3), inputs=()):
    """The module with the variables of a fixed seed, their values randomized; inputs are all by name here."""

    def build():
        image = jnp.zeros((1, *image_shape))
        named = {name: jnp.asarray(array)[None] for name, array in dict(inputs).items()}
        takes = inspect.signature(module.__call__).parameters
        flags = {name: value for name, value in {"train": False, "deterministic": True}.items() if name in takes}
        variables = jax.jit(lambda key: module.init(key, image, **named, **flags))(jax.random.key(0))
        return module, randomized(variables)

    return Specimen(build, image_shape, inputs)


class VGG(nn.Module):
    """Convolutions and max pooling, then dense layers with dropout; setup style."""

    def setup(self):
        self.conv1_1 = nn.Conv(8, (3, 3))
        self.conv1_2 = nn.Conv(8, (3, 3))
        self.conv2_1 = nn.Conv(16, (3, 3))
        self.conv2_2 = nn.Conv(16, (3, 3))
        self.fc1 = nn.Dense(32)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Dense(10)

    def __call__(self, x, *, train: bool):
        x = nn.relu(self.conv1_1(x))
        x = nn.relu(self.conv1_2(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(self.conv2_1(x))
        x = nn.relu(self.conv2_2(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape((x.shape[0], -1))
        x = self.dropout(nn.relu(self.fc1(x)), deterministic=not train)
        return self.fc2(x)


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, activation."""

    features: int
    size: int = 3
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x, train: bool = True, activation=nn.relu):
        size, strides = (self.size, self.size), (self.stride, self.stride)
        x = nn.Conv(self.features, size, strides, feature_group_count=self.groups, use_bias=False)(x)
        return activation(nn.BatchNorm(use_running_average=not train)(x))


class DenseNet(nn.Module):
    """Every layer of a block reads all those before it, concatenated; transitions halve."""

    growth: int = 4

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.Conv(8, (3, 3), strides=(2, 2), use_bias=False)(x)
        for _ in range(2):
            for _ in range(3):
                y = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
                y = nn.Conv(self.growth, (3, 3), use_bias=False)(y)
                x = jnp.concatenate([x, y], axis=-1)
            x = ConvNorm(x.shape[-1] // 2, 1)(x, train)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(10)(x.mean((1, 2)))


class MobileNetV2(nn.Module):
    """Inverted residuals: expand, depthwise convolution, linear projection; setup style."""

    def setup(self):
        self.stem = ConvNorm(8, stride=2)
        self.blocks = [InvertedResidual(8), InvertedResidual(12, stride=2), InvertedResidual(12)]
        self.last = ConvNorm(32, 1)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Dense(10)

    def __call__(self, x, train: bool = True):
        x = self.stem(x, train, nn.relu6)
        for block in self.blocks:
            x = block(x, train)
        x = self.last(x, train, nn.relu6).mean((1, 2))
        return self.classifier(self.dropout(x, deterministic=not train))


class InvertedResidual(nn.Module):
    features: int
    stride: int = 1
    expand: int = 3

    @nn.compact
    def __call__(self, x, train: bool):
        hidden = self.expand * x.shape[-1]
        y = ConvNorm(hidden, 1, name="expand_conv")(x, train, nn.relu6)
        y = ConvNorm(hidden, 3, self.stride, groups=hidden, name="depthwise")(y, train, nn.relu6)
        y = ConvNorm(self.features, 1, name="project")(y, train, lambda y: y)
        return x + y if x.shape == y.shape else y


class EfficientNet(nn.Module):
    """Inverted residuals with squeeze-and-excite, silu, and stochastic depth."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = ConvNorm(8, stride=2)(x, train, nn.silu)
        for features, size, stride in [(8, 3, 1), (12, 5, 2), (12, 5, 1)]:
            x = MBConv(features, size, stride)(x, train)
        x = ConvNorm(32, 1)(x, train, nn.silu)
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(10)(x)


class MBConv(nn.Module):
    features: int
    size: int
    stride: int
    expand: int = 3

    @nn.compact
    def __call__(self, x, train: bool):
        hidden = self.expand * x.shape[-1]
        y = ConvNorm(hidden, 1)(x, train, nn.silu)
        y = ConvNorm(hidden, self.size, self.stride, groups=hidden)(y, train, nn.silu)
        y = SqueezeExcite(x.shape[-1] // 4)(y)
        y = ConvNorm(self.features, 1)(y, train, lambda y: y)
        if x.shape != y.shape:
            return y
        # Stochastic depth: the same draw for a whole example.
        return x + nn.Dropout(0.5, broadcast_dims=(1, 2, 3))(y, deterministic=not train)


class SqueezeExcite(nn.Module):
    squeezed: int

    @nn.compact
    def __call__(self, x):
        gate = x.mean((1, 2), keepdims=True)
        gate = nn.silu(nn.Conv(self.squeezed, (1, 1), name="reduce")(gate))
        return x * nn.sigmoid(nn.Conv(x.shape[-1], (1, 1), name="expand")(gate))


class ConvNeXt(nn.Module):
    """Patchify stem, blocks with LayerNorm, gelu and layer scale, downsampling between stages."""

    @nn.compact
    def __call__(self, x, deterministic: bool = False):
        x = nn.LayerNorm()(nn.Conv(8, (4, 4), strides=(4, 4), name="stem")(x))
        for i in range(2):
            x = ConvNeXtBlock(name=f"stage0_block{i}")(x, deterministic)
        x = nn.Conv(16, (2, 2), strides=(2, 2), name="downsample")(nn.LayerNorm()(x))
        for i in range(2):
            x = ConvNeXtBlock(name=f"stage1_block{i}")(x, deterministic)
        return nn.Dense(10, name="head")(nn.LayerNorm()(x.mean((1, 2))))


class ConvNeXtBlock(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic: bool):
        width = x.shape[-1]
        y = nn.Conv(width, (7, 7), feature_group_count=width)(x)
        y = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(y)))
        gamma = self.param("gamma", nn.initializers.constant(1e-6), (1, 1, 1, width))
        y = gamma * nn.Dense(width)(y)
        return x + nn.Dropout(0.5, broadcast_dims=(1, 2, 3))(y, deterministic=deterministic)


class ViT(nn.Module):
    """Patches of 8 x 8, a class token, two encoder blocks, the head on the class token."""

    width: int = 16
    patch: int = 8

    @nn.compact
    def __call__(self, x, *, deterministic: bool = False):
        normal = nn.initializers.normal(0.2)
        patch = (self.patch, self.patch)
        x = nn.Conv(self.width, patch, strides=patch, padding="VALID", name="embedding")(x)
        x = x.reshape((x.shape[0], -1, self.width))
        cls = self.param("cls", normal, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(cls, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("pos_embedding", normal, (1, x.shape[1], self.width))
        x = nn.Dropout(0.5)(x, deterministic=deterministic)
        for i in range(2):
            x = EncoderBlock(name=f"block{i}")(x, deterministic)
        return nn.Dense(10, name="head")(nn.LayerNorm(name="norm")(x)[:, 0])


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic: bool):
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.5)(y, deterministic=deterministic)
        x = x + y
        y = nn.gelu(nn.Dense(2 * x.shape[-1])(nn.LayerNorm()(x)))
        y = nn.Dropout(0.5)(y, deterministic=deterministic)
        return x + nn.Dense(x.shape[-1])(y)


class UNet(nn.Module):
    """Dense prediction [b h w classes]: down, up, and the skip connections between."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        skips = []
        for width in (8, 12):
            x = ConvNorm(width)(x, train)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = ConvNorm(16)(x, train)
        for width, skip in zip((12, 8), reversed(skips), strict=True):
            x = nn.ConvTranspose(width, (2, 2), strides=(2, 2))(x)
            x = ConvNorm(width)(jnp.concatenate([x, skip], axis=-1), train)
        return nn.Conv(4, (1, 1))(x)


class CNN3D(nn.Module):
    """Convolutions over a volume."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.Conv(4, (3, 3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.max_pool(x, (2, 2, 2), strides=(2, 2, 2))
        x = nn.relu(nn.Conv(8, (3, 3, 3))(x))
        return nn.Dense(5)(x.mean((1, 2, 3)))


class TwoInputs(nn.Module):
    """An image and a question, which modulates the channels (FiLM)."""

    @nn.compact
    def __call__(self, image, question, train: bool = True):
        x = nn.relu(nn.Conv(8, (3, 3), strides=(2, 2))(image))
        x = nn.Conv(8, (3, 3), strides=(2, 2))(x)
        x = nn.BatchNorm(use_running_average=not train, use_bias=False, use_scale=False)(x)
        scale, shift = jnp.split(nn.Dense(16, name="film")(question)[:, None, None, :], 2, axis=-1)
        x = nn.relu(scale * x + shift)
        x = nn.relu(nn.Conv(8, (3, 3))(x)).mean((1, 2))
        return nn.Dense(10)(nn.Dropout(0.5)(x, deterministic=not train))


class CalledTwice(nn.Module):
    """One convolution of `setup` called twice in a row, the others once."""

    def setup(self):
        self.stem = nn.Conv(8, (3, 3), strides=(2, 2))
        self.refine = nn.Conv(8, (3, 3))
        self.last = nn.Conv(16, (3, 3), strides=(2, 2))
        self.fc = nn.Dense(10)

    def __call__(self, x):
        x = nn.relu(self.stem(x))
        for _ in range(2):
            x = x + nn.relu(self.refine(x))
        x = nn.relu(self.last(x))
        return self.fc(x.mean((1, 2)))


class Residual(nn.Module):
    """A block that the transformed models below share."""

    train: bool

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(x.shape[-1], (3, 3), use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=not self.train)(y))
        return x + nn.Dropout(0.5, deterministic=not self.train)(y)


RematResidual = nn.remat(Residual)
JitResidual = nn.jit(Residual)


class RematBlocks(nn.Module):
    """Two blocks of the same shape under nn.remat."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = ConvNorm(8, stride=2, name="stem")(x, train)
        for i in range(2):
            x = RematResidual(train, name=f"block{i}")(x)
        return nn.Dense(10, name="fc")(x.mean((1, 2)))


class JitBlocks(nn.Module):
    """Two blocks of the same shape under nn.jit: they share a trace."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = ConvNorm(8, stride=2, name="stem")(x, train)
        for i in range(2):
            x = JitResidual(train, name=f"block{i}")(x)
        return nn.Dense(10, name="fc")(x.mean((1, 2)))


class ScannedLayers(nn.Module):
    """Three blocks with stacked parameters, run by nn.scan."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        scan = nn.scan(
            lambda block, x, _: (block(x), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=3,
        )
        x = ConvNorm(8, stride=4, name="stem")(x, train)
        x, _ = scan(Residual(train, name="blocks"), x, None)
        x = nn.relu(nn.Conv(8, (3, 3), name="last")(x))
        return nn.Dense(10, name="fc")(x.mean((1, 2)))


def sequential():
    """Nothing but an nn.Sequential of layers and functions."""
    return nn.Sequential(
        [
            nn.Conv(8, (3, 3)),
            nn.relu,
            lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)),
            nn.Conv(16, (3, 3)),
            nn.GroupNorm(num_groups=4),
            nn.relu,
            lambda x: x.mean((1, 2)),
            nn.Dense(10),
        ]
    )


LINEN = {
    "vgg": specimen(VGG()),
    "sequential": specimen(sequential()),
    "resnet": specimen(resnets.LinenResNet(blocks=(2, 2), widths=(8, 16), classes=10)),
    "densenet": specimen(DenseNet()),
    "mobilenet_v2": specimen(MobileNetV2()),
    "efficientnet": specimen(EfficientNet()),
    "convnext": specimen(ConvNeXt()),
    "vit": specimen(ViT()),
    "unet": specimen(UNet(), (16, 16, 3)),
    "cnn_3d": specimen(CNN3D(), (8, 16, 16, 1)),
    "two_inputs": specimen(TwoInputs(), inputs={"question": QUESTION}),
    "called_twice": specimen(CalledTwice()),
    "remat": specimen(RematBlocks()),
    "jit": specimen(JitBlocks()),
    "scan": specimen(ScannedLayers()),
}
