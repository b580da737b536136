"""Keras says where its channels are: by the program, by `data_format`, and by its configuration."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

keras = pytest.importorskip("keras")
CLASSES = 4


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_rank_promotion("allow"):  # Keras's own dense layers need it
        yield


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


def keras_network(shape, data_format, rank=2):
    """A network with branches, and activations that say no layout."""
    layers = keras.layers
    conv = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
    pool = {1: layers.GlobalAveragePooling1D, 2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[rank]
    axis = 1 if data_format == "channels_first" else -1
    x = keras.Input(shape)
    y = conv(5, 3, strides=2, data_format=data_format, name="conv")(x)
    z = layers.BatchNormalization(axis=axis, name="norm")(y)
    y = layers.Add(name="add")([layers.Activation("tanh", name="act")(z), y])
    y = layers.Concatenate(axis=axis, name="both")([y, z])
    return keras.Model(x, layers.Dense(CLASSES)(pool(data_format=data_format)(y)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_keras_says_its_layout(rank):
    spatial = (12, 9, 8)[:rank]
    first, last = (
        keras_network((3, *spatial), "channels_first", rank),
        keras_network((*spatial, 3), "channels_last", rank),
    )
    for own, other in zip(last.variables, first.variables, strict=True):
        own.assign(other.value)
    x = jax.random.uniform(jax.random.key(3), (*spatial, 3))
    turned = jnp.moveaxis(x, -1, 0)
    for layer in ("conv", "norm", "act", "add", "both"):
        cut, expected = jaxcam.cut(first, layer), jaxcam.cut(last, layer)
        assert cut.image_channel_axis == 0 and expected.image_channel_axis in (-1, rank)
        A = cut.features(cut.params, turned)
        np.testing.assert_allclose(A, expected.features(expected.params, x), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            jaxcam.grad_cam(cut, turned, 1), jaxcam.grad_cam(expected, x, 1), rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(jaxcam.saliency(cut, turned, 1), jaxcam.saliency(expected, x, 1), rtol=1e-4, atol=1e-6)
    cuts = jaxcam.cut(first, ["conv", "act"])
    maps = jaxcam.grad_cam(cuts, turned, 1)
    np.testing.assert_allclose(maps["act"], jaxcam.grad_cam(jaxcam.cut(first, "act"), turned, 1), rtol=1e-4, atol=1e-6)


def test_keras_by_its_configuration(channels_first):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3, 12, 9)),
            layers.Conv2D(5, 3, name="conv"),
            layers.ReLU(name="relu"),
            layers.GlobalMaxPooling2D(),
        ]
    )
    cut = jaxcam.cut(model, "relu")
    assert jaxcam.grad_cam(cut, jnp.ones((3, 12, 9)), 0).shape == (10, 7)
    assert jaxcam.saliency(cut, jnp.ones((3, 12, 9)), 0).shape == (12, 9)
    assert jaxcam.layers(model)["relu"] == (10, 7, 5)


def test_a_keras_model_that_reduces_the_channels_itself():
    layers = keras.layers
    conv = layers.Conv2D(5, 3, name="conv")
    gray = layers.Lambda(lambda x: keras.ops.mean(x, -1, keepdims=True))
    model = keras.Sequential([keras.Input((12, 9, 3)), gray, conv, layers.GlobalMaxPooling2D()])
    cut = jaxcam.cut(model, "conv")
    assert jaxcam.saliency(cut, jnp.ones((12, 9, 3)), 0).shape == (12, 9)


def test_a_keras_model_without_a_channel_axis():
    layers = keras.layers
    conv = layers.Conv2D(5, 3, name="conv")
    model = keras.Sequential([keras.Input((12, 9)), layers.Reshape((12, 9, 1)), conv, layers.GlobalMaxPooling2D()])
    cut = jaxcam.cut(model, "conv")
    assert cut.image_channel_axis is None and jaxcam.saliency(cut, jnp.ones((12, 9)), 0).shape == (12, 9)


def test_a_keras_model_that_permutes_its_image():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3, 12, 9)),
            layers.Permute((2, 3, 1)),
            layers.Conv2D(5, 3, name="conv"),
            layers.GlobalMaxPooling2D(),
        ]
    )
    cut = jaxcam.cut(model, "conv")
    assert cut.image_channel_axis == 0 and cut.features(cut.params, jnp.ones((3, 12, 9))).shape == (10, 7, 5)
