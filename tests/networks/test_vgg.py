"""VGG: its sizes, its layers, and what no VGG can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam


@pytest.mark.parametrize(
    ("build", "parameters", "convolutions"),
    [
        (jaxcam.vgg11, 132_863_336, 8),
        (jaxcam.vgg13, 133_047_848, 10),
        (jaxcam.vgg16, 138_357_544, 13),
        (jaxcam.vgg19, 143_667_240, 16),
    ],
)
def test_the_published_sizes(build, parameters, convolutions):
    model = nnx.eval_shape(build)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model))) == parameters
    assert sum("conv" in name for name in model.layers) == convolutions
    assert model.layers[-4:] == ("block5_pool", "fc1", "fc2", "predictions")


@pytest.mark.parametrize("top", ["dense", "average"])
def test_it_comes_apart_at_every_layer(top):
    model = jaxcam.vgg_digits(top=top)
    x = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3))
    whole = nnx.jit(lambda model: model(x))(model)

    @nnx.jit
    def parts(model):
        return {name: model.head(model.features(x, until=name), since=name) for name in model.layers}

    for name, outputs in parts(model).items():
        np.testing.assert_allclose(outputs, whole, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_layer_is_after_its_activation():
    x = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    relu, silu = jaxcam.vgg_digits(), jaxcam.vgg_digits(activation=jax.nn.silu)
    for name in ("block1_conv1", "block3_conv2", "fc1"):
        assert relu.features(x, until=name).min() == 0
    linear = relu.block1_conv1(x)
    np.testing.assert_allclose(silu.features(x, until="block1_conv1"), jax.nn.silu(linear), rtol=1e-5, atol=1e-6)


def test_caffe_preprocessing_is_bgr_less_the_mean():
    image = np.array([[[1.0, 0.5, 0.0]]], np.float32)
    found = jaxcam.vgg.caffe(jnp.asarray(image))
    np.testing.assert_allclose(found[0, 0], [-103.939, 127.5 - 116.779, 255 - 123.68], rtol=1e-5)


def test_what_no_vgg_can_be():
    with pytest.raises(ValueError, match="expected 'dense' or 'average' for top, got 'gap'"):
        jaxcam.vgg16(top="gap")
    with pytest.raises(ValueError, match=r"expected images of at least 32 x 32 for 5 poolings, got \(16, 224, 3\)"):
        jaxcam.vgg16(image_shape=(16, 224, 3))
    with pytest.raises(ValueError, match="no layer 'block6_conv1': choose one of block1_conv1, "):
        jaxcam.vgg_digits().features(jnp.ones((1, 64, 64, 3)), until="block6_conv1")
