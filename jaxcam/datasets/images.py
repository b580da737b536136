"""Picture files as arrays: `[h w 3]` floats in 0..1, upright."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def read(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture file as `[h w 3]` float32, RGB in 0..1, turned upright by its EXIF data.

    Of a file with several frames it reads the first.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture, or it is truncated.

    Example:
      >>> import importlib.resources
      >>> read(importlib.resources.files("jaxcam.pretrained") / "digits" / "canvas0.png").shape
      (64, 64, 3)
    """
    with _opened_picture(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode == "F":
            gray: np.ndarray = np.asarray(picture, np.float32)
            if not (np.isfinite(gray).all() and 0 <= gray.min() and gray.max() <= 1):
                raise ValueError(f"{os.fspath(path)} holds floats outside 0..1, or NaN")
            return np.repeat(gray[..., None], 3, axis=-1)
        if picture.mode.startswith("I"):  # 16 bits per pixel, which convert("RGB") would clip to white
            gray = np.asarray(picture, np.float32) / 65535
            return np.repeat(np.clip(gray, 0, 1)[..., None], 3, axis=-1)
        return np.asarray(picture.convert("RGB"), np.float32) / 255


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


def orientation(path: str | os.PathLike) -> int:
    """The EXIF orientation of a file, 1 (upright) to 8."""
    with _opened_picture(path) as opened:
        orientation = opened.getexif().get(0x0112, 1)
    return orientation if orientation in range(1, 9) else 1


@contextlib.contextmanager
def _opened_picture(path: str | os.PathLike) -> Iterator[Image.Image]:
    """A picture opened by Pillow. Pillow's errors become one line that names the file."""
    try:
        with open(path, "rb") as file, Image.open(file) as opened:
            yield opened
    except (UnidentifiedImageError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        raise ValueError(f"{os.fspath(path)} is not a picture that can be read") from error
    except OSError as error:
        if error.filename is not None or error.errno is not None:
            raise
        raise ValueError(f"{os.fspath(path)} is not a whole picture: {error}") from error


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
