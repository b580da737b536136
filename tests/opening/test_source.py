"""What a text names: each form, and for each a wrong one, which is one line and runs nothing."""

import json
import pathlib
import sys
import zipfile

import h5py
import numpy as np
import pytest

import jaxcam
from jaxcam.opening import model_source
from jaxcam.opening._keras_files import checked_description


@pytest.fixture(autouse=True)
def in_a_folder_of_the_users(tmp_path, monkeypatch):
    """A module whose import leaves a file, so that a test sees whether it ran."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("of_a_user.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\nTHREE = 3\n\n"
        "def number():\n    return 3\n\ndef broken():\n    return {}['x']\n\ndef needs(a):\n    return a\n"
    )
    pathlib.Path("torn.py").write_text("import nothing_of_this_name\n")
    pathlib.Path("notes.txt").write_text("notes")
    pathlib.Path("notes.keras").write_text("notes")
    pathlib.Path("notes.h5").write_text("notes")
    with h5py.File("weights.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    yield tmp_path
    sys.modules.pop("of_a_user", None)


def says(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    return text


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("resnet", {}, "no network 'resnet': choose one of efficientnet_lite0"),
        ("keras:ResNet51", {}, "Keras has no application 'ResNet51': did you mean ResNet50"),
        ("keras:__builtins__", {}, "Keras has no application '__builtins__'"),
        ("keras:ResNet50:top=no", {}, "no option 'top=no': expected weights="),
        ("keras:ResNet50:weights=none", {"weights": "x.h5"}, "has weights already"),
        ("absent.keras", {}, "absent.keras"),
        ("weights.pth", {}, "weights.pth has weights without a network"),
        ("notes.txt", {}, "notes.txt is no model"),
        ("digits", {"weights": "x.npz"}, "digits brings its own weights"),
        ("vgg", {}, "vgg is the network that a file holds"),
        ("of_a_user:number", {"weights": "x.npz"}, "of_a_user:number takes no weights"),
        ("keras:ResNet50", {"activation": abs}, "takes no other activation"),
        ("resnet50", {"activation": abs}, "takes no other activation"),
        ("os:system('touch ran')", {}, "no network"),
    ],
)
def test_a_wrong_text_is_one_line_and_runs_nothing(text, options, message):
    pytest.importorskip("keras") if text.startswith("keras") else None
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        model_source(text, **options)
    assert message in says(error)
    assert not pathlib.Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("of_a_user:numbre", "has no function 'numbre': did you mean 'number'?"),
        ("of_a_user:THREE", "of_a_user:THREE is of type int: expected a function"),
        ("of_a_user:broken", "of_a_user:broken raised KeyError: 'x' (of_a_user.py, line 9)"),
        ("of_a_user:needs", "raised TypeError: needs() missing 1 required positional argument: 'a'"),
        ("of_a_user:number", "of_a_user:number: int is no model that jaxcam can cut"),
        ("nowhere.at_all:build", "no module 'nowhere' in the current folder or the environment"),
        ("torn:build", "the module 'torn' cannot be imported: it needs 'nothing_of_this_name'"),
        ("notes.keras", "notes.keras: not a model that Keras saved as .keras"),
        ("notes.h5", "notes.h5: not an HDF5 file"),
        ("weights.h5", "weights.h5 has weights without a model"),
    ],
)
def test_what_cannot_be_built_is_one_line(text, message):
    with pytest.raises((ValueError, TypeError)) as error:
        jaxcam.open_model(text)
    assert message in says(error)


def described(class_name="Functional", module="keras.src.models.functional", **settings):
    return {"module": module, "class_name": class_name, "config": settings, "registered_name": None}


SAFE = described("Conv2D", "keras.layers", name="c", kernel_initializer=described("Zeros", "keras.initializers"))


def saved(description, suffix):
    path = pathlib.Path(f"model{suffix}")
    text = json.dumps(description)
    if suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", text)
    else:
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = text
    return str(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            described("Lambda", "keras.layers", name="twice", function={"class_name": "__lambda__"}),
            "Lambda layer 'twice'",
        ),
        ({"class_name": "Lambda", "config": {"name": "old", "function": ["4wEA"]}}, "Lambda layer 'old'"),
        (described("TorchModuleWrapper", "keras.layers", name="t"), "TorchModuleWrapper layer 't'"),
        (described("number", "of_a_user"), "needs number of of_a_user, which is not a part of Keras's models"),
        (described("function", "keras.utils"), "needs function of keras.utils"),
        (described("enable_unsafe_deserialization", "keras.config"), "of keras.config"),
        (described("load_model", "keras"), "needs load_model of keras"),
        (described("StringLookup", "keras.layers", name="s", vocabulary="/etc/passwd"), "may read another file"),
        (described("function", 3), "a part whose class has no name"),
    ],
)
def test_a_file_that_would_run_something_is_refused_before_keras_sees_it(suffix, layer, message, monkeypatch):
    def refuse():
        raise AssertionError("Keras is asked")

    monkeypatch.setattr("jaxcam.opening._keras.imported_keras", refuse)
    path = saved(described(layers=[SAFE, {"inbound": [layer]}]), suffix)
    with pytest.raises(ValueError) as error:
        jaxcam.open_model(path)
    assert message in says(error) and says(error).startswith(path)
    assert not pathlib.Path("ran").exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_description_of_keras_alone_passes(suffix):
    of_training = described("of_a_user", "of_a_user")  # is not built
    path = saved({**described(layers=[SAFE]), "compile_config": of_training}, suffix)
    assert checked_description(path)["config"]["layers"] == [SAFE]


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    keras = pytest.importorskip("keras")

    def without_a_network(**_):
        print("Downloading data from https://example.org")
        raise Exception("URL fetch failure on https://example.org: None -- [Errno -2] Name or service not known")

    without_a_network.__module__ = keras.applications.MobileNetV2.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV2", without_a_network)
    with pytest.raises(OSError) as error:
        jaxcam.open_model("keras:MobileNetV2")
    assert "the weights of MobileNetV2 cannot be downloaded: None -- [Errno -2]" in says(error)
    assert "weights=none draws them at random" in says(error)
