"""Picture files as arrays: `[h w 3]` floats in 0..1, upright."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def read(path: str | os.PathLike) -> np.ndarray:
    """A picture file as `[h w 3]` float32, RGB in 0..1, turned upright as its EXIF says; the first frame of several.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture, or it is cut short.

    Example:
      >>> import importlib.resources
      >>> read(importlib.resources.files("jaxcam.pretrained") / "digits" / "canvas0.png").shape
      (64, 64, 3)
    """
    with _opened(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode == "F":
            grey: np.ndarray = np.asarray(picture, np.float32)
            if not (np.isfinite(grey).all() and 0 <= grey.min() and grey.max() <= 1):
                raise ValueError(f"{os.fspath(path)} holds floats outside 0..1, or NaN")
            return np.repeat(grey[..., None], 3, axis=-1)
        if picture.mode.startswith("I"):  # 16 bits a pixel, which convert("RGB") would clip to white
            grey = np.asarray(picture, np.float32) / 65535
            return np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=-1)
        return np.asarray(picture.convert("RGB"), np.float32) / 255


def values(path: str | os.PathLike) -> np.ndarray:
    """The values of a mask's file as they are stored, `[h w]` int32: grey values, or the numbers of a palette.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
      ValueError: the file is not a picture, it is cut short, or it has more than one value a pixel.
    """
    with _opened(path) as opened:
        stored = np.asarray(opened)
        if stored.ndim != 2 or stored.dtype.kind == "f":
            raise ValueError(f"{os.fspath(path)} has pixels of {opened.mode}: one integer a pixel is wanted in a mask")
    return stored.astype(np.int32)


def orientation(path: str | os.PathLike) -> int:
    """How the file's EXIF says that the stored pixels are to be turned, 1 (not at all) to 8."""
    with _opened(path) as opened:
        turned = opened.getexif().get(0x0112, 1)
    return turned if turned in range(1, 9) else 1


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The picture as Pillow opens it; whatever Pillow says against it becomes one line that names the file."""
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
    """An image `[h w 3]` at another height and width, antialiased; both sides are stretched to fit.

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
