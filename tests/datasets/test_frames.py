"""Frames of animated pictures, open files, and animations that are written."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxcam.datasets import Frame, images

GRAYS = (0, 90, 180, 255)


@pytest.fixture(params=["gif", "png", "webp", "tiff"])
def clip(request, tmp_path):
    """An animated picture whose frames have one gray each."""
    if request.param == "webp" and ".webp" not in Image.registered_extensions():
        pytest.skip("Pillow without WebP")
    first, *others = [Image.fromarray(np.full((6, 8, 3), gray, np.uint8)) for gray in GRAYS]
    options = {"lossless": True} if request.param == "webp" else {}
    first.save(tmp_path / f"clip.{request.param}", save_all=True, append_images=others, **options)
    return tmp_path / f"clip.{request.param}"


def test_each_frame_is_read_as_its_colors(clip):
    assert images.frame_count(clip) == len(GRAYS)
    for number in (2, 0, 3, 1):
        frame = images.read(Frame(clip, number))
        np.testing.assert_allclose(frame, np.full((6, 8, 3), GRAYS[number] / 255), atol=0.01)
    np.testing.assert_array_equal(images.read(clip), images.read(Frame(clip)))
    with pytest.raises(ValueError, match=rf"{clip.name} has no frame 4: it has 4, from 0"):
        images.read(Frame(clip, 4))


def test_an_open_file_is_read_again_and_stays_open(clip):
    file = io.BytesIO(clip.read_bytes())
    for number in (1, 0):
        np.testing.assert_array_equal(images.read(Frame(file, number)), images.read(Frame(clip, number)))
    assert images.frame_count(file) == len(GRAYS) and not file.closed
    broken = io.BytesIO(b"no picture")
    with pytest.raises(ValueError, match="the picture is not a picture that can be read"):
        images.read(broken)
    broken.name = "standard input"
    with pytest.raises(ValueError, match="standard input is not a picture that can be read"):
        images.read(broken)


def test_a_written_animation_has_its_frames(tmp_path):
    frames = [np.full((6, 8, 3), gray, np.uint8) for gray in GRAYS]
    (tmp_path / "x.gif").write_bytes(images.animated(frames, seconds=0.25))
    for number, gray in enumerate(GRAYS):
        np.testing.assert_allclose(images.read(Frame(tmp_path / "x.gif", number)), gray / 255, atol=0.01)
    with Image.open(tmp_path / "x.gif") as opened:
        assert opened.info["duration"] == 250
    with pytest.raises(ValueError, match="expected frames of one size"):
        images.animated([frames[0], frames[0][:3]], seconds=1)
    with pytest.raises(ValueError, match="expected frames of one size, got no frames"):
        images.animated([], seconds=1)


def broken(clip):
    """Files with a part of the content, and a TIFF file that does not say its width."""
    content = clip.read_bytes()
    yield from (content[:count] for count in range(0, len(content), 3))
    if clip.suffix == ".tiff":
        yield content.replace(b"\x00\x01\x04\x00", b"\xff\x7f\x04\x00", 1).replace(
            b"\x00\x01\x03\x00", b"\xff\x7f\x03\x00", 1
        )


def test_a_broken_clip_is_a_picture_or_one_line(clip):
    refused = 0
    for content in broken(clip):
        for number in (0, 1):
            try:
                images.read(Frame(io.BytesIO(content), number))
            except ValueError as error:
                assert "the picture" in str(error) and "\n" not in str(error)
                refused += 1
    assert refused > 10
