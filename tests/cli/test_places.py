"""`jaxcam segment`, `detect` and `watch`: what they print and write, and their mistakes in one line."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.cli import _detect, _places, _segment, _watch, main
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
    assert 0 < record["scores_of_network"]["iou_of_digits"] < 1


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


def test_a_line_says_how_good_each_network_is():
    ious = dict.fromkeys("0123456789", 0.5) | {"0": 0.0, "9": 0.0, "3": 0.65, "background": 0.97}
    scores = {"test_scenes": 200, "iou_of_digits": 0.42, "iou": ious}
    assert _segment.accuracy(scores, ["3", "7"]) == (
        "network: on 200 held-out scenes the IoU of digits is 0.42 (3: 0.65, 7: 0.50); it never finds 0, 9"
    )
    assert "never" not in _segment.accuracy(scores | {"iou": dict.fromkeys(ious, 0.5)}, ["3"])
    scores = {"test_scenes": 200, "average_precision_50": 0.914, "average_precision_75": 0.484}
    assert _detect.accuracy(scores).endswith("precision is 0.91 at an IoU of 0.5 and 0.48 at 0.75")
    scores = {"test_clips": 300, "accuracy": 0.9033}
    assert _watch.accuracy(scores).endswith(
        "90.3% of 300 held-out clips of 16 frames are named rightly, 16.7% by chance"
    )
    for folder, line in ("boxes", _detect.accuracy), ("clips", _watch.accuracy):
        assert line(_places.scores_of_network(folder))


@pytest.mark.parametrize(
    "words, says",
    [
        (["segment"], "takes a file or --sample N, got neither"),
        (["segment", "a.png", "--sample", "1"], "takes a file or --sample N, got both"),
        (["segment", "--sample", "9"], "canvas 9 does not exist"),
        (["segment", "--sample", "1", "--mask", "mask.png"], "--mask needs --class"),
        (["detect", "--sample", "1", "--box", "0,0,70,9"], "the box 0,0,70,9 is not inside the image"),
        (["detect", "--sample", "1", "--box", "0,0,7"], "expected --box row0,column0,row1,column1"),
        (["detect", "--sample", "1", "--box", "nan,nan,nan,nan"], "expected --box row0,column0,row1,column1"),
        (["detect", "--sample", "1", "--box", "0,0,nan,9"], "expected --box row0,column0,row1,column1"),
        (["detect", "--sample", "1", "--seed", "9" * 30], "is not a number from 0 to 4294967295"),
        (
            ["segment", "--sample", "1", "--class", "3", "--mask", "mask.jpg"],
            "mask.jpg is a JPEG, which blurs the edge",
        ),
        (["watch", "frames", "--out", "frames"], "--out frames is the folder of the frames"),
        (["detect", "--sample", "1", "--probability", "2"], "expected --probability between 0 and 1"),
        (["watch", "short.gif"], "short.gif has 2 frames: expected at least 16"),
        (["watch", "--sample", "0", "--frames", "2"], "expected at least 4 frames"),
        (["watch", "none.mp4"], "none.mp4"),
    ],
)
def test_mistakes_are_one_line(capsys, words, says):
    frames = [np.full([8, 8, 3], level, np.uint8) for level in (0, 200)]
    pathlib.Path("short.gif").write_bytes(images.animated(frames, seconds=0.1))
    Image.fromarray(np.full([64, 64, 3], 255, np.uint8)).save("mask.jpg")
    pathlib.Path("frames").mkdir()
    for number in range(16):
        Image.fromarray(frames[number % 2]).save(f"frames/{number}.png")
    fails(capsys, *words, says=says)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "1", "P"])
def test_what_is_transparent_or_black_is_not_in_a_mask(mode, tmp_path):
    """Ten by ten white pixels; beside them, where there is alpha, white ones that are transparent."""
    pixels = np.zeros([64, 64, 4], np.uint8)
    pixels[..., :3] = 255 if mode in ("RGBA", "LA") else 0
    pixels[5:15, 5:15] = 255
    opaque = Image.fromarray(pixels) if mode in ("RGBA", "LA") else Image.fromarray(pixels[..., :3])
    opaque.convert(mode).save(tmp_path / "mask.png")
    drawn = images.drawn_pixels(tmp_path / "mask.png")
    assert drawn.shape == (64, 64) and drawn[5:15, 5:15].all() and drawn.sum() == 100


@pytest.mark.long
def test_a_mask_of_another_size_is_one_line(capsys):
    Image.fromarray(np.full([32, 32, 3], 255, np.uint8)).save("mask.png")
    words = ["segment", "--sample", "1", "--class", "3", "--mask", "mask.png"]
    fails(capsys, *words, says="expected a mask of the image's size (64, 64), got (32, 32)")
