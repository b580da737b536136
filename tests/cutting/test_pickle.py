"""A pickled cut is the same cut: in this program with the same functions, in another with the same maps."""

import os
import pickle
import subprocess
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam
from tests import zoo

X = jax.random.uniform(jax.random.key(0), (8, 8, 3))


class Net(nnx.Module):
    def __init__(self):
        self.conv, self.head = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.Linear(4, 3, rngs=nnx.Rngs(1))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(2))

    def __call__(self, x, scale):
        return {"logits": self.head(self.dropout(nnx.relu(self.conv(x)).mean((1, 2)))) * scale}


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3), name="conv")(x)).mean((1, 2)))


def linen():
    return LinenNet(), LinenNet().init(jax.random.key(0), X[None])


def features(params, x):
    return x @ params


def head(params, A, x):
    return A.mean((0, 1))


CUTS = {
    "nnx": lambda: jaxcam.cut(Net(), "conv", after=jax.nn.relu, inputs=(jnp.full((1,), 2.0),), output="logits"),
    "linen": lambda: jaxcam.cut(linen(), "conv", image_shape=X.shape),
    "own": lambda: jaxcam.Cut(jnp.eye(3), features, head, "own"),
}


def restored(cut):
    return pickle.loads(pickle.dumps(cut))


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_pickles(name):
    cut = CUTS[name]()
    again = restored(cut)
    assert again.features is cut.features and again.head is cut.head, "nothing is compiled again"
    assert (again.layer, again.reads_input, again.image_channel_axis) == (
        cut.layer, cut.reads_input, cut.image_channel_axis
    )  # fmt: skip
    np.testing.assert_array_equal(jaxcam.grad_cam(again, X, 1), jaxcam.grad_cam(cut, X, 1))


def test_a_cut_of_the_digits_and_cuts_pickle():
    image, _ = jaxcam.pretrained.digits_canvas(0)
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    np.testing.assert_array_equal(jaxcam.grad_cam(restored(cut), image), jaxcam.grad_cam(cut, image))
    assert restored(cut).features is cut.features
    for cuts in (
        jaxcam.cut(jaxcam.digits(), ["block2_conv2", "block3_conv2"]),
        jaxcam.cut(linen(), ["conv", "Dense_0"]),
    ):
        again = restored(cuts)
        assert again.tapped is cuts.tapped and again.layers == cuts.layers


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, of its own arrays
def test_a_cut_of_a_keras_model_pickles():
    keras = pytest.importorskip("keras")
    with jax.numpy_rank_promotion("allow"):
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.GlobalMaxPooling2D(), layers.Dense(3)]
        )
        cut = jaxcam.cut(model, "conv")
        np.testing.assert_allclose(jaxcam.grad_cam(restored(cut), X, 1), jaxcam.grad_cam(cut, X, 1), rtol=1e-6)


def test_another_program_gives_the_same_map(tmp_path):
    specimen = zoo.LINEN["called_twice"]
    cut = jaxcam.cut(specimen.build(), "stem", image_shape=specimen.image_shape)
    x = np.asarray(jax.random.uniform(jax.random.key(1), specimen.image_shape))
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps((cut, x)))
    code = (
        "import pathlib, pickle, sys, jaxcam, numpy\n"
        "cut, x = pickle.loads(pathlib.Path(sys.argv[1], 'cut.pkl').read_bytes())\n"
        "numpy.save(pathlib.Path(sys.argv[1], 'map.npy'), jaxcam.grad_cam(cut, x, 1))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "map.npy"), jaxcam.grad_cam(cut, x, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jaxcam.cut(nnx.Sequential(nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0)), lambda x: x), "layers/0"),
            "the cut cannot be pickled: .*lambda.*must be importable, not lambdas",
        ),
        (
            lambda: jaxcam.cut(linen(), "conv", output=lambda outputs: outputs),
            "the cut cannot be pickled: .*lambda.*must be importable, not lambdas",
        ),
    ],
)
def test_what_cannot_be_pickled_gets_one_line(make, message):
    with pytest.raises(pickle.PicklingError, match=message) as refused:
        pickle.dumps(make())
    assert "\n" not in str(refused.value)
