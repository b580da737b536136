"""Many images: the same maps as one by one; failures, names and mistaken calls."""

import functools
import json
import logging
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.cli import main
from tests.runtime.specimen import KEY, SMALL, check, weighted

CANVASES = pathlib.Path(jaxcam.__file__).parent / "pretrained" / "digits"


@pytest.mark.parametrize(
    ("batch_size", "targets"), [(None, None), (1, None), (4, [0, 1, 1, 1, 1, 0, 0, 0, 1, 0]), (100, 1)]
)
def test_each_as_if_by_itself(tiny, batch_size, targets):
    found = jaxcam.explain_batch(weighted, tiny, SMALL, targets, KEY, batch_size=batch_size)
    assert list(found.maps) == list("0123456789")
    check(found, tiny, SMALL, [targets] * 10 if isinstance(targets, int) else targets)


def test_loading_is_lazy(tiny):
    """No more is loaded than the chunk that is computed and the next."""
    events = []

    def load(i):
        events.append(i)
        return SMALL[i]

    def method(cut, image, target, key):
        jax.debug.callback(lambda _: events.append("computed"), image[0, 0, 0])
        return weighted(cut, image, target, key)

    found = jaxcam.explain_batch(method, tiny, range(10), None, KEY, load=load, batch_size=2)
    jax.effects_barrier()
    check(found, tiny, SMALL)
    for i in range(10):
        assert events[: events.index(i)].count("computed") >= 2 * (i // 2 - 1)


def test_failures_are_one_line_each_and_the_others_go_on(tiny, tmp_path, caplog):
    Image.fromarray((255 * SMALL[0]).astype(np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    nan = SMALL[1].copy()
    nan[0, 0] = np.nan
    images = [SMALL[0], tmp_path / "good.png", tmp_path / "torn.png", nan, SMALL[2, ..., :2], SMALL[3], SMALL[4] * 1e30]
    images += [SMALL[5].astype(np.int32), tmp_path / "none.png", SMALL[6]]
    targets = [0, 1, 0, 1, 0, 2, 0, 0, 0, 1]
    kernel = tiny.params["kernel"].at[0, 3].set(1e15)  # 1e30 overflows
    tiny = jaxcam.Cut({**tiny.params, "kernel": kernel}, tiny.features, tiny.head)
    with caplog.at_level(logging.WARNING, "jaxcam"):
        maps, failed = jaxcam.explain_batch(weighted, tiny, images, targets, KEY, batch_size=3, out=tmp_path / "out")
    assert list(maps) == ["0", "1", "9"]
    wanted = {"2": "torn.png is not", "3": "3 values that are NaN", "4": "shape", "5": "target 2 is out of range"}
    wanted |= {"6": "not finite", "7": "floats in the model's range, got int32", "8": "none.png"}
    assert set(failed) == set(wanted) and all(text in failed[name] for name, text in wanted.items())
    assert len(caplog.records) == 7 and not any("\n" in record.getMessage() for record in caplog.records)
    for name in maps:
        assert np.isfinite(np.load(maps[name])).all()
    (tmp_path / "none.png").write_bytes((tmp_path / "good.png").read_bytes())
    again = jaxcam.explain_batch(weighted, tiny, images, targets, KEY, out=tmp_path / "out")
    assert set(again.maps) == {"0", "1", "8", "9"} and set(again.failed) == set("234567"), "tried again"


def test_a_mistake_in_the_call_is_no_images_failure(tiny):
    with pytest.raises(ValueError, match="needs a key"):
        jaxcam.explain_batch(jaxcam.smooth_grad_cam_pp, tiny, SMALL)
    with pytest.raises(TypeError, match="is not a Cut"):
        jaxcam.explain_batch(jaxcam.grad_cam, jaxcam.digits(), SMALL)
    with pytest.raises(TypeError, match="floats in the model's range, got uint8"):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL.astype(np.uint8))
    with pytest.raises(ValueError, match="one for each of 10 images, got 2"):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL, [1, 2])
    with pytest.raises(TypeError, match="jax.random.key"):
        jaxcam.explain_batch(weighted, tiny, SMALL, None, 0)


def test_names(tiny, tmp_path):
    for folder, suffix in (("a", "png"), ("b", "png"), ("b", "jpg")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray((255 * SMALL[0]).astype(np.uint8)).save(tmp_path / folder / f"x.{suffix}")
    a, b, c = tmp_path / "a/x.png", str(tmp_path / "b/x.png"), tmp_path / "b/x.jpg"
    explain = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny)
    assert list(explain([a]).maps) == ["x"]
    assert list(explain([b, c]).maps) == ["x.png", "x.jpg"]
    assert list(explain([a, b], names=["one", "two"]).maps) == ["one", "two"]
    with pytest.raises(ValueError, match="two images are called 'x.png'"):
        explain([a, b])
    with pytest.raises(ValueError, match="name '../x' is no name for a file"):
        explain([a], names=["../x"])
    with pytest.raises(ValueError, match="expected one name for each of 2 images, got 1"):
        explain([a, b], names=["one"])


def test_the_command_line(tmp_path, capsys, caplog):
    folder, out = tmp_path / "pictures", tmp_path / "maps"
    folder.mkdir()
    for i in range(2):
        (folder / f"canvas{i}.png").write_bytes((CANVASES / f"canvas{i}.png").read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    batch = ["batch", str(folder), "--model", "digits"]
    arguments = [*batch, "--out", str(out), "--method", "grad_cam", "--target", "3", "--json"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["maps"] == 2 and record["failed"] == {}
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    image, _ = jaxcam.pretrained.digits_canvas(1)
    np.testing.assert_allclose(np.load(out / "canvas1.npy"), jaxcam.grad_cam(cut, image, 3), atol=1e-5)
    assert main([*arguments[:-2], "5"]) == 2
    assert "holds another run, with targets" in capsys.readouterr().err
    (folder / "torn.png").write_bytes(b"no picture")
    assert main([*batch, "--out", str(tmp_path / "more"), "--method", "grad_cam"]) == 2
    assert "2 maps" in capsys.readouterr().out and "torn" in caplog.text
    assert main(["batch", str(tmp_path / "none"), "--out", str(out)]) == 2


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("pics", {}, "expected a sequence of images, .* got 'pics'"),
        (3, {}, "expected a sequence or an iterable of images in order, got a int"),
        ([], {"memory": "4GB"}, "expected a number of bytes for memory, .* got '4GB'"),
    ],
)
def test_what_is_no_sequence_of_images(tiny, images, options, message):
    with pytest.raises(TypeError, match=message):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, images, **options)


def test_a_class_that_int32_does_not_hold(tiny):
    found = jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL[:3], [2**32 + 1, 1, 2**31 + 5])
    assert list(found.maps) == ["1"] and set(found.failed) == {"0", "2"}
