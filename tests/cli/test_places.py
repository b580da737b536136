"""`jaxcam segment`, `detect` and `watch`: what they print and write, and their mistakes in one line."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.cli import main
from jaxcam.datasets import images
from tests.cli.test_command_line import fails


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record_of(capsys, *words):
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert all(pathlib.Path(file).stat().st_size for file in record["files"])
    return record


@pytest.mark.long
def test_segment_names_the_digit_of_a_canvas(capsys):
    record = record_of(capsys, "segment", "--sample", "1", "--class", "3")
    (described,) = record["classes"]
    assert described["class"] == "3" and described["pixels"] > 50 and described["map_shape"] == [16, 16]
    assert not described["map_is_zero"] and record["output"] == "canvas1.segment.png"


@pytest.mark.long
def test_detect_finds_the_boxes_of_a_canvas(capsys):
    _, truth = jaxcam.pretrained.digits_canvas(1)
    record = record_of(capsys, "detect", "--sample", "1", "--parts", "--probability", "0.2")
    overlaps = [float(jaxcam.metrics.overlap(np.array(box["box"]), truth).max()) for box in record["boxes"]]
    assert max(overlaps) > 0.5
    assert list(record["boxes"][0]["maps"]) == ["score", "row0", "column0", "row1", "column1"]


@pytest.mark.long
def test_watch_draws_a_strip_and_an_animation(capsys):
    record = record_of(capsys, "watch", "--sample", "0", "--target", "left")
    assert record["files"] == ["clip0.watch.png", "clip0.watch.gif"] and record["map_shape"] == [8, 8, 8]
    assert images.frame_count("clip0.watch.gif") == 16
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    fails(capsys, "watch", "--sample", "0", says="exists already; --force overwrites it")


@pytest.mark.parametrize(
    "words, says",
    [
        (["segment"], "takes a file or --sample N, got neither"),
        (["segment", "a.png", "--sample", "1"], "takes a file or --sample N, got both"),
        (["segment", "--sample", "9"], "canvas 9 does not exist"),
        (["segment", "--sample", "1", "--mask", "mask.png"], "--mask needs --class"),
        (["detect", "--sample", "1", "--box", "0,0,70,9"], "the box 0,0,70,9 is not inside the image"),
        (["detect", "--sample", "1", "--box", "0,0,7"], "expected --box row0,column0,row1,column1"),
        (["detect", "--sample", "1", "--probability", "2"], "expected --probability between 0 and 1"),
        (["watch", "short.gif"], "short.gif has 2 frames: expected at least 16"),
        (["watch", "--sample", "0", "--frames", "2"], "expected at least 4 frames"),
        (["watch", "none.mp4"], "none.mp4"),
    ],
)
def test_mistakes_are_one_line(capsys, words, says):
    frames = [np.full([8, 8, 3], level, np.uint8) for level in (0, 200)]
    pathlib.Path("short.gif").write_bytes(images.animated(frames, seconds=0.1))
    fails(capsys, *words, says=says)


@pytest.mark.long
def test_a_mask_of_another_size_is_one_line(capsys):
    Image.fromarray(np.full([32, 32, 3], 255, np.uint8)).save("mask.png")
    words = ["segment", "--sample", "1", "--class", "3", "--mask", "mask.png"]
    fails(capsys, *words, says="expected a mask of the image's size (64, 64), got (32, 32)")
