"""The colors of a picture that Pillow has opened, whatever its mode: RGB floats in 0..1, on white where transparent.

Pillow's own `convert("RGB")` shows the hidden colors of transparent pixels, clips integers of 16 and 32 bits to white,
and does not invert 16-bit TIFF files whose zero is white.
"""

import os
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# Formats whose integers of more than 8 bits fill 16 bits, by their definition or because Pillow scales them.
SIXTEEN_BIT_FORMATS = ("PNG", "PPM", "JPEG2000")
# The tags of a TIFF file.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
RANGE_TAGS = ((340, 341), (280, 281))  # SMinSampleValue and SMaxSampleValue; MinSampleValue and MaxSampleValue
WHITE_IS_ZERO = 0
PIXELS_OF_A_BAND = 2**20  # pixels that are converted at a time
UNSIGNED, SIGNED = 1, 2
UNKNOWN_RANGE = "the file does not say their range; scale them and save them as unsigned integers of 8 or 16 bits"


def colors_of(opened: Image.Image, path: str | os.PathLike, raw_mode: str | None, shape: tuple[int, int]) -> np.ndarray:
    """The colors of a picture, `[h w 3]` float32.

    Args:
      opened: the picture, as `PIL.Image.open` returns it, loaded.
      path: its file, for messages.
      raw_mode: what `raw_mode_of` returned before the picture was loaded.
      shape: the height and width of the result. If the picture is larger, areas of it are averaged.

    Raises:
      ValueError: the file does not say the range of its values.
    """
    if opened.mode == "F" or opened.mode.startswith("I"):
        gray = _reduced(Image.fromarray(_gray_values(opened, path)), shape)
        return np.repeat(np.asarray(gray)[..., None], 3, axis=-1)
    if opened.mode == "L" and _tag(opened, SAMPLE_FORMAT) == SIGNED:
        raise ValueError(f"{os.fspath(path)} has signed integers of 8 bits: {UNKNOWN_RANGE}")
    if opened.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        opened = ImageCms.profileToProfile(opened, lab, srgb, outputMode="RGB") or opened
    if not opened.has_transparency_data:
        return _scaled(_reduced(opened.convert("RGB"), shape), lambda values: values)
    _set_key_of_8_bits(opened, raw_mode, path)
    return _scaled(
        _reduced(opened.convert("RGBA"), shape), lambda values: np.float32(1) - values[..., 3:] * (1 - values[..., :3])
    )


def _scaled(picture, convert):
    """The values `[h w 3]` that `convert` makes of 8 bits in 0..1, a band of rows at a time to save memory."""
    stored = np.asarray(picture)
    colors = np.empty((*stored.shape[:2], 3), np.float32)
    for rows in _bands(stored):
        colors[rows] = convert(stored[rows].astype(np.float32) / 255)
    return colors


def _bands(stored):
    """Slices of rows, about `PIXELS_OF_A_BAND` pixels each."""
    height, width = stored.shape[:2]
    step = max(1, PIXELS_OF_A_BAND // max(1, width))
    return [slice(row, row + step) for row in range(0, height, step)]


def _reduced(picture, shape):
    size = shape[1], shape[0]
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BOX)


def raw_mode_of(opened: Any) -> str | None:
    """How the file stores a pixel, as Pillow's decoder calls it; None if the decoder is told otherwise."""
    arguments = opened.tile[0][3] if getattr(opened, "tile", None) else None
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else None


def _tag(opened: Any, number: int) -> Any:
    """The first value of a tag of a TIFF file; None for other files."""
    value = opened.tag_v2.get(number) if opened.format == "TIFF" else None
    return value[0] if isinstance(value, tuple) and value else value


def _gray_values(opened, path):
    """The values of a picture with one float, or one integer of more than 8 bits, per pixel; in 0..1."""
    stored = np.asarray(opened)
    if opened.mode == "I" and _tag(opened, BITS_PER_SAMPLE) == 32 and _tag(opened, SAMPLE_FORMAT) in (None, UNSIGNED):
        stored = stored.view(np.uint32)
    if stored.dtype.kind == "f" and not all(np.isfinite(stored[rows]).all() for rows in _bands(stored)):
        raise ValueError(f"{os.fspath(path)} has values that are NaN or infinite")
    low, high = _range_of(opened, stored, path)
    is_inverted, key = _tag(opened, PHOTOMETRIC) == WHITE_IS_ZERO, opened.info.get("transparency")
    gray = np.empty(stored.shape, np.float32)
    for rows in _bands(stored):
        # float64, because float32 does not hold all integers of 32 bits.
        values = ((stored[rows].astype(np.float64) - low) / (high - low)).astype(np.float32)
        values = 1 - values if is_inverted else values
        gray[rows] = values if key is None else np.where(stored[rows] == key, np.float32(1), values)
    return gray


def _range_of(opened, stored, path):
    """The values of black and white. Raises a ValueError if the file does not say them."""
    low, high = stored.min(), stored.max()
    if stored.dtype.kind == "f" and low >= 0 and high <= 1:
        return 0, 1
    if stored.dtype.kind != "f" and opened.format in SIXTEEN_BIT_FORMATS:
        return 0, 65535
    bits = _tag(opened, BITS_PER_SAMPLE)
    if opened.mode.startswith("I;16") and bits is not None:
        return 0, 2**bits - 1
    for low_tag, high_tag in RANGE_TAGS:
        declared = _tag(opened, low_tag) or 0, _tag(opened, high_tag)
        if declared[1] is not None and declared[0] <= low and high <= declared[1] and declared[0] < declared[1]:
            return declared
    kind = "floats" if stored.dtype.kind == "f" else "integers"
    raise ValueError(f"{os.fspath(path)} has {kind} from {low:g} to {high:g}: {UNKNOWN_RANGE}")


def _set_key_of_8_bits(opened, raw_mode, path):
    """Scales the transparent color of a PNG file, which Pillow keeps as it is stored, to the 8 bits of its pixels."""
    key = opened.info.get("transparency")
    if opened.format != "PNG" or key is None:
        return
    if raw_mode in ("L;2", "L;4"):
        opened.info["transparency"] = key * {"L;2": 85, "L;4": 17}[raw_mode]
    elif raw_mode == "RGB;16B":
        raise ValueError(f"{os.fspath(path)} has a transparent color of 16 bits, which is not read: save it with alpha")
