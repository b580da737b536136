"""Weights from the Hugging Face Hub, from a cache that the test fills."""

import logging
import os
import socket
import subprocess
import sys

import pytest
from huggingface_hub import constants

from jaxcam import pretrained
from tests.pretrained.weight_files import timm_names, weights, write_safetensors

HUB = """
import jaxcam
try:
    model = jaxcam.vgg16(weights="imagenet")
    print(model.class_names[282], model.preprocess.__name__, len(model.class_names))
    print(jaxcam.pretrained.to_arrays(model)["fc1/kernel"].tobytes().hex())
except OSError as error:
    print(type(error).__name__, error)
"""


def hub(cache):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.splitlines()


@pytest.mark.long
def test_imagenet_weights_come_from_the_hubs_cache(tmp_path):
    repository, commit = tmp_path / "models--timm--vgg16.tv_in1k", "0123456789" * 4
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    write_safetensors(snapshot / "model.safetensors", timm_names(weights(classes=1000)))
    described, fc1 = hub(tmp_path)
    assert described == "tiger cat torchvision 1000"
    assert bytes.fromhex(fc1) == weights(classes=1000)["fc1/kernel"].tobytes()


@pytest.mark.long
def test_without_network_and_cache_it_says_how_to_give_a_file(tmp_path):
    (line,) = hub(tmp_path)
    assert line.startswith("OSError the weights timm/vgg16.tv_in1k are not in the Hugging Face cache and cannot be")
    assert "give a file instead of 'imagenet'" in line


@pytest.mark.parametrize("build", [pretrained.vgg16, pretrained.convnext_tiny])
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_network_that_does_not_answer_is_one_line_at_once(monkeypatch, caplog, capfd, host, build):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{host}:{port}")
    sleeps = []
    monkeypatch.setattr("time.sleep", sleeps.append)  # between the tries of the Hub's client
    with caplog.at_level(logging.WARNING, "huggingface_hub"), pytest.raises(OSError, match="give a file instead of"):
        build(weights="imagenet")
    assert not sleeps and not caplog.records and capfd.readouterr() == ("", "")
