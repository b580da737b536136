"""Picture files as arrays: `[h w 3]` floats in 0..1, upright; and arrays as an animated picture.

A file is judged by its content, and only the formats of `FORMATS` are read: Pillow reads others by starting other
programs, as it does with PostScript. How much a file may decode to is limited by `jaxcam.limits` and by
`PIL.Image.MAX_IMAGE_PIXELS`.
"""

import contextlib
import errno
import io
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxcam._base import limits
from jaxcam.datasets._frame import Frame, PictureFile, name_of
from jaxcam.datasets._geometry import TURNS
from jaxcam.datasets._jpeg import check_scans
from jaxcam.datasets._pixels import colors_of, raw_mode_of

# Pillow's names of the formats that are read.
FORMATS = (
    "PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "MPO", "ICO", "DIB", "PPM", "PCX", "PSD",
    "QOI", "SGI", "TGA",
)  # fmt: skip
LARGE = 2**24  # pixels of a picture that is reduced while it is read, if its reader says how many it needs
ENOUGH = 4  # pixels that are kept for one of the resized picture, along each axis


def read(path: PictureFile | Frame, *, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """Reads a picture file as `[h w 3]` float32, RGB in 0..1, turned upright by its EXIF data.

    - What is transparent shows white: an alpha channel, a palette with transparency, a transparent color.
    - Gray values of 16 bits are divided by the largest value that the file's bits hold, 65535 or 4095. Floats in 0..1
      are taken as they are. Other floats, signed integers and integers of 32 bits need a TIFF file that says their
      range in its tags SMinSampleValue and SMaxSampleValue, or MinSampleValue and MaxSampleValue.
    - CMYK, YCbCr and Lab become RGB. An embedded color profile is not applied: networks are trained without it.
    - Of a file with several frames the first is read, or that of a `jaxcam.datasets.Frame`.

    Args:
      path: the file, a binary file that is open, or a `Frame`.
      at_least: the height and width that the picture is resized to afterwards. A picture of more than 16 megapixels is
        then reduced while it is read, to no less than four times this height and width. This saves most of the time
        and the memory, and changes the resized picture by less than 0.01. By default all pixels are read.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture of `FORMATS`, is truncated, does not say the range of its values, or does
        not have the frame; or it has more pixels than twice `PIL.Image.MAX_IMAGE_PIXELS`, which is 178 megapixels by
        default, or exceeds one of `jaxcam.limits`.

    Example:
      >>> import importlib.resources
      >>> read(importlib.resources.files("jaxcam.pretrained") / "digits" / "canvas0.png").shape
      (64, 64, 3)
    """
    if at_least is None:
        return _read(path, None)[0]
    return _read(path, lambda size: at_least)[0]


def read_with_size(
    path: str | os.PathLike, at_least: Callable[[tuple[int, int]], tuple[int, int]]
) -> tuple[np.ndarray, tuple[int, int]]:
    """As `read`, with the picture's height and width in the file, upright.

    Args:
      path: the file.
      at_least: from the picture's height and width to those that it is resized to.

    Example:
      >>> import importlib.resources
      >>> canvas = importlib.resources.files("jaxcam.pretrained") / "digits" / "canvas0.png"
      >>> pixels, size = read_with_size(canvas, lambda size: (size[0] // 2, size[1] // 2))
      >>> pixels.shape, size
      ((64, 64, 3), (64, 64))
    """
    return _read(path, at_least)


def frame_count(path: PictureFile) -> int:
    """The number of frames of a picture file; 1 if it is not animated.

    Raises:
      ValueError: the file is not a picture.

    Example:
      >>> import importlib.resources
      >>> frame_count(importlib.resources.files("jaxcam.pretrained") / "digits" / "canvas0.png")
      1
    """
    with _opened_picture(path) as opened:
        return getattr(opened, "n_frames", 1)


def duration(path: PictureFile) -> float:
    """How many seconds the frames of a picture file take together; 0 if the file does not say it.

    Raises:
      ValueError: the file is not a picture, is cut short, or exceeds `jaxcam.limits`: the frames are decoded.

    Example:
      >>> duration(io.BytesIO(animated([np.zeros([4, 4, 3], np.uint8), np.ones([4, 4, 3], np.uint8)], seconds=0.5)))
      1.0
    """
    with _opened_picture(path) as opened:
        count = getattr(opened, "n_frames", 1)
        _check_clip(opened, count - 1, path)
        milliseconds = 0.0
        for number in range(count):
            opened.seek(number)
            milliseconds += float(opened.info.get("duration", 0))
        return milliseconds / 1000


def animated(frames: Sequence[np.ndarray], *, seconds: float) -> bytes:
    """The content of a GIF file that shows frames again and again.

    Args:
      frames: `[h w 3]` uint8 each, of one size.
      seconds: for which each frame is shown.

    Raises:
      ValueError: no frames, or frames of several sizes.

    Example:
      >>> animated([np.zeros([4, 4, 3], np.uint8), np.full([4, 4, 3], 255, np.uint8)], seconds=0.5)[:6]
      b'GIF89a'
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1:
        raise ValueError(f"expected frames of one size, got {sorted(shapes) or 'no frames'}")
    pictures = [_in_256_colors(Image.fromarray(frame)) for frame in frames]
    content = io.BytesIO()
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 * seconds), loop=0)
    return content.getvalue()


def _in_256_colors(picture):
    """A picture of a GIF's kind: colors that are rare, as those of a color bar, stay, and others are dithered."""
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _read(path, at_least):
    path, number = path if isinstance(path, Frame) else (path, 0)
    with _opened_picture(path) as opened:
        if number:
            count = getattr(opened, "n_frames", 1)
            if not 0 < number < count:
                raise ValueError(f"{name_of(path)} has no frame {number}: it has {count}, from 0")
            _check_clip(opened, number, path)
            opened.seek(number)
        raw_mode = raw_mode_of(opened)  # Pillow forgets it when it loads the picture
        size = None
        if at_least is not None and opened.format == "JPEG":  # it can be decoded at 1/2, 1/4 or 1/8 of its size
            exchanged = TURNS[_orientation(opened)].exchanged
            size = _upright(opened.size[::-1], exchanged)
            if size[0] * size[1] > LARGE:
                height, width = _upright(at_least(size), exchanged)
                opened.draft(None, (ENOUGH * width, ENOUGH * height))
        opened.load()
        turn = TURNS[_orientation(opened)]  # after loading, which turns a TIFF file upright
        loaded_size = _upright(opened.size[::-1], turn.exchanged)
        size = size or loaded_size
        shape = loaded_size
        if at_least is not None and size[0] * size[1] > LARGE:
            pairs = zip(loaded_size, at_least(size), strict=True)
            reduction = min(side / (ENOUGH * needed) for side, needed in pairs)
            if reduction >= 2:
                shape = (math.ceil(shape[0] / reduction), math.ceil(shape[1] / reduction))
        colors = colors_of(opened, name_of(path), raw_mode, _upright(shape, turn.exchanged))
    colors = colors.swapaxes(0, 1) if turn.exchanged else colors
    rows, columns = (slice(None, None, -1 if is_reversed else 1) for is_reversed in turn.reversed)
    return np.ascontiguousarray(colors[rows, columns]), size


def _check_clip(opened, number, path):
    """Raises a ValueError if too much is decoded until a frame is reached: each frame needs those before it."""
    most, pixels = limits.current().clip_pixels, (number + 1) * opened.size[0] * opened.size[1]
    if pixels > most:
        raise ValueError(
            f"{name_of(path)}: {pixels / 1e6:.0f} megapixels are decoded to reach frame {number}, more than "
            f"{most / 1e6:.0f} (jaxcam.limits: clip_pixels)"
        )


def _upright(size, exchanged):
    return (size[1], size[0]) if exchanged else (size[0], size[1])


def values(path: str | os.PathLike) -> np.ndarray:
    """Reads the stored values of a mask file, `[h w]` int32: gray values, or the numbers of a palette.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture, it is truncated, or it has several values per pixel.
    """
    with _opened_picture(path) as opened:
        stored = np.asarray(opened)
        if stored.ndim != 2 or stored.dtype.kind == "f":
            raise ValueError(f"{os.fspath(path)}: expected a mask with one integer per pixel, got {opened.mode}")
    return stored.astype(np.int32)


def drawn_pixels(path: str | os.PathLike) -> np.ndarray:
    """The pixels `[h w]`, bool, of a picture of a mask that are drawn: neither black nor transparent.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture, it is truncated, or it is a JPEG, which is gray around what is drawn.
    """
    with _opened_picture(path) as opened:
        if opened.format in ("JPEG", "MPO"):
            raise ValueError(f"{os.fspath(path)} is a JPEG, which blurs the edge of a mask: save it as PNG")
        stored = np.asarray(opened)
        if stored.ndim == 2 and opened.mode != "P":
            return stored != 0
        pixels = np.asarray(opened.convert("RGBA"))
    return pixels[..., :3].any(-1) & (pixels[..., 3] > 0)


def count_pixels(path: str | os.PathLike) -> int:
    """How many pixels a picture file has, by its header.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture, or it has more pixels than `read` admits.
    """
    with _opened_picture(path) as opened:
        return opened.size[0] * opened.size[1]


def orientation(path: str | os.PathLike) -> int:
    """The EXIF orientation of a file, 1 (upright) to 8."""
    with _opened_picture(path) as opened:
        return _orientation(opened)


def _orientation(opened):
    orientation = opened.getexif().get(0x0112, 1)
    return orientation if orientation in TURNS else 1


@contextlib.contextmanager
def _opened_picture(path: PictureFile) -> Iterator[Image.Image]:
    """A picture opened by Pillow. Its errors become one line that names the file, and its warnings are not shown."""
    name = name_of(path)
    with warnings.catch_warnings(), _opened_file(path) as file:
        warnings.simplefilter("ignore")  # of metadata that is odd, and of sizes within the limit
        try:
            with Image.open(file, formats=_formats()) as opened:
                if opened.format in ("JPEG", "MPO"):
                    check_scans(file, name)
                yield opened
        except Image.DecompressionBombError as error:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
            raise ValueError(
                f"{name} has more than {limit:.0f} megapixels: make the picture smaller, or raise "
                "PIL.Image.MAX_IMAGE_PIXELS, half of this limit"
            ) from error
        except MemoryError as error:
            raise ValueError(f"{name} takes more memory than there is: make the picture smaller") from error
        except UnidentifiedImageError as error:
            raise ValueError(f"{name} is not a picture that can be read: expected {', '.join(_formats())}") from error
        except OSError as error:
            if error.filename is not None:
                raise
            if error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):  # these two: a place that no file has
                raise type(error)(error.errno, error.strerror, name) from error
            raise ValueError(f"{name} is not a whole picture: {error}") from error
        except Exception as error:
            # What Pillow raises for a broken file is its decoders' to choose. Messages of jaxcam have the name.
            if isinstance(error, ValueError) and name in str(error):
                raise
            reason = " ".join(str(error).split())
            raise ValueError(f"{name} is not a picture that can be read: {reason:.200}") from error


def _formats():
    """The formats of `FORMATS` that Pillow has here."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def _opened_file(path):
    """The file of a path, or an open file from its beginning, which stays open."""
    if hasattr(path, "read"):
        path.seek(0)
        yield path
    else:
        with _BoundedFile(io.FileIO(path)) as file:
            yield file


class _BoundedFile(io.BufferedReader):
    """A file that takes no memory for more bytes than it has, whatever a decoder asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Bytes from the current place."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            status = os.fstat(self.fileno())
            if stat.S_ISREG(status.st_mode):
                size = min(size, max(0, status.st_size - self.tell()))
        return super().read(size)


def write(path: str | os.PathLike | IO[bytes], image: np.ndarray) -> None:
    """Writes an image `[h w 3]`, RGB in 0..1, as a PNG file of 8 bits.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(pathlib.Path(folder) / "white.png", np.ones([2, 3, 3]))
      ...     read(pathlib.Path(folder) / "white.png").shape
      (2, 3, 3)
    """
    Image.fromarray(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)).save(path, format="PNG", compress_level=3)


def fit(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes an image `[h w c]` in 0..1 to a height and width, antialiased; the aspect is not kept.

    Example:
      >>> fit(np.ones([10, 20, 3], np.float32), (64, 64)).shape
      (64, 64, 3)
    """
    height, width = shape
    resized = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
        for channel in np.moveaxis(np.asarray(image, np.float32), -1, 0)
    ]
    return np.clip(np.stack(resized, -1), 0, 1)
