"""Frames of animated pictures and folders, and what is no clip."""

import numpy as np
import pytest
from PIL import Image

from jaxcam import limits
from jaxcam.datasets import clips, images


@pytest.fixture
def levels():
    """Frames of one gray level each, which a GIF keeps as they are."""
    return [np.full([4, 6, 3], 10 * i, np.uint8) for i in range(9)]


def test_frames_of_a_gif_are_spread_from_the_first_to_the_last(tmp_path, levels):
    (tmp_path / "clip.gif").write_bytes(images.animated(levels, seconds=0.2))
    clip = clips.read(tmp_path / "clip.gif", 3)
    assert clip.numbers == (0, 4, 8) and clip.total == 9 and clip.seconds == pytest.approx(1.8)
    np.testing.assert_allclose(clip.frames, np.stack([levels[i] for i in (0, 4, 8)]) / np.float32(255), atol=1e-6)
    assert clips.read(tmp_path / "clip.gif", 2, shape=(8, 8)).frames.shape == (2, 8, 8, 3)


def test_a_folder_is_read_in_the_order_of_names(tmp_path, levels):
    for i in (2, 0, 1):
        Image.fromarray(levels[i]).save(tmp_path / f"{i}.png")
    clip = clips.read(tmp_path)
    np.testing.assert_allclose(clip.frames[:, 0, 0, 0] * 255, [0, 10, 20], atol=1e-4)
    assert clip.seconds is None
    Image.fromarray(np.zeros([5, 5, 3], np.uint8)).save(tmp_path / "3.png")
    with pytest.raises(ValueError, match=r"frames of several sizes, \(4, 6\) and \(5, 5\)"):
        clips.read(tmp_path)


def test_frames_are_in_the_order_of_their_numbers(tmp_path, levels):
    for i in range(9):
        Image.fromarray(levels[i]).save(tmp_path / f"frame{5 + i}.png")
    np.testing.assert_allclose(clips.read(tmp_path).frames[:, 0, 0, 0] * 255, np.arange(9) * 10, atol=1e-4)


@pytest.mark.parametrize("suffix, codec", [("mp4", "mpeg4"), ("webm", "libvpx"), ("mkv", "mpeg4")])
def test_a_video_is_read_to_its_end_or_not_at_all(tmp_path, suffix, codec):
    """Of 32 frames, gray levels that a codec keeps nearly as they are; and of their first three quarters."""
    av, file, short = pytest.importorskip("av"), tmp_path / f"clip.{suffix}", tmp_path / f"short.{suffix}"
    noise = np.random.default_rng(0).integers(0, 60, (32, 64, 64, 3))
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number, texture in enumerate(noise):
            frame = av.VideoFrame.from_ndarray((6 * number + texture).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = clips.read(file, 16)
    assert clip.total == 32 and clip.seconds == pytest.approx(3.2) and clip.numbers[-1] == 31
    means = 255 * clip.frames.mean((1, 2, 3))
    np.testing.assert_allclose(means, 6 * np.array(clip.numbers) + 29.5, atol=12)
    content = file.read_bytes()
    short.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ValueError, match="cut short") as refused:
        clips.read(short, 16)
    assert "\n" not in str(refused.value)


def test_what_is_no_clip_is_one_line(tmp_path, levels):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(6)]
    content = images.animated(noise, seconds=0.1)
    (tmp_path / "short.gif").write_bytes(content[: len(content) // 2])
    Image.fromarray(levels[0]).save(tmp_path / "still.png")
    (tmp_path / "clip.gif").write_bytes(images.animated(levels, seconds=0.1))
    for name, count, message in (
        ("still.png", None, "has 1 frame: expected a clip of several"),
        ("clip.gif", 12, "has 9 frames: expected at least 12"),
        ("clip.gif", 0, "expected an integer of at least 1 for count, got 0"),
        ("short.gif", 6, "short.gif has . frames: expected at least 6"),
        ("short.gif", None, "short.gif is not a whole picture"),
        ("none.gif", None, "no such file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
            clips.read(tmp_path / name, count)
        assert "\n" not in str(error.value)
    for shape in (8, (8,), (0, 8), (8.0, 8)):
        with pytest.raises(ValueError, match=r"expected a shape \(height, width\) of positive integers, got"):
            clips.read(tmp_path / "clip.gif", shape=shape)


def test_a_clip_is_not_decoded_beyond_the_limit(tmp_path, levels):
    """Its duration takes all frames, also if only one of them is read."""
    (tmp_path / "clip.gif").write_bytes(images.animated(levels, seconds=0.1))
    with limits.changed(clip_pixels=4 * 6 * 9):
        assert clips.read(tmp_path / "clip.gif", 1).seconds == pytest.approx(0.9)
    with limits.changed(clip_pixels=4 * 6 * 9 - 1), pytest.raises(ValueError, match="frame 8, more than 0 "):
        clips.read(tmp_path / "clip.gif", 1)
