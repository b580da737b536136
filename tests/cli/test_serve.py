"""`jaxcam serve` before a page is made."""

import pytest

from jaxcam import web
from jaxcam.cli import main


@pytest.fixture
def served(monkeypatch):
    """The calls of `jaxcam.web.serve`, which does not serve."""
    calls = []
    monkeypatch.setattr(web, "check_gradio", lambda: None)
    monkeypatch.setattr(web, "serve", lambda networks, **options: calls.append((networks, options)))
    return calls


def test_without_gradio_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve"]) == 2
    error = capsys.readouterr().err
    assert error == ("jaxcam: the page needs Gradio, which is not installed: pip install 'jaxcam-saliency[demo]'\n")


def test_it_listens_at_this_machine_alone(served):
    assert main(["serve"]) == 0
    [([network], options)] = served
    assert options == {"host": "127.0.0.1", "port": 7860}
    assert network == web.Network("efficientnet_lite0", {})


def test_the_network_has_the_options_that_are_given(served):
    words = "serve --model digits --layer block2_conv2 --fit pad --input-size 64 --host 0.0.0.0 --port 8000"
    assert main(words.split()) == 0
    [([network], options)] = served
    assert options == {"host": "0.0.0.0", "port": 8000}
    assert network == web.Network("digits", {"layer": "block2_conv2", "fit": "pad", "input_size": (64, 64)})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--port 70000", "expected --port in 1..65535, got 70000"),
        ("--model resnet", "no network 'resnet': choose one of efficientnet_lite0"),
        ("--model /etc/passwd", "/etc/passwd is no model"),
    ],
)
def test_a_mistake_is_one_line(served, capsys, words, says):
    assert main(["serve", *words.split()]) == 2 and not served
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
