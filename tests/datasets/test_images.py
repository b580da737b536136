"""Pictures of every mode, against their colors by NumPy; what a file does not say is refused in one line."""

import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxcam.datasets import Example, images, load

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 8), np.uint8)
ALPHA[0] = 0
GRAY = RNG.integers(0, 256, (6, 8), np.uint8)
GRAY16 = RNG.integers(0, 65536, (6, 8), np.uint16)


def on_white(color, alpha):
    """Colors and opacities of 8 bits, composited by the formula."""
    color, alpha = color / 255, alpha[..., None] / 255
    return alpha * color + (1 - alpha)


def thrice(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


def png(bits, color_type, rows, *chunks):
    """A PNG file, byte by byte."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, data = len(rows), rows[0][0], b"".join(b"\0" + row for _, row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*pair) for pair in chunks), chunk(b"IDAT", zlib.compress(data))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def tiff(values, *, bits, sample_format=1, photometric=1, tags=()):
    """A little-endian TIFF file with one value per pixel, byte by byte; tags are (number, type, packed value)."""
    height, width = values.shape
    data = values.tobytes()
    entries = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 3, height), (279, 4, len(data)), (339, 3, sample_format), *tags]
    directory = struct.pack("<H", len(entries))
    for number, kind, value in sorted(entries):
        code = {3: "<HHIHxx", 4: "<HHII", 9: "<HHIi", 11: "<HHIf"}[kind]
        directory += struct.pack(code, number, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + struct.pack("<I", 0)


def read_bytes(path, content):
    path.write_bytes(content)
    return images.read(path)


def palette_with_alpha(path):
    indices = RNG.integers(0, 4, (6, 8), np.uint8)
    colors = RNG.integers(0, 256, (4, 3), np.uint8)
    opacities = np.array([0, 100, 200, 255], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colors.tobytes())
    picture.save(path, transparency=opacities.tobytes())
    return on_white(colors[indices], opacities[indices])


def palette_with_a_transparent_color(path):
    indices = RNG.integers(0, 4, (6, 8), np.uint8)
    colors = RNG.integers(0, 256, (4, 3), np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colors.tobytes())
    picture.save(path, transparency=2)
    return on_white(colors[indices], np.where(indices == 2, 0, 255))


def a_transparent_color(path):
    Image.fromarray(RGB).save(path, transparency=tuple(map(int, RGB[2, 3])))
    return on_white(RGB, np.where((RGB == RGB[2, 3]).all(-1), 0, 255))


def saved(picture, right, **options):
    def save(path):
        picture.save(path, **options)
        return right

    return save


BITS = GRAY > 127
CMYK = RNG.integers(0, 256, (6, 8, 4), np.uint8)
PICTURES = {
    "RGB": (saved(Image.fromarray(RGB), RGB / 255), "a.png"),
    "L": (saved(Image.fromarray(GRAY), thrice(GRAY / 255)), "a.png"),
    "one bit": (saved(Image.fromarray(BITS), thrice(np.where(BITS, 1, 0))), "a.png"),
    "one bit, TIFF": (saved(Image.fromarray(BITS), thrice(np.where(BITS, 1, 0))), "a.tif"),
    "RGBA": (saved(Image.fromarray(np.dstack([RGB, ALPHA])), on_white(RGB, ALPHA)), "a.png"),
    "RGBA, TIFF": (saved(Image.fromarray(np.dstack([RGB, ALPHA])), on_white(RGB, ALPHA)), "a.tif"),
    "RGBA, WebP": (
        saved(Image.fromarray(np.dstack([RGB, ALPHA])), on_white(RGB, ALPHA), lossless=True, exact=True),
        "a.webp",
    ),
    "LA": (
        saved(
            Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA)]),
            on_white(np.repeat(GRAY[..., None], 3, -1), ALPHA),
        ),
        "a.png",
    ),
    "palette with opacities": (palette_with_alpha, "a.png"),
    "palette with a transparent color": (palette_with_a_transparent_color, "a.png"),
    "palette with a transparent color, GIF": (palette_with_a_transparent_color, "a.gif"),
    "RGB with a transparent color": (a_transparent_color, "a.png"),
    "CMYK": (
        saved(Image.fromarray(CMYK, "CMYK"), (1 - CMYK[..., :3] / 255) * (1 - CMYK[..., 3:] / 255)),
        "a.tif",
    ),
    "16 bits, PNG": (saved(Image.fromarray(GRAY16), thrice(GRAY16 / 65535)), "a.png"),
    "16 bits, TIFF": (saved(Image.fromarray(GRAY16), thrice(GRAY16 / 65535)), "a.tif"),
    "16 bits, PGM": (saved(Image.fromarray(GRAY16.astype(np.int32)), thrice(GRAY16 / 65535)), "a.pgm"),
    "floats": (saved(Image.fromarray(np.float32(GRAY / 255)), thrice(GRAY / 255)), "a.tif"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_mode_is_read_as_its_colors_on_white(tmp_path, kind):
    save, name = PICTURES[kind]
    right = save(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a library's warning names a path and helps nobody
        pixels = images.read(tmp_path / name)
    assert pixels.shape == (6, 8, 3) and pixels.dtype == np.float32
    # Pillow converts CMYK in 8 bits.
    np.testing.assert_allclose(pixels, right, atol=1 / 255 if kind == "CMYK" else 1e-6)


def test_hidden_colors_do_not_count(tmp_path):
    hidden = RGB.copy()
    hidden[ALPHA == 0] = 255, 0, 255
    Image.fromarray(np.dstack([RGB, ALPHA])).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([hidden, ALPHA])).save(tmp_path / "b.png")
    assert (images.read(tmp_path / "a.png") == images.read(tmp_path / "b.png")).all()


def test_the_colors_of_lab(tmp_path):
    # L = 50 without a tint is sRGB 119; L = 53.24, a = 80.09, b = 67.20 is its red, in D65; D50 moves it a little.
    lab = np.array([[[128, 0, 0], [255, 0, 0], [0, 0, 0]]], np.uint8)
    Image.fromarray(lab, "LAB").save(tmp_path / "a.tif")
    np.testing.assert_allclose(images.read(tmp_path / "a.tif") * 255, thrice(np.array([[119, 255, 0]])), atol=1.5)


def test_few_bits_with_a_transparent_gray(tmp_path):
    pixels = read_bytes(tmp_path / "a.png", png(2, 0, [(4, b"\x1b")], (b"tRNS", b"\0\2")))  # 0 1 2 3
    np.testing.assert_allclose(pixels[0, :, 0], [0, 1 / 3, 1, 1], atol=1e-6)
    pixels = read_bytes(tmp_path / "b.png", png(4, 0, [(2, b"\x3a")], (b"tRNS", b"\0\3")))  # 3 10
    np.testing.assert_allclose(pixels[0, :, 0], [1, 10 / 15], atol=1e-6)


def test_16_bits_with_transparency(tmp_path):
    row = struct.pack(">3H", 1000, 30000, 1001)
    pixels = read_bytes(tmp_path / "a.png", png(16, 0, [(3, row)], (b"tRNS", struct.pack(">H", 1000))))
    np.testing.assert_allclose(pixels[0, :, 1], [1, 30000 / 65535, 1001 / 65535], atol=1e-6)
    row = struct.pack(">3H", 1000, 2000, 3000)
    colors = png(16, 2, [(1, row)], (b"tRNS", struct.pack(">3H", 1000, 2000, 3001)))
    with pytest.raises(ValueError, match="a.png has a transparent color of 16 bits, which is not read: save it with"):
        read_bytes(tmp_path / "a.png", colors)


def test_the_bits_of_a_tiff_file_say_its_range(tmp_path):
    np.testing.assert_allclose(
        read_bytes(tmp_path / "a.tif", tiff(GRAY16, bits=16, photometric=0))[..., 2], 1 - GRAY16 / 65535, atol=1e-6
    )
    twelve = np.array([0xFF, 0xF8, 0x00], np.uint8)[None]  # 4095 and 2048 in 12 bits each
    content = tiff(twelve, bits=12).replace(struct.pack("<HHIHxx", 256, 3, 1, 3), struct.pack("<HHIHxx", 256, 3, 1, 2))
    np.testing.assert_allclose(read_bytes(tmp_path / "b.tif", content)[0, :, 0], [1, 2048 / 4095], atol=1e-6)


SIGNED16 = np.array([[-300, 0, 700]], np.int16)
INTEGERS32 = np.array([[0, 3_000_000_000, 4_000_000_000]], np.uint32)
FLOATS = np.array([[-2, 0, 6]], np.float32)


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (tiff(SIGNED16, bits=16, sample_format=2, tags=[(340, 9, -1000), (341, 9, 1000)]), [0.35, 0.5, 0.85]),
        (tiff(INTEGERS32, bits=32, tags=[(341, 4, 4_000_000_000)]), [0, 0.75, 1]),
        (tiff(INTEGERS32 // 10**6, bits=32, tags=[(281, 3, 8000)]), [0, 0.375, 0.5]),
        (tiff(FLOATS, bits=32, sample_format=3, tags=[(340, 11, -4), (341, 11, 12)]), [0.125, 0.25, 0.625]),
    ],
)
def test_a_range_that_the_file_declares(tmp_path, content, right):
    np.testing.assert_allclose(read_bytes(tmp_path / "a.tif", content)[0, :, 0], right, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(SIGNED16, bits=16, sample_format=2), "has integers from -300 to 700: the file does not say their range"),
        (tiff(INTEGERS32, bits=32), r"has integers from 0 to 4e\+09: the file does not say"),
        (tiff(INTEGERS32, bits=32, tags=[(341, 4, 1000)]), r"has integers from 0 to 4e\+09: the file does not say"),
        (tiff(SIGNED16.astype(np.int32), bits=32, sample_format=2), "has integers from -300 to 700"),
        (tiff(FLOATS, bits=32, sample_format=3), "has floats from -2 to 6: the file does not say their range; scale"),
        (tiff(np.float32([[0, np.nan]]), bits=32, sample_format=3), "has values that are NaN or infinite"),
        (tiff(np.int8([[-3, 4]]), bits=8, sample_format=2), "has signed integers of 8 bits"),
        (b"", "is not a picture that can be read"),
        (png(8, 0, [(4, b"abcd")])[:40], "is not a"),
    ],
)
def test_what_the_file_does_not_say_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a.tif {message}") as raised:
        read_bytes(tmp_path / "a.tif", content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_once(tmp_path, name, orientation):
    stored = np.kron(np.array([[1, 0, 0], [0, 0.5, 0]]), np.ones([16, 16]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray((255 * stored).astype(np.uint8)).convert("RGB").save(tmp_path / name, exif=exif)
    # By the meaning of the tag: which side of the picture the first stored row and the first stored column are.
    turned = [stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1]]
    turned += [turn.T for turn in (stored, stored[::-1], stored[::-1, ::-1], stored[:, ::-1])]
    pixels, size = images.read_with_size(tmp_path / name, lambda size: (4, 4))
    assert size == turned[orientation - 1].shape
    np.testing.assert_allclose(pixels[..., 0], turned[orientation - 1], atol=0.05)


def test_a_large_picture_is_reduced_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGE", 200 * 300 - 1)
    smooth = Image.fromarray(RNG.integers(0, 256, (5, 7, 3), np.uint8)).resize((300, 200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "a.jpg", "a.tif"):
        smooth.save(tmp_path / name, exif=exif, **({"quality": 95} if name == "a.jpg" else {}))
        whole = images.read(tmp_path / name)
        reduced = images.read(tmp_path / name, at_least=(20, 10))
        assert whole.shape == (300, 200, 3) and reduced.shape == ((150, 100, 3) if name == "a.jpg" else (80, 54, 3)), (
            name
        )
        np.testing.assert_allclose(images.fit(reduced, (20, 10)), images.fit(whole, (20, 10)), atol=0.01)
        assert images.read(tmp_path / name, at_least=(40, 30)).shape == whole.shape
    example = Example(tmp_path / "a.png", 0, boxes=np.array([[0, 0, 100, 300]]))
    loaded = load(example, (20, 10))
    assert loaded.boxes.tolist() == [[0, 5, 20, 10]] and loaded.image.shape == (20, 10, 3)


def test_transparent_and_16_bit_pictures_are_reduced_as_their_colors(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGE", 1)
    alpha = np.kron([[0, 255]], np.ones([16, 8], np.uint8)).astype(np.uint8)
    Image.fromarray(np.dstack([np.full([16, 16, 3], 51, np.uint8), alpha])).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png", at_least=(1, 1)).shape == (4, 4, 3)
    np.testing.assert_allclose(images.read(tmp_path / "a.png", at_least=(1, 1))[0, :, 0], [1, 1, 0.2, 0.2], atol=1e-6)
    wide = RNG.integers(0, 65536, (16, 16), np.uint16)
    Image.fromarray(wide).save(tmp_path / "b.png")
    means = wide.reshape(4, 4, 4, 4).mean((1, 3)) / 65535
    np.testing.assert_allclose(images.read(tmp_path / "b.png", at_least=(1, 1))[..., 0], means, atol=1e-5)


def test_too_many_pixels_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(np.zeros([15, 12], np.uint8)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.read(tmp_path / "a.png").shape == (15, 12, 3)
    Image.fromarray(np.zeros([15, 20], np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="b.png has more than 0 megapixels: make the picture smaller, or raise"):
        images.read(tmp_path / "b.png")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"])
def test_broken_files_are_one_line(tmp_path, image_format):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (30, 30, 3), np.uint8)).save(buffer, image_format)
    content = np.frombuffer(buffer.getvalue(), np.uint8)
    failures = 0
    for i in range(40):
        broken = content.copy()
        places = RNG.integers(0, min(len(content), 200 if i % 2 else len(content)), 4)
        broken[places] = RNG.integers(0, 256, 4)
        end = int(RNG.integers(1, len(content))) if i % 3 == 0 else None
        (tmp_path / "broken").write_bytes(broken[:end].tobytes())
        try:
            pixels = images.read(tmp_path / "broken")
        except ValueError as error:
            failures += 1
            assert "broken" in str(error) and "\n" not in str(error)
        else:
            assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1
    assert failures > 0 or image_format == "BMP"


def test_a_file_takes_no_memory_for_bytes_that_it_does_not_have(tmp_path):
    """Decoders ask for as many bytes as a file claims."""
    path = tmp_path / "small"
    path.write_bytes(bytes(3))
    with images._BoundedFile(io.FileIO(path)) as file:
        tracemalloc.start()
        content, (_, peak) = file.read(2**28), tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert content == bytes(3) and peak < 2**20
