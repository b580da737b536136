"""Folders that an earlier jaxcam wrote go on; tests/runtime/user_script.py says how they were recorded."""

import functools
import importlib.util
import json
import pathlib
import platform

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam.runtime import Runner, _earlier, _fingerprint
from tests.test_public_names import NAMESPACES, ROOT

HERE = pathlib.Path(__file__).parent
RECORD = json.loads((HERE / "earlier_runs.json").read_text())
SENTINEL = np.full((2, 3), 7, np.float32)  # no method gives such a map


@pytest.fixture(scope="module")
def script():
    """The user's script under the name that it was recorded by."""
    spec = importlib.util.spec_from_file_location("user_script", HERE / "user_script.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def earlier(script, tmp_path):
    """Writes a recorded folder, its maps apart."""

    def write(name):
        if name in script.OWN and platform.python_version_tuple()[:2] != ("3", "11"):
            pytest.skip("a user's functions are described by their bytecode, which was recorded by Python 3.11")
        for path, content in RECORD["runs"][name].items():
            if path == "run.json" and jax.__version__ != RECORD["jax"]:  # the text of a traced model depends on it
                sample = jax.ShapeDtypeStruct(tuple(content["model"][0]), content["model"][1])
                content = {**content, **_fingerprint.describe_model(script.digits(), sample)}
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(json.dumps(content))
        return tmp_path

    return write


@pytest.fixture
def nothing_is_computed(monkeypatch):
    def refuse(*_):
        raise AssertionError("something is computed")

    monkeypatch.setattr(Runner, "__call__", refuse)


METHODS = [name for name in RECORD["runs"] if "evaluation" not in name]


@pytest.mark.parametrize("name", METHODS)
def test_a_folder_of_maps_goes_on(script, earlier, name, nothing_is_computed):
    out = earlier(name)
    for i in range(script.COUNT):
        np.save(out / f"{i}.npy", SENTINEL)
    found = script.explain(name, out)
    assert [np.load(path).tolist() for path in found.maps.values()] == [SENTINEL.tolist()] * script.COUNT
    assert json.loads((out / "run.json").read_text())["method"] == RECORD["runs"][name]["run.json"]["method"]


def test_another_method_or_option_is_refused(script, earlier):
    others = {
        "a method": jaxcam.grad_cam_plus,
        "options": functools.partial(script.SMOOTH, n_samples=3),
        "a public function as an option": functools.partial(
            jaxcam.gradient_cam, weigh=jaxcam.weights.grad_cam, order=1
        ),
        "a selection": functools.partial(jaxcam.grad_cam, select=jaxcam.select(subset=[(0, 0), (9, 9)])),
        "an average": functools.partial(jaxcam.average_maps(jaxcam.grad_cam, statistic="square"), n_samples=2),
        "own, with options": functools.partial(script.halved, scale=3.0),
        "own weights": functools.partial(jaxcam.gradient_cam, weigh=lambda A, Y1: Y1.min((0, 1)), order=1),
    }
    for name, method in others.items():
        out = earlier(name)
        np.save(out / "0.npy", SENTINEL)
        with pytest.raises(ValueError, match="holds another run, with method"):
            script.explain(name, out, method)


@pytest.mark.parametrize("name", ["evaluation", "evaluation of files"])
def test_an_evaluation_goes_on(script, earlier, name, nothing_is_computed):
    out = earlier(name)
    (path,) = (out / "images").iterdir()
    record = json.loads(path.read_text())
    rows = record["rows"]
    next(iter(rows.values()))["drop"]["average_drop"] = 0.125  # as nothing else would
    path.write_text(json.dumps(record))
    (image,) = script.EVALUATIONS[name](out).images.values()
    assert list(image["rows"]) == ["center Gaussian" if name == "centre Gaussian" else name for name in rows]
    assert next(iter(image["rows"].values()))["average_drop"] == 0.125


@pytest.mark.long
def test_a_method_is_added_to_an_evaluation(script, earlier):
    out = earlier("evaluation")
    (image,) = script.evaluate(out, LayerCAM=jaxcam.layer_cam).images.values()
    (recorded,) = (content for path, content in RECORD["runs"]["evaluation"].items() if path != "run.json")
    assert image["rows"]["smooth"]["average_drop"] == recorded["rows"]["smooth"]["drop"]["average_drop"]
    methods = json.loads((out / "run.json").read_text())["methods"]
    assert methods["own"] == RECORD["runs"]["evaluation"]["run.json"]["methods"]["own"]
    assert methods["LayerCAM"] == "jaxcam.methods.layer_cam"
    assert script.evaluate(out).images, "in today's names"


def test_public_functions_have_the_names_that_were_recorded(script):
    listed = {*ROOT, *(f"{namespace}.{name}" for namespace in NAMESPACES for name in NAMESPACES[namespace].split())}
    functions = {name: function for name, function in script.public_functions().items() if name in listed}
    today = {name: _fingerprint.describe(function) for name, function in functions.items()}
    recorded = {name: _earlier.in_todays_names(RECORD["names"][name]) for name in today.keys() & RECORD["names"]}
    assert len(recorded) > 80
    assert {name: today[name] for name in recorded} == recorded
    assert not [described for described in today.values() if "._" in described or "<" in described]
    assert len(set(today.values())) == len(set(map(id, functions.values()))), "no two functions share a description"
