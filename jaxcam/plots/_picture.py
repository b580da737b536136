"""Which color a pixel of an image is drawn in: the range of its values, and the order of its axes.

A model takes images in its own range: uint8, floats in 0..1, -1..1 or 0..255, or with the statistics of ImageNet
subtracted. Figures show them as a viewer of pictures does.
"""

from collections.abc import Sequence

import jax
import jax.typing
import numpy as np

# The lowest and the highest value of an image, each a number or one for each channel.
ValueRange = tuple[jax.typing.ArrayLike, jax.typing.ArrayLike]

IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CAFFE_MEAN = np.array([103.939, 116.779, 123.68])  # of blue, green and red, in 0..255
UNIT, SIGNED, BYTES = (0, 1), (-1, 1), (0, 255)
IMAGENET = (-IMAGENET_MEAN / IMAGENET_STD, (1 - IMAGENET_MEAN) / IMAGENET_STD)
CAFFE = (-CAFFE_MEAN, 255 - CAFFE_MEAN)
# Resizing with a sharp filter and a little noise leave a range by this share of its width.
TOLERANCE = 0.05
# An image whose values are all smaller is not taken to be a dark one in 0..255, or a gray one around the mean.
LEAST_OF_BYTES, LEAST_OF_CAFFE = 8, 32
BITS = (8, 10, 12, 14, 16)
CHANNELS = (1, 3, 4)


def as_picture(image: jax.typing.ArrayLike, *, value_range: ValueRange | None = None) -> np.ndarray:
    """The image as a figure shows it: RGB floats in 0..1.

    By default the range of the values is the first of these that holds them:

    - of booleans 0..1; of integers 0..255, or the range of 10, 12, 14 or 16 bits, or 0..1 if there are only 0 and 1;
    - of floats 0..1; -1..1; with three channels, 0..1 after ImageNet's mean and standard deviation; 0..255; with three
      channels, 0..255 in the order blue, green, red after ImageNet's mean (Keras's "caffe" mode, which is shown in its
      original order).
    - Other values are shown from the lowest to the highest, all channels alike, and a single value in gray.

    Floats may leave a range by a twentieth of its width and are clipped. Values that several ranges hold, such as
    an image in -1..1 without negative values, need `value_range`. The images of one figure have one range.

    Args:
      image: `[h w]` or `[h w 1]`, shown in gray; `[h w 3]`; `[h w 4]`, the last channel being the opacity over white;
        or `[c h w]`, if the last axis has no such length.
      value_range: the values that are shown black and white, numbers or one for each channel, such as `(-1, 1)`.

    Returns:
      `[h w 3]` float32.

    Raises:
      TypeError: the image is not numbers.
      ValueError: the image has another shape, is empty, or has values that are NaN or infinite.

    Example:
      >>> as_picture(np.array([[0, 51], [102, 255]], np.uint8))[..., 0].tolist()
      [[0.0, 0.20000000298023224], [0.4000000059604645, 1.0]]
      >>> as_picture(np.zeros([4, 4, 1]), value_range=(-1, 1))[0, 0].tolist()
      [0.5, 0.5, 0.5]
    """
    [picture] = as_pictures([image], value_range=value_range)
    return picture


def as_pictures(images: Sequence[jax.typing.ArrayLike], *, value_range: ValueRange | None = None) -> list[np.ndarray]:
    """As `as_picture`; images of one type and one number of channels have one range, which holds the values of all."""
    if value_range is not None:
        _check_range(value_range)
    arrays = [_channels_last(image) for image in images]
    groups: dict[tuple[np.dtype, int], list[np.ndarray]] = {}
    for array in arrays:
        groups.setdefault(_group_of(array), []).append(array)
    ranges = {group: value_range or _range_of(members) for group, members in groups.items()}
    return [_in_range(array, ranges[_group_of(array)]) for array in arrays]


def _group_of(array):
    return array.dtype, array.shape[-1]


def _channels_last(image):
    """`[h w c]` with 1, 3 or 4 channels, of booleans, integers or float32."""
    array = np.asarray(image)
    if array.dtype.kind == "V" or array.dtype.kind == "f":  # bfloat16 is no type of NumPy's own
        array = array.astype(np.float32)
    if array.dtype.kind not in "buif":
        raise TypeError(
            f"expected an image, an array of numbers, got {array.dtype}: jaxcam.datasets.images.read reads a file"
        )
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and array.shape[-1] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in CHANNELS or not array.size:
        raise ValueError(
            f"expected one image, [h w], [h w 1], [h w 3] or [h w 4], got {list(array.shape)}: choose the channels to "
            "draw, such as image[..., :3], and leave out an axis of batches"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"an image has {np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite")
    return array


def _range_of(images):
    """The range of images of one type and one number of channels, as `as_picture` documents it."""
    kind, channels = images[0].dtype.kind, min(images[0].shape[-1], 3)  # an opacity has a range of its own
    low = np.min([image[..., :channels].min((0, 1)) for image in images], axis=0)
    high = np.max([image[..., :channels].max((0, 1)) for image in images], axis=0)
    lowest, highest = low.min(), high.max()
    if kind == "b" or (kind in "ui" and (lowest, highest) == (0, 1)):
        return UNIT
    if kind in "ui":
        most = [2**bits - 1 for bits in BITS if highest < 2**bits]
        return (0, most[0]) if lowest >= 0 and most else (lowest, highest)
    choices = [UNIT, SIGNED, *([IMAGENET] if channels == 3 else [])]
    if highest >= LEAST_OF_BYTES:
        choices.append(BYTES)
    if channels == 3 and max(-lowest, highest) >= LEAST_OF_CAFFE:
        choices.append(CAFFE)
    for choice in choices:
        width = choice[1] - np.asarray(choice[0])
        margin = TOLERANCE * np.minimum(width, max(highest - lowest, 1))
        if (low >= choice[0] - margin).all() and (high <= choice[1] + margin).all():
            return choice
    return lowest, highest


def _in_range(array, value_range):
    """The picture of `[h w c]`, scaled by a range."""
    low, high = (np.asarray(bound, np.float32) for bound in value_range)
    color = array[..., :3].astype(np.float32)
    if low.shape == high.shape == () and low == high:
        scaled = np.full_like(color, 0.5)  # one value everywhere, of which nothing else is known
    else:
        scaled = np.clip((color - low) / (high - low), 0, 1)
    if value_range is CAFFE:
        scaled = scaled[..., ::-1]
    if array.shape[-1] == 4:
        largest = high if low.shape == high.shape == () and low == 0 else 1
        opacity = np.clip(array[..., 3:].astype(np.float32) / largest, 0, 1)
        scaled = 1 - opacity * (1 - scaled)
    return np.broadcast_to(scaled, (*array.shape[:2], 3))


def _check_range(value_range):
    """Raises a ValueError if a range is not a lower and a higher bound."""
    bounds = [np.asarray(bound) for bound in value_range] if isinstance(value_range, Sequence) else []
    is_pair = len(bounds) == 2 and all(bound.dtype.kind in "iuf" and bound.shape in ((), (3,)) for bound in bounds)
    if (
        not is_pair
        or not (-np.inf < bounds[0]).all()
        or not (bounds[0] < bounds[1]).all()
        or not (bounds[1] < np.inf).all()
    ):
        raise ValueError(
            f"expected value_range with the values of black and of white, such as (-1, 1), got {value_range!r}"
        )
