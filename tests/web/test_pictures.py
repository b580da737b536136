"""Files from visitors: pictures are read as everywhere in jaxcam, and anything else is refused in one line."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxcam.datasets import images
from jaxcam.web import SAMPLES, _pictures, sample_of
from jaxcam.web._pictures import read_picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_of_any_kind_is_read(kind, tmp_path):
    path = tmp_path / "picture.dat"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(path, format=kind)
    np.testing.assert_array_equal(read_picture(path, (64, 64)), images.read(path))


def saved(picture, **options):
    content = io.BytesIO()
    picture.save(content, **options)
    return content.getvalue()


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("cat.png", b"0" * 100)
    return content.getvalue()


PNG = saved(Image.new("RGB", (50, 50), "red"), format="PNG")
FILES = {
    "empty": (b"", "empty is no picture that can be read: expected PNG, JPEG, WebP, GIF, BMP"),
    "zip.png": (zipped(), "zip.png is no picture that can be read"),
    "text.png": (b"root:x:0:0:root:/root:/bin/bash\n", "text.png is no picture that can be read"),
    "sound.webp": (b"RIFF\x00\x00\x00\x00WAVEfmt ", "sound.webp is no picture that can be read"),
    "program.png": (saved(Image.new("RGB", (9, 9)), format="EPS"), "program.png is no picture that can be read"),
    "cut.png": (PNG[:70], "cut.png"),
    "header.jpg": (b"\xff\xd8\xff\xe0" + b"0" * 50, "header.jpg is not a whole picture"),
    "large.png": (
        saved(Image.new("1", (9000, 8000)), format="PNG"),
        "large.png has 72 megapixels: at most 64 are read",
    ),
    "bomb.png": (saved(Image.new("1", (20000, 20000)), format="PNG"), "bomb.png has more than"),
}


@pytest.mark.parametrize("name", FILES)
def test_any_other_file_is_refused_in_one_line(name, tmp_path):
    content, says = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as refused:
        read_picture(tmp_path / name, (64, 64))
    assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_an_upload_that_was_removed_names_no_folder(tmp_path):
    """The server removes uploads after a while; the page may be open for longer."""
    with pytest.raises(ValueError, match=r"^cat\.png is no longer on the server: upload it again$"):
        read_picture(tmp_path / "cat.png", (64, 64))


def test_a_file_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_pictures, "MOST_BYTES", 2**20)
    (tmp_path / "cat.png").write_bytes(PNG + b"0" * 2**21)
    with pytest.raises(ValueError, match="cat.png has 2 MiB: at most 1 are read"):
        read_picture(tmp_path / "cat.png", (64, 64))


def test_a_sample_is_known_by_its_content(tmp_path):
    (tmp_path / "x.jpg").write_bytes(SAMPLES["cat"].path.read_bytes())
    (tmp_path / "y.png").write_bytes(PNG)
    assert sample_of(tmp_path / "x.jpg") == SAMPLES["cat"] and sample_of(tmp_path / "y.png") is None
