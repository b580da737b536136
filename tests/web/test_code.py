"""The code of the page gives the maps of the page."""

import shlex

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam.cli._main import build_parser
from jaxcam.cli._method import chosen_method
from jaxcam.datasets import images
from jaxcam.web import SAMPLES, Network, Networks, command_lines, explain_request, python_code, request_of

CHOSEN = {"layer": "block2_conv2", "target": 7, "filters": "3,7", "subset": "2,2 20,25", "region": True}


@pytest.fixture
def upload(tmp_path, monkeypatch):
    """A file with a name that a shell and Python read otherwise if it is not quoted, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = 'it\'s "$HOME" é.png'
    images.write(path, images.read(SAMPLES["digits 2"].path)[1:, 1:])
    return path


def answers(networks, path, *methods, **fields):
    return [explain_request(networks, path, request_of(method=method, **fields)) for method in methods]


def test_the_python_code_gives_the_maps(networks, upload):
    computed = answers(networks, upload, "grad_cam", "layer_cam", **CHOSEN)
    session: dict = {}
    with jax.numpy_rank_promotion("allow"):  # a user's session, not the tests' strictness
        exec(python_code(networks.network("digits"), computed, upload), session)
    for answer in computed:
        saliency = session["explanation"].maps[answer.request.method]
        assert saliency.max() > 0
        np.testing.assert_allclose(answer.saliency, saliency, atol=1e-6 * saliency.max())


def test_the_command_line_asks_for_the_same(networks, upload):
    fields = {**CHOSEN, "samples": 4, "std": 0.25, "seed": 11}
    [answer] = answers(networks, upload, "grad_cam", **fields)
    words = shlex.split(command_lines(networks.network("digits"), [answer], upload))
    options = build_parser().parse_args(words[1:])
    assert words[0] == "jaxcam" and options.images == [upload]
    assert (options.model, options.layer, options.target, options.seed) == ("digits", "block2_conv2", "7", 11)
    select = jaxcam.select(filters=options.filters, region=options.region, subset=options.subset)
    method = chosen_method(options, select)
    assert method.func is jaxcam.grad_cam
    assert method.keywords == {
        "n_samples": 4,
        "std": 0.25,
        "select": jaxcam.select(filters=[3, 7], region=True, subset=[(2, 2), (20, 25)]),
    }


def test_the_command_line_names_the_class_that_was_explained(networks, upload):
    from jaxcam.cli._model import find_target

    names = ("1", "0", *"23456789")  # names that are numbers of other classes
    renamed = Networks([Network("digits", {"classes": names})])
    [answer] = answers(renamed, upload, "grad_cam", target="0")
    words = shlex.split(command_lines(renamed.network("digits"), [answer], upload))
    assert answer.request.target == 1
    assert find_target(build_parser().parse_args(words[1:]).target, names) == 1


def test_options_of_the_server_are_shown_without_its_folders(networks, upload):
    network = Network("digits", {"classes": "/home/someone/names.txt", "fit": "pad", "input_size": (64, 64)})
    [answer] = answers(networks, upload, "grad_cam")
    python = python_code(network, [answer], upload)
    assert 'classes="names.txt", fit="pad", input_size=(64, 64))' in python
    words = shlex.split(command_lines(network, [answer], upload))
    options = build_parser().parse_args(words[1:])
    assert (options.classes, options.fit, options.input_size) == ("names.txt", "pad", (64, 64))
    assert "someone" not in python + " ".join(words)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_named_as_anyone_has_it(networks, name):
    computed = answers(networks, SAMPLES[name].path, "grad_cam")
    python = python_code(networks.network("digits"), computed, SAMPLES[name].path)
    [line] = [line for line in python.splitlines() if line.startswith("image = ")]
    session = {"jaxcam": jaxcam}
    exec(line, session)
    image = session["image"]
    pixels = image if isinstance(image, np.ndarray) else images.read(image)
    np.testing.assert_allclose(pixels, images.read(SAMPLES[name].path), atol=1e-6)
