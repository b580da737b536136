"""What an opened network computes: the model on the preprocessed picture, whatever its channels and its last layer."""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam

SIZE = (8, 12)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
IN_NUMPY = {
    "0..1": lambda x: x,
    "-1..1": lambda x: 2 * x - 1,
    "0..255": lambda x: 255 * x,
    "imagenet": lambda x: (x - MEAN) / STD,
    "caffe": lambda x: 255 * x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
}


def plus_one(image):
    return image + 1


class Tiny(nnx.Module):
    """A network of three classes, which may take other channels and may end in a softmax."""

    def __init__(self, channels=3, *, ends=lambda x: x, arranged=lambda x: x):
        self.conv = nnx.Conv(channels, 4, (3, 3), rngs=nnx.Rngs(0))
        self.dense = nnx.Linear(4, 3, rngs=nnx.Rngs(1))
        self.ends, self.arranged = ends, arranged

    def __call__(self, x):
        return self.ends(self.dense(jax.nn.relu(self.conv(self.arranged(x))).mean((1, 2))))


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).uniform(size=(*SIZE, 3)).astype(np.float32)


def logits(opened, picture):
    A = opened.cut.features(opened.cut.params, picture)
    return opened.cut.head(opened.cut.params, A, picture)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_values(name, picture):
    model = Tiny()
    opened = jaxcam.open_model(model, input_size=SIZE, preprocess=name)
    expected = model(jnp.asarray(IN_NUMPY[name](picture.astype(np.float64)), jnp.float32)[None])[0]
    np.testing.assert_allclose(logits(opened, picture), expected, rtol=2e-5, atol=1e-4 if name == "caffe" else 1e-5)
    assert opened.preprocessing == (name, "square", False) and opened.class_names == ("0", "1", "2")


def test_a_function_of_the_users(picture):
    model = Tiny()
    opened = jaxcam.open_model(model, input_size=SIZE, preprocess=plus_one, classes=["a", "b", "c"])
    np.testing.assert_allclose(logits(opened, picture), model(jnp.asarray(picture + 1)[None])[0], rtol=1e-5)
    assert opened.preprocessing.values == "plus_one" and opened.class_names == ("a", "b", "c")
    assert jaxcam.open_model(model, input_size=SIZE).preprocessing.assumed


def test_gray_images_and_channels_first(picture):
    gray = Tiny(1)
    gray.image_shape = (*SIZE, 1)
    luma = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    opened = jaxcam.open_model(gray)
    np.testing.assert_allclose(logits(opened, picture), gray(jnp.asarray(luma)[None, ..., None])[0], rtol=1e-5)
    first = Tiny(arranged=lambda x: x.transpose(0, 2, 3, 1))
    first.image_shape = (3, *SIZE)
    opened = jaxcam.open_model(first)
    assert opened.input_size == SIZE
    np.testing.assert_allclose(
        logits(opened, picture), first(jnp.asarray(picture).transpose(2, 0, 1)[None])[0], rtol=1e-5
    )
    saliency = jaxcam.grad_cam(opened.cut, picture, 1)
    np.testing.assert_allclose(saliency, jaxcam.grad_cam(jaxcam.open_model(Tiny(), input_size=SIZE).cut, picture, 1))


@pytest.mark.parametrize(("ends", "name"), [(jax.nn.softmax, "softmax"), (jax.nn.sigmoid, "sigmoid")])
def test_the_last_activation_is_taken_off(ends, name, picture):
    plain, ended = (jaxcam.open_model(Tiny(ends=end), input_size=SIZE) for end in (lambda x: x, ends))
    assert (plain.last_activation, ended.last_activation) == (None, name)
    np.testing.assert_allclose(logits(ended, picture), logits(plain, picture), rtol=1e-5)


def test_a_cut_and_a_pair(picture):
    from flax import linen

    given = jaxcam.cut(Tiny(), "conv", image_shape=(*SIZE, 3))
    opened = jaxcam.open_model(given, input_size=SIZE)
    assert opened.cut is given and opened.layer == "conv"
    with pytest.raises(ValueError, match="is a Cut at 'conv': it has no layer 'dense'"):
        jaxcam.open_model(given, input_size=SIZE, layer="dense")
    with pytest.raises(ValueError, match="is a Cut, which takes no after"):
        jaxcam.open_model(given, input_size=SIZE, after="relu")
    module = linen.Sequential([linen.Conv(4, (3, 3)), lambda x: x.mean((1, 2)), linen.Dense(3)])
    variables = module.init(jax.random.key(0), jnp.asarray(picture)[None])
    opened = jaxcam.open_model((module, variables), input_size=SIZE)
    np.testing.assert_allclose(
        logits(opened, picture), module.apply(variables, jnp.asarray(picture)[None])[0], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Tiny does not say the size of its images: give input_size"),
        ({"input_size": (8, 8, 3)}, "expected one or two integers for input_size"),
        ({"input_size": 0}, "expected an integer of at least 1 for input_size, got 0"),
        ({"preprocess": "rgb"}, "no preprocessing 'rgb': choose one of 0..1, -1..1"),
        ({"preprocess": np.asarray}, "preprocess 'asarray' does not take an image"),
        ({"preprocess": 3}, "expected a name or a function for preprocess, got int"),
        ({"fit": "squash"}, "expected fit to be one of stretch, crop, square, pad"),
        ({"classes": ["a"]}, "expected a name for each of the network's 3 classes, got 1 names"),
        ({"layer": "dense"}, "layer 'dense' of Tiny has no map, it returns (3,)"),
        ({"layer": "head"}, "no layer 'head': choose one of conv, dense"),
        ({"after": "rleu"}, "no function 'rleu' in jax.nn for after"),
    ],
)
def test_mistakes_are_one_line(options, message):
    options = {"input_size": SIZE, **options} if options else options
    with pytest.raises((ValueError, TypeError)) as error:
        jaxcam.open_model(Tiny(), **options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_outputs_of_several_parts_need_output(picture):
    parts = Tiny(ends=lambda x: {"logits": x, "features": x})
    with pytest.raises(ValueError, match=r"Tiny returns \['features'\]: \[3\].*output names the part"):
        jaxcam.open_model(parts, input_size=SIZE)
    opened = jaxcam.open_model(parts, input_size=SIZE, output="logits")
    np.testing.assert_allclose(logits(opened, picture), parts(jnp.asarray(picture)[None])["logits"][0], rtol=1e-5)


def test_the_preprocessing_of_every_application_is_keras_own():
    """Traced by JAX, and by NumPy on the values in 0..255."""
    keras = pytest.importorskip("keras")
    from jaxcam.opening._keras import _preprocessed

    builders = [value for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)]
    functions = {sys.modules[build.__module__].preprocess_input for build in builders}
    assert len(functions) >= 10
    image = np.random.default_rng(0).uniform(size=(2, 2, 3)).astype(np.float32)
    for function in functions:
        with jax.numpy_rank_promotion("allow"):
            traced = jax.jit(lambda x, function=function: _preprocessed(function, x))(image)
        np.testing.assert_allclose(traced, function(255 * image), rtol=1e-5, atol=1e-4, err_msg=function.__module__)


@pytest.fixture(scope="module")
def keras_model():
    keras = pytest.importorskip("keras")
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(keras.layers.Rescaling(1 / 255)(image))
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, outputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, while it saves
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_keras_model(suffix, keras_model, tmp_path, picture):
    path = tmp_path / f"model{suffix}"
    keras_model.save(path)
    with jax.numpy_rank_promotion("allow"):
        opened = jaxcam.open_model(path)
        assert (opened.layer, opened.last_activation, opened.input_size) == ("conv", "softmax", SIZE)
        assert opened.preprocessing == ("0..255", "square", False), "the model rescales"
        expected = keras_model(255 * picture[None])[0]
        np.testing.assert_allclose(jax.nn.softmax(logits(opened, picture)), expected, rtol=1e-4)


@pytest.mark.long
def test_an_application_of_keras(picture):
    keras = pytest.importorskip("keras")
    with jax.numpy_rank_promotion("allow"):
        keras.utils.set_random_seed(0)
        opened = jaxcam.open_model("keras:MobileNetV2:weights=none")
        assert (opened.last_activation, opened.input_size, opened.class_names[281]) == ("softmax", (224, 224), "tabby")
        keras.utils.set_random_seed(0)
        model = keras.applications.MobileNetV2(weights=None)
        image = np.random.default_rng(0).uniform(size=(224, 224, 3)).astype(np.float32)
        expected = model(keras.applications.mobilenet_v2.preprocess_input(255 * image[None]))[0]
        np.testing.assert_allclose(jax.nn.softmax(logits(opened, image)), expected, rtol=1e-4)
