"""The zoo in NNX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import resnets
from tests.zoo.specimen import Specimen, randomized


def built(model_class, *arguments):
    """A build function: the model from a fixed seed, its state randomized, in training mode as it comes."""

    def build():
        model = model_class(*arguments, rngs=nnx.Rngs(0))
        state = nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat)))
        nnx.update(model, randomized(state))
        return model

    return build


class ConvNorm(nnx.Module):
    """Convolution, BatchNorm, activation."""

    def __init__(self, inputs, outputs, size=3, *, stride=1, groups=1, activation=nnx.relu, rngs):
        self.conv = nnx.Conv(
            inputs, outputs, (size, size), strides=stride, feature_group_count=groups, use_bias=False, rngs=rngs
        )
        self.bn = nnx.BatchNorm(outputs, rngs=rngs)
        self.activation = activation

    def __call__(self, x):
        return self.activation(self.bn(self.conv(x)))


class VGG(nnx.Module):
    """Convolutions and max pooling, then dense layers with dropout."""

    def __init__(self, *, rngs):
        self.conv1_1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.conv1_2 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.conv2_1 = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.conv2_2 = nnx.Conv(16, 16, (3, 3), rngs=rngs)
        self.fc1 = nnx.Linear(8 * 8 * 16, 32, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.fc2 = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv1_1(x))
        x = nnx.relu(self.conv1_2(x))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = nnx.relu(self.conv2_1(x))
        x = nnx.relu(self.conv2_2(x))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = self.dropout(nnx.relu(self.fc1(x)))
        return self.fc2(x)


def sequential(*, rngs):
    """Nothing but an nnx.Sequential of layers and functions."""
    return nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), rngs=rngs),
        nnx.relu,
        lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)),
        nnx.Conv(8, 16, (3, 3), rngs=rngs),
        nnx.BatchNorm(16, rngs=rngs),
        nnx.relu,
        lambda x: x.mean((1, 2)),
        nnx.Dropout(0.5, rngs=rngs),
        nnx.Linear(16, 10, rngs=rngs),
    )


class DenseNet(nnx.Module):
    """Every layer of a block reads all those before it, concatenated; transitions halve."""

    def __init__(self, *, growth=4, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.blocks = nnx.List()
        self.transitions = nnx.List()
        width = 8
        for _ in range(2):
            layers = nnx.List()
            for _ in range(3):
                layers.append(DenseLayer(width, growth, rngs=rngs))
                width += growth
            self.blocks.append(layers)
            self.transitions.append(ConvNorm(width, width // 2, 1, rngs=rngs))
            width //= 2
        self.classifier = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for layers, transition in zip(self.blocks, self.transitions, strict=True):
            for layer in layers:
                x = jnp.concatenate([x, layer(x)], axis=-1)
            x = nnx.max_pool(transition(x), (2, 2), strides=(2, 2))
        return self.classifier(x.mean((1, 2)))


class DenseLayer(nnx.Module):
    def __init__(self, inputs, growth, *, rngs):
        self.norm = nnx.BatchNorm(inputs, rngs=rngs)
        self.conv = nnx.Conv(inputs, growth, (3, 3), use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.conv(nnx.relu(self.norm(x)))


class MobileNetV2(nnx.Module):
    """Inverted residuals: expand, depthwise convolution, linear projection."""

    def __init__(self, *, rngs):
        self.stem = ConvNorm(3, 8, stride=2, activation=nnx.relu6, rngs=rngs)
        self.blocks = nnx.Sequential(
            InvertedResidual(8, 8, rngs=rngs),
            InvertedResidual(8, 12, stride=2, rngs=rngs),
            InvertedResidual(12, 12, rngs=rngs),
        )
        self.last = ConvNorm(12, 32, 1, activation=nnx.relu6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.classifier = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.last(self.blocks(self.stem(x)))
        return self.classifier(self.dropout(jnp.mean(x, axis=(1, 2))))


class InvertedResidual(nnx.Module):
    def __init__(self, inputs, outputs, *, stride=1, expand=3, rngs):
        hidden = inputs * expand
        self.expand = ConvNorm(inputs, hidden, 1, activation=nnx.relu6, rngs=rngs)
        self.depthwise = ConvNorm(hidden, hidden, stride=stride, groups=hidden, activation=nnx.relu6, rngs=rngs)
        self.project = ConvNorm(hidden, outputs, 1, activation=nnx.identity, rngs=rngs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNet(nnx.Module):
    """Inverted residuals with squeeze-and-excite, silu, and stochastic depth."""

    def __init__(self, *, rngs):
        self.stem = ConvNorm(3, 8, stride=2, activation=nnx.silu, rngs=rngs)
        self.blocks = nnx.List(
            [
                MBConv(8, 8, rngs=rngs),
                MBConv(8, 12, size=5, stride=2, rngs=rngs),
                MBConv(12, 12, size=5, rngs=rngs),
            ]
        )
        self.head = ConvNorm(12, 32, 1, activation=nnx.silu, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.fc = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.head(x).mean(axis=(1, 2))
        return self.fc(self.dropout(x))


class MBConv(nnx.Module):
    def __init__(self, inputs, outputs, *, size=3, stride=1, expand=3, rngs):
        hidden = inputs * expand
        self.expand = ConvNorm(inputs, hidden, 1, activation=nnx.silu, rngs=rngs)
        self.depthwise = ConvNorm(hidden, hidden, size, stride=stride, groups=hidden, activation=nnx.silu, rngs=rngs)
        self.squeeze_excite = SqueezeExcite(hidden, inputs // 4, rngs=rngs)
        self.project = ConvNorm(hidden, outputs, 1, activation=nnx.identity, rngs=rngs)
        self.residual = stride == 1 and inputs == outputs
        # Stochastic depth: the same draw for a whole example.
        self.drop_path = nnx.Dropout(0.5, broadcast_dims=(1, 2, 3), rngs=rngs)

    def __call__(self, x):
        y = self.depthwise(self.expand(x))
        y = self.project(self.squeeze_excite(y))
        return x + self.drop_path(y) if self.residual else y


class SqueezeExcite(nnx.Module):
    def __init__(self, width, squeezed, *, rngs):
        self.reduce = nnx.Conv(width, squeezed, (1, 1), rngs=rngs)
        self.expand = nnx.Conv(squeezed, width, (1, 1), rngs=rngs)

    def __call__(self, x):
        gate = x.mean((1, 2), keepdims=True)
        gate = self.expand(nnx.silu(self.reduce(gate)))
        return x * nnx.sigmoid(gate)


class ConvNeXt(nnx.Module):
    """Patchify stem, blocks with LayerNorm, gelu and layer scale, downsampling between stages."""

    def __init__(self, *, widths=(8, 16), depth=2, rngs):
        self.stem = nnx.Conv(3, widths[0], (4, 4), strides=(4, 4), rngs=rngs)
        self.stem_norm = nnx.LayerNorm(widths[0], rngs=rngs)
        self.stages = nnx.List([nnx.Sequential(*[ConvNeXtBlock(w, rngs=rngs) for _ in range(depth)]) for w in widths])
        self.downsample_norm = nnx.LayerNorm(widths[0], rngs=rngs)
        self.downsample = nnx.Conv(widths[0], widths[1], (2, 2), strides=(2, 2), rngs=rngs)
        self.norm = nnx.LayerNorm(widths[1], rngs=rngs)
        self.head = nnx.Linear(widths[1], 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem_norm(self.stem(x))
        x = self.stages[0](x)
        x = self.downsample(self.downsample_norm(x))
        x = self.stages[1](x)
        return self.head(self.norm(x.mean((1, 2))))


class ConvNeXtBlock(nnx.Module):
    def __init__(self, width, *, rngs):
        self.depthwise = nnx.Conv(width, width, (7, 7), feature_group_count=width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.expand = nnx.Linear(width, 4 * width, rngs=rngs)
        self.project = nnx.Linear(4 * width, width, rngs=rngs)
        self.gamma = nnx.Param(jnp.full((1, 1, 1, width), 1e-6))
        self.drop_path = nnx.Dropout(0.5, broadcast_dims=(1, 2, 3), rngs=rngs)

    def __call__(self, x):
        y = self.norm(self.depthwise(x))
        y = self.project(nnx.gelu(self.expand(y)))
        return x + self.drop_path(self.gamma * y)


class ViT(nnx.Module):
    """Patches of 8 x 8, a class token, two encoder blocks, the head on the class token."""

    def __init__(self, *, width=16, patch=8, tokens=16, depth=2, rngs):
        normal = nnx.initializers.normal(0.2)
        self.patch_embed = nnx.Conv(3, width, (patch, patch), strides=(patch, patch), padding="VALID", rngs=rngs)
        self.cls_token = nnx.Param(normal(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(normal(rngs.params(), (1, tokens + 1, width)))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.blocks = nnx.List([EncoderBlock(width, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = self.patch_embed(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        cls_token = jnp.tile(self.cls_token, (x.shape[0], 1, 1))
        x = jnp.concatenate([cls_token, x], axis=1) + self.pos_embed
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class EncoderBlock(nnx.Module):
    def __init__(self, width, *, heads=2, rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            heads, width, dropout_rate=0.5, deterministic=False, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(width, 2 * width, rngs=rngs),
            nnx.gelu,
            nnx.Dropout(0.5, rngs=rngs),
            nnx.Linear(2 * width, width, rngs=rngs),
        )

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class UNet(nnx.Module):
    """Dense prediction [b h w classes]: down, up, and the skip connections between."""

    def __init__(self, *, rngs):
        self.down1 = ConvNorm(3, 8, rngs=rngs)
        self.down2 = ConvNorm(8, 12, rngs=rngs)
        self.bottom = ConvNorm(12, 16, rngs=rngs)
        self.up2 = nnx.ConvTranspose(16, 12, (2, 2), strides=(2, 2), rngs=rngs)
        self.merge2 = ConvNorm(24, 12, rngs=rngs)
        self.up1 = nnx.ConvTranspose(12, 8, (2, 2), strides=(2, 2), rngs=rngs)
        self.merge1 = ConvNorm(16, 8, rngs=rngs)
        self.classify = nnx.Conv(8, 4, (1, 1), rngs=rngs)

    def __call__(self, x):
        skip1 = self.down1(x)
        skip2 = self.down2(nnx.max_pool(skip1, (2, 2), strides=(2, 2)))
        x = self.bottom(nnx.max_pool(skip2, (2, 2), strides=(2, 2)))
        x = self.merge2(jnp.concatenate([self.up2(x), skip2], axis=-1))
        x = self.merge1(jnp.concatenate([self.up1(x), skip1], axis=-1))
        return self.classify(x)


class CNN3D(nnx.Module):
    """Convolutions over a volume."""

    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(1, 4, (3, 3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(4, rngs=rngs)
        self.conv2 = nnx.Conv(4, 8, (3, 3, 3), rngs=rngs)
        self.fc = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.max_pool(x, (2, 2, 2), strides=(2, 2, 2))
        x = nnx.relu(self.conv2(x))
        return self.fc(x.mean((1, 2, 3)))


class TwoInputs(nnx.Module):
    """An image and a question, which modulates the channels (FiLM)."""

    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), strides=2, rngs=rngs)
        self.bn = nnx.BatchNorm(8, use_bias=False, use_scale=False, rngs=rngs)
        self.film = nnx.Linear(6, 16, rngs=rngs)
        self.conv3 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.answer = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, image, question):
        x = nnx.relu(self.conv1(image))
        x = self.bn(self.conv2(x))
        scale, shift = jnp.split(self.film(question)[:, None, None, :], 2, axis=-1)
        x = nnx.relu(scale * x + shift)
        x = nnx.relu(self.conv3(x))
        return self.answer(self.dropout(x.mean((1, 2))))


class DictOutputs(nnx.Module):
    """Logits, and those of an auxiliary head halfway."""

    def __init__(self, *, rngs):
        self.conv1 = ConvNorm(3, 8, stride=2, rngs=rngs)
        self.conv2 = ConvNorm(8, 16, stride=2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, 10, rngs=rngs)
        self.aux_head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        early = self.conv1(x)
        late = self.conv2(early)
        return {
            "logits": self.head(self.dropout(late.mean((1, 2)))),
            "aux": self.aux_head(early.mean((1, 2))),
        }


class TwoNames(nnx.Module):
    """One convolution under two names, called under one of them only."""

    def __init__(self, *, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.body = ConvNorm(8, 16, stride=2, rngs=rngs)
        self.body_conv = self.body.conv
        self.fc = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        x = self.body(nnx.relu(self.stem(x)))
        return self.fc(x.mean((1, 2)))


class CalledTwice(nnx.Module):
    """One convolution called twice in a row, the others once."""

    def __init__(self, *, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.refine = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.last = ConvNorm(8, 16, stride=2, rngs=rngs)
        self.fc = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        for _ in range(2):
            x = x + nnx.relu(self.refine(x))
        return self.fc(self.last(x).mean((1, 2)))


class Residual(nnx.Module):
    """A block that the transformed models below share."""

    def __init__(self, width, *, rngs):
        self.conv = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(width, num_groups=2, rngs=rngs)

    def __call__(self, x):
        return x + nnx.relu(self.norm(self.conv(x)))


class BatchResidual(nnx.Module):
    def __init__(self, width, *, rngs):
        self.conv = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.dropout(nnx.relu(self.bn(self.conv(x))))


class RematResidual(BatchResidual):
    @nnx.remat
    def __call__(self, x):
        return super().__call__(x)


class JitResidual(BatchResidual):
    @nnx.jit
    def __call__(self, x):
        return super().__call__(x)


class Blocks(nnx.Module):
    """A stem, two blocks of the same shape, a head."""

    def __init__(self, block_class, *, rngs):
        self.stem = ConvNorm(3, 8, stride=2, rngs=rngs)
        self.block1 = block_class(8, rngs=rngs)
        self.block2 = block_class(8, rngs=rngs)
        self.fc = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = self.block2(self.block1(self.stem(x)))
        return self.fc(x.mean((1, 2)))


class Checkpoint(Blocks):
    """The blocks under plain jax.checkpoint, which knows nothing of modules."""

    def __init__(self, *, rngs):
        super().__init__(Residual, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        x = jax.checkpoint(lambda x: self.block1(x))(x)
        x = jax.checkpoint(lambda x: self.block2(x))(x)
        return self.fc(x.mean((1, 2)))


class RowLSTM(nnx.Module):
    """Convolutions, then an LSTM over the columns of each row of features."""

    def __init__(self, *, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), strides=4, rngs=rngs)
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(8, 8, rngs=rngs), rngs=rngs)
        self.last = ConvNorm(8, 8, rngs=rngs)
        self.fc = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv(x))
        rows = x.reshape(-1, *x.shape[2:])
        x = self.lstm(rows).reshape(x.shape)
        return self.fc(self.last(x).mean((1, 2)))


class ScannedLayers(nnx.Module):
    """Three blocks with stacked parameters, run by nnx.scan."""

    def __init__(self, *, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def create(rngs):
            return Residual(8, rngs=rngs)

        self.stem = ConvNorm(3, 8, stride=4, rngs=rngs)
        self.blocks = create(rngs)
        self.last = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.fc = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def forward(block, x):
            return block(x)

        x = forward(self.blocks, self.stem(x))
        x = nnx.relu(self.last(x))
        return self.fc(x.mean((1, 2)))


class Ensemble(nnx.Module):
    """Three members with stacked parameters on the same features, run by nnx.vmap, and averaged."""

    def __init__(self, *, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def create(rngs):
            return BatchResidual(8, rngs=rngs)

        self.stem = ConvNorm(3, 8, stride=4, rngs=rngs)
        self.members = create(rngs)
        self.last = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.fc = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        @nnx.vmap(in_axes=(0, None))
        def forward(member, x):
            return member(x)

        x = forward(self.members, self.stem(x)).mean(0)
        x = nnx.relu(self.last(x))
        return self.fc(x.mean((1, 2)))


QUESTION = np.linspace(-1, 1, 6, dtype=np.float32)
SmallResNet = functools.partial(resnets.ResNet, blocks=(2, 2), widths=(8, 16), classes=10)

NNX = {
    "vgg": Specimen(built(VGG)),
    "sequential": Specimen(built(sequential)),
    "resnet": Specimen(built(SmallResNet)),
    "densenet": Specimen(built(DenseNet)),
    "mobilenet_v2": Specimen(built(MobileNetV2)),
    "efficientnet": Specimen(built(EfficientNet)),
    "convnext": Specimen(built(ConvNeXt)),
    "vit": Specimen(built(ViT)),
    "unet": Specimen(built(UNet), (16, 16, 3)),
    "cnn_3d": Specimen(built(CNN3D), (8, 16, 16, 1)),
    "two_inputs": Specimen(built(TwoInputs), inputs=(QUESTION,)),
    "dict_outputs": Specimen(built(DictOutputs)),
    "two_names": Specimen(built(TwoNames)),
    "called_twice": Specimen(built(CalledTwice)),
    "remat": Specimen(built(Blocks, RematResidual)),
    "jit": Specimen(built(Blocks, JitResidual)),
    "checkpoint": Specimen(built(Checkpoint)),
    "lstm": Specimen(built(RowLSTM)),
    "scan": Specimen(built(ScannedLayers)),
    "ensemble": Specimen(built(Ensemble)),
}
