"""What is said about layers is what their cuts and their values show, and the recommended layer is a good one."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam
from tests import zoo


class Residual(nnx.Module):
    def __init__(self, width, *, last=nnx.relu, rngs):
        self.conv1 = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.last = last

    def __call__(self, x):
        return self.last(x + self.conv2(nnx.relu(self.conv1(x))))


class ResNet(nnx.Module):
    def __init__(self, *, last=nnx.relu, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.blocks = nnx.List([Residual(8, last=last, rngs=rngs), Residual(8, last=last, rngs=rngs)])
        self.linear = nnx.Conv(8, 6, (1, 1), rngs=rngs)
        self.classifier = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.linear(x).mean((1, 2)))


class TokenBlock(nnx.Module):
    def __init__(self, k, *, rngs):
        self.norm = nnx.LayerNorm(k, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, k, decode=False, rngs=rngs)
        self.dense = nnx.Linear(k, k, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + nnx.gelu(self.dense(x))


class ViT(nnx.Module):
    def __init__(self, *, class_token, rngs):
        self.patches = nnx.Conv(3, 8, (4, 4), strides=4, rngs=rngs)
        self.blocks = nnx.List([TokenBlock(8, rngs=rngs) for _ in range(2)])
        self.classifier = nnx.Linear(8, 5, rngs=rngs)
        self.class_token = class_token

    def __call__(self, x):
        x = self.patches(x).reshape(x.shape[0], -1, 8)
        if self.class_token:
            x = jnp.concatenate([jnp.ones((x.shape[0], 1, 8)), x], axis=1)
        for block in self.blocks:
            x = block(x)
        return self.classifier(x[:, 0] if self.class_token else x.mean(1))


def check_descriptions(model, descriptions, image_shape, **options):
    """The names and shapes of `layers`, `reads_input` of the cut itself, and signs of the activations of two images."""
    shapes = jaxcam.layers(model, image_shape, **options)
    assert {layer.name: layer.shape for layer in descriptions} == shapes
    images = 3 * jax.random.normal(jax.random.key(0), (2, *image_shape))
    cuts = [jaxcam.cut(model, layer.name, image_shape=image_shape, **options) for layer in descriptions]
    features = jax.jit(lambda cuts, x: [cut.features(cut.params, x) for cut in cuts])
    for layer, cut, *activations in zip(descriptions, cuts, *(features(cuts, x) for x in images), strict=True):
        assert layer.reads_input == cut.reads_input, layer
        if not layer.can_be_negative:
            assert min(float(A.min()) for A in activations) >= 0, layer
    return {layer.name: layer for layer in descriptions}


@pytest.mark.parametrize("kind, name", [("NNX", "jit"), ("NNX", "two_inputs"), ("LINEN", "jit")])
def test_of_the_zoo(kind, name):
    specimen = getattr(zoo, kind)[name]
    model = specimen.build()
    options = {"inputs": specimen.inputs}
    descriptions = jaxcam.describe_layers(model, specimen.image_shape, **options)
    check_descriptions(model, descriptions, specimen.image_shape, **options)
    assert descriptions.recommended is not None


def test_of_a_residual_network():
    model = ResNet(rngs=nnx.Rngs(0))
    descriptions = jaxcam.describe_layers(model, (16, 16, 3))
    by_name = check_descriptions(model, descriptions, (16, 16, 3))
    assert by_name["blocks/0/conv2"].reads_input and not by_name["blocks/0"].reads_input
    assert not by_name["blocks/1"].can_be_negative and by_name["linear"].can_be_negative
    # The last layer is linear; the one before it, of the same resolution, is not negative.
    assert descriptions.recommended is by_name["blocks/1"]
    assert jaxcam.describe_layers(ResNet(last=nnx.silu, rngs=nnx.Rngs(0)), (16, 16, 3)).recommended.name == "linear"
    table = str(descriptions).splitlines()
    assert (
        table[-1] == "* recommended" and [line for line in table if line.startswith("* ")][0].split()[1] == "blocks/1"
    )


def test_cut_without_a_layer(caplog):
    model = ResNet(rngs=nnx.Rngs(0))
    with caplog.at_level(logging.INFO, logger="jaxcam"):
        cut = jaxcam.cut(model, image_shape=(16, 16, 3))
    assert caplog.messages == ["cut at 'blocks/1', the recommended layer, which returns (8, 8, 8)"]
    image = jax.random.uniform(jax.random.key(1), (16, 16, 3))
    expected = jaxcam.grad_cam(jaxcam.cut(model, "blocks/1"), image, 2)
    assert cut.layer == "blocks/1" and expected.any()
    np.testing.assert_allclose(jaxcam.grad_cam(cut, image, 2), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="image_shape is needed"):
        jaxcam.cut(model)


@pytest.mark.parametrize("class_token, layer", [(True, "blocks/0"), (False, "blocks/1")])
def test_tokens(class_token, layer):
    """Behind the last attention the class token alone counts: every map there is zero."""
    model = ViT(class_token=class_token, rngs=nnx.Rngs(0))
    descriptions = jaxcam.describe_layers(model, (16, 16, 3))
    by_name = check_descriptions(model, descriptions, (16, 16, 3))
    assert descriptions.recommended is by_name[layer] and "give grid=(4, 4)" in by_name[layer].note
    with pytest.raises(ValueError, match=rf"recommended layer '{layer}' returns .*tokens: give grid=\(4, 4\)"):
        jaxcam.cut(model, image_shape=(16, 16, 3))
    cut = jaxcam.cut(model, image_shape=(16, 16, 3), grid=(4, 4), prefix=int(class_token))
    assert cut.layer == layer
    image = jax.random.uniform(jax.random.key(1), (16, 16, 3))
    gradient = jax.grad(lambda A: cut.head(cut.params, A, image)[0])(cut.features(cut.params, image))
    assert (jnp.abs(gradient).max(-1) > 0).all()
    with pytest.raises(ValueError, match="no layer has 9 tokens that count"):
        jaxcam.cut(model, image_shape=(16, 16, 3), grid=(3, 3))


class Dense(nn.Module):
    """Without a map: everything is flattened."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(4)(x.reshape(x.shape[0], -1))))


class Segmenter(nn.Module):
    """Its last layer is the output, and its pooled layer is not the last map."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.relu(nn.Conv(6, (3, 3), name="last")(x))
        return nn.Conv(2, (1, 1), name="classes")(x)


class Signal(nn.Module):
    """One spatial axis: `[t k]` is a map."""

    @nn.compact
    def __call__(self, x):
        x = nn.sigmoid(nn.Conv(4, (3,), name="first")(x))
        return nn.Dense(2)(nn.Conv(6, (3,), name="second")(x).mean(1))


@pytest.mark.parametrize(
    "module, shape, layer",
    [(Dense(), (6, 6, 3), None), (Segmenter(), (6, 6, 3), "last"), (Signal(), (12, 3), "second")],
    ids=["dense", "segmenter", "signal"],
)
def test_what_is_no_map(module, shape, layer):
    model = module, module.init(jax.random.key(0), jnp.ones([1, *shape]))
    descriptions = jaxcam.describe_layers(model, shape)
    check_descriptions(model, descriptions, shape)
    recommended = descriptions.recommended
    assert (recommended and recommended.name) == layer
    if layer is None:
        assert str(descriptions).endswith("no layer has a map")
        with pytest.raises(ValueError, match="no layer has a map"):
            jaxcam.cut(model, image_shape=shape)


def test_of_a_network_that_cuts_itself(digits):
    descriptions = jaxcam.describe_layers(digits)
    by_name = check_descriptions(digits, descriptions, digits.image_shape)
    # The pooling behind it has the same values, at half the resolution.
    assert descriptions.recommended is by_name["block3_conv2"]
    assert jaxcam.cut(digits).layer == "block3_conv2"
    assert by_name["predictions"].can_be_negative and not by_name["fc1"].can_be_negative


class Mixer(jaxcam.cutting.SelfCutting):
    """It cannot be cut at several layers."""

    layers, image_shape = ("mixed", "squared"), (4, 4, 3)

    def cut_at(self, layer):
        mixed = lambda params, x: x @ params  # noqa: E731
        features = mixed if layer == "mixed" else lambda params, x: jnp.square(x @ params)
        square = jnp.square if layer == "mixed" else lambda A: A
        return jaxcam.Cut(jnp.ones([3, 5]), features, lambda _, A, x: square(A).mean((0, 1)), layer, reads_input=False)


def test_of_a_network_that_cuts_itself_at_one_layer_only():
    descriptions = jaxcam.describe_layers(Mixer())
    assert [layer.can_be_negative for layer in descriptions] == [True, False]
    assert descriptions.recommended.name == "squared"


class SeveralOutputs(nn.Module):
    """The image is not its first argument, its logits are a part of its outputs, and it is not called as usual."""

    @nn.compact
    def explain(self, offset, pixels):
        x = nn.relu(nn.Conv(4, (3, 3), name="stem")(pixels))
        y = nn.relu(nn.Conv(6, (3, 3), name="last")(x))
        return {"skipped": x.mean((1, 2)), "logits": nn.Dense(2, name="dense")(y.mean((1, 2))) + offset}


def test_it_takes_the_options_of_cut():
    """With the auxiliary output, the head of the last layer needs the input."""
    module, offset, shape = SeveralOutputs(), jnp.ones([2]), (6, 6, 3)
    model = module, module.init(jax.random.key(0), offset[None], jnp.ones([1, *shape]), method="explain")
    options = {"image": "pixels", "inputs": {"offset": offset}, "method": "explain"}
    assert jaxcam.layers(model, shape, **options) == {"stem": (6, 6, 4), "last": (6, 6, 6), "dense": (2,)}
    for output, recommended in ((None, "stem"), ("logits", "last")):
        descriptions = jaxcam.describe_layers(model, shape, output=output, **options)
        assert descriptions.recommended.name == recommended
        cut = jaxcam.cut(model, image_shape=shape, output=output, **options)
        assert (cut.layer, cut.reads_input) == (recommended, False)
    x = jax.random.uniform(jax.random.key(1), shape)
    expected = module.apply(model[1], offset[None], x[None], method="explain")["logits"][0]
    np.testing.assert_allclose(cut.head(cut.params, cut.features(cut.params, x), x), expected, rtol=1e-5, atol=1e-6)


def test_it_lists_channels_on_another_axis():
    class ChannelsFirst(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.relu(nn.Conv(5, (3, 3), name="conv")(jnp.moveaxis(x, 1, -1)))
            return nn.Dense(2, name="dense")(y.mean((1, 2)))

    module, shape = ChannelsFirst(), (3, 6, 8)
    model = module, module.init(jax.random.key(0), jnp.ones([1, *shape]))
    assert jaxcam.layers(model, shape, image_channel_axis=0)["conv"] == (6, 8, 5)
    assert jaxcam.describe_layers(model, shape, image_channel_axis=0).recommended.shape == (6, 8, 5)
    assert jaxcam.layers(model, shape, image_channel_axis=0, channel_axis=0)["conv"] == (8, 5, 6)


class TokensAndExtras(nn.Module):
    """A block of a vision transformer whose call returns what it computed on its way, as in big_vision."""

    @nn.compact
    def __call__(self, x):
        y = nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="norm")(x))
        return x + y, {"attention": y, "where": jnp.argmax(y, -1)}


class TransformerWithExtras(nn.Module):
    both: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (2, 2), strides=2, name="patches")(x).reshape(x.shape[0], -1, 4)
        x = jnp.concatenate([jnp.ones([x.shape[0], 1, 4]), x], axis=1)
        for i in range(3):
            x, extras = TokensAndExtras(name=f"block{i}")(x)
            x = x + extras["attention"] if self.both else x
        return nn.Dense(3, name="classes")(x[:, 0])


def test_a_block_with_one_array_in_use_is_a_layer():
    """Otherwise the recommended layer would be the patches, before all blocks."""
    shape = (6, 6, 3)
    module = TransformerWithExtras()
    model = module, module.init(jax.random.key(0), jnp.ones([1, *shape]))
    descriptions = jaxcam.describe_layers(model, shape)
    check_descriptions(model, descriptions, shape)
    assert descriptions.recommended.name == "block1" and descriptions.recommended.shape == (10, 4)
    cut = jaxcam.cut(model, grid=(3, 3), prefix=1, image_shape=shape)
    assert cut.layer == "block1" and jaxcam.grad_cam(cut, jnp.ones(shape), 1).shape == (3, 3)
    module = TransformerWithExtras(both=True)  # two arrays are in use: neither is the layer's
    model = module, module.init(jax.random.key(0), jnp.ones([1, *shape]))
    assert not {"block0", "block1"} & set(jaxcam.layers(model, shape))
