"""`--model` on the command line: every form explains a picture, and a wrong one is one line and exit code 2."""

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcam.cli import main
from tests.cli.test_command_line import fails

MODULE = """
import pathlib
import jax
import jaxcam
from flax import nnx

class Net(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))
        self.dense = nnx.Linear(8, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.dense(nnx.relu(self.conv(x)).mean((1, 2)))

def net():
    pathlib.Path("ran").touch()
    return Net()

def made_cut():
    return jaxcam.cut(Net(), "conv", after=nnx.relu, image_shape=(16, 16, 3))

def number():
    return 3.0

def doubled(image):
    return 2 * image
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("some_nets.py").write_text(MODULE)
    pathlib.Path("names.txt").write_text("cat\ndog\nfox\n")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    yield
    sys.modules.pop("some_nets", None)


def explained(capsys, *options):
    assert main(["explain", "photo.png", "--method", "grad_cam", "--json", "--force", *options]) == 0
    captured = capsys.readouterr()
    (record,) = json.loads(captured.out)
    return record, captured.err


def test_a_function_of_the_current_folder(capsys):
    options = ["--model", "some_nets:net", "--input-size", "16", "--classes", "names.txt"]
    record, errors = explained(capsys, *options, "--layer", "conv", "--after", "relu")
    assert errors == "jaxcam: some_nets:net gets RGB in 0..1: --preprocess changes that\n"
    assert record["class"] in ("cat", "dog", "fox") and record["layer"] == "conv" and len(record["top"]) == 3
    of_cut, _ = explained(capsys, "--model", "some_nets:made_cut", "--input-size", "16,16", "--preprocess", "0..1")
    assert of_cut["probability"] == pytest.approx(record["probability"], rel=1e-6)
    changed, errors = explained(capsys, *options, "--preprocess", "some_nets:doubled", "--fit", "stretch")
    assert not errors and changed["probability"] != pytest.approx(record["probability"], rel=1e-3)
    assert changed["region"] == [0, 0, 20, 30]
    signed, _ = explained(capsys, *options, "--preprocess", "-1..1")
    assert signed["probability"] != pytest.approx(record["probability"], rel=1e-3)


def test_the_other_commands_take_it(capsys):
    model = ["--model", "some_nets:net", "--input-size", "16", "--preprocess", "0..1"]
    assert main(["layers", *model]) == 0
    assert "*  conv   16 x 16 x 8" in capsys.readouterr().out
    assert main(["diagnose", "photo.png", *model, "--target", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == 2
    pathlib.Path("pictures").mkdir()
    pathlib.Path("photo.png").rename("pictures/photo.png")
    assert main(["batch", "pictures", "--out", "maps", *model, "--method", "grad_cam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layer"] == "conv" and np.load("maps/photo.npy").shape == (16, 16)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "keras:ResNet51"], "Keras has no application 'ResNet51': did you mean ResNet50"),
        (["--model", "some_nets:nett"], "the module 'some_nets' has no function 'nett': did you mean 'net'?"),
        (["--model", "some_nets:number"], "some_nets:number: float is no model that jaxcam can cut"),
        (["--model", "photo.png"], "photo.png is no model: expected keras:NAME, a .keras or .h5 file"),
        (["--model", "photo.keras"], "photo.keras"),
        (["--model", "lite0"], "no network 'lite0': choose one of efficientnet_lite0"),
        (["--model", "digits", "--target", "cat"], "no class 'cat'"),
        (["--model", "digits", "--grid", "4,4"], "a VGG takes no grid"),
        (["--model", "digits", "--input-size", "32"], "expected an image [64 64 3], got shape (32, 32, 3)"),
        (["--model", "digits", "--input-size", "0"], "'0' is not a size such as 224 or 224,320"),
        (["--model", "digits", "--preprocess", "rgb"], "no preprocessing 'rgb': choose one of 0..1"),
        (["--model", "digits", "--fit", "squash"], "invalid choice: 'squash'"),
        (["--model", "digits", "--top", "0"], "expected an integer of at least 1 for top, got 0"),
    ],
)
def test_a_wrong_model_is_one_line_and_runs_nothing(capsys, options, says):
    pytest.importorskip("keras") if "keras" in options[1] else None
    fails(capsys, "explain", "photo.png", *options, says=says)
    assert not list(pathlib.Path().glob("*grad_cam*")) and not pathlib.Path("ran").exists()


def test_a_network_of_other_classes_has_no_sample(capsys):
    model = ["--model", "some_nets:net", "--input-size", "16", "--preprocess", "0..1", "--classes", "names.txt"]
    fails(capsys, "diagnose", *model, says="the samples do not show the classes of this network: give an IMAGE")


def test_a_layer_that_is_not_there(capsys):
    model = ["--model", "some_nets:net", "--input-size", "16", "--preprocess", "0..1"]
    fails(capsys, "explain", "photo.png", *model, "--layer", "head", says="no layer 'head': choose one of conv, dense")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras
def test_an_application_and_a_file_of_keras(capsys):
    keras = pytest.importorskip("keras")
    layers = [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")]).save("model.keras")
    keras.Sequential([*layers, keras.layers.Lambda(lambda x: x)]).save("lambda.keras")
    with jax.numpy_rank_promotion("allow"):
        record, errors = explained(capsys, "--model", "model.keras", "--preprocess", "-1..1")
        assert record["map_shape"] == [14, 14] and "the network ends in a softmax" in errors
        assert main(["layers", "--model", "keras:MobileNetV2:weights=none"]) == 0
        assert "*  out_relu " in capsys.readouterr().out
        assert main(["diagnose", "photo.png", "--model", "keras:MobileNetV2:weights=none"]) == 0
        assert "the weights are random" in capsys.readouterr().err
    fails(capsys, "explain", "photo.png", "--model", "lambda.keras", says="lambda.keras has a Lambda layer 'lambda'")


@pytest.mark.long
def test_the_demo_explains_a_photograph_at_two_layers(capsys, monkeypatch):
    # Compiling the other methods, and the earlier layer of the demo, takes a minute; .ci/run has them.
    monkeypatch.setattr("jaxcam.cli._demo.METHODS", ("grad_cam",))
    monkeypatch.setattr("jaxcam.cli._demo.EARLIER", "blocks/15")
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "cat" in printed.splitlines()[0] and len([line for line in printed.splitlines() if "%" in line]) == 5
    assert "layer head and blocks/15, Grad-CAM: jaxcam_demo.png" in printed and "one map there" in printed
    with Image.open("jaxcam_demo.png") as drawn:
        assert drawn.height > 400
