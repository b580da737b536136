"""Clips: the frames of an animated picture, of a video file, or of a folder of pictures. It imports Pillow.

>>> import pathlib, tempfile
>>> frames = [np.full([4, 6, 3], level, np.uint8) for level in (0, 80, 160, 240)]
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder) / "clip.gif"
...     _ = path.write_bytes(images.animated(frames, seconds=0.1))
...     clip = read(path, 2)
>>> clip.frames.shape, clip.numbers, clip.total, clip.seconds
((2, 4, 6, 3), (0, 3), 4, 0.4)
"""

import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcam._base.checks import check_count
from jaxcam.datasets import images
from jaxcam.datasets._files import is_picture, pictures_in
from jaxcam.datasets._frame import Frame

TICKS_PER_SECOND = 1_000_000  # of the length of a container, in av


class Clip(NamedTuple):
    """Frames of a clip.

    Attributes:
      frames: `[t h w 3]` float32 in 0..1.
      numbers: of the frames in the clip, from 0.
      total: how many frames the clip has.
      seconds: how long it takes; None for a folder, which does not say it.
    """

    frames: np.ndarray
    numbers: tuple[int, ...]
    total: int
    seconds: float | None


def read(path: str | os.PathLike, count: int | None = None, *, shape: tuple[int, int] | None = None) -> Clip:
    """Read frames of a clip, spread evenly from its first to its last.

    Args:
      path: an animated picture (GIF, PNG, WebP), a video file (MP4 and others, which the package `av` reads, the extra
        `jaxcam-saliency[video]`), or a folder of pictures, which are frames in the order of their names, "2.png" before
        "10.png".
      count: how many frames; None for all.
      shape: the height and width that frames are fitted to, as `jaxcam.datasets.images.fit` does. By default they keep
        their size.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: one frame alone, fewer frames than `count`, frames of several sizes, a file that is no clip or is cut
        short, a file that exceeds `jaxcam.limits`, a video file without the package `av`, or a count or
        shape that is none.
    """
    path = pathlib.Path(path)
    if count is not None:
        check_count("count", count, at_least=1)
    is_shape = isinstance(shape, tuple | list) and len(shape) == 2
    if shape is not None and not (is_shape and all(isinstance(side, int) and side > 0 for side in shape)):
        raise ValueError(f"expected a shape (height, width) of positive integers, got {shape!r}")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        return _read_folder(path, count, shape)
    return _read_animated(path, count, shape) if is_picture(path) else _read_video(path, count, shape)


def spread(total: int, count: int) -> tuple[int, ...]:
    """`count` numbers of `total` frames, evenly from the first to the last.

    Example:
      >>> spread(16, 4), spread(5, 5), spread(9, 1)
      ((0, 5, 10, 15), (0, 1, 2, 3, 4), (4,))
    """
    if count == 1:
        return (total // 2,)
    return tuple(int(number) for number in np.round(np.linspace(0, total - 1, count)))


def _chosen(name: Any, total: int, count: int | None) -> tuple[int, ...]:
    if total < 2:
        raise ValueError(f"{name} has {total} frame{'s' if total != 1 else ''}: expected a clip of several")
    if count is not None and total < count:
        raise ValueError(f"{name} has {total} frames: expected at least {count}")
    return spread(total, total if count is None else count)


def _joined(name: Any, frames: Sequence[np.ndarray], shape: tuple[int, int] | None) -> np.ndarray:
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"{name} has frames of several sizes, {sorted(sizes)[0]} and {sorted(sizes)[-1]}")
    if shape is not None and sizes != {tuple(shape)}:
        frames = [images.fit(frame, shape) for frame in frames]
    return np.stack(frames).astype(np.float32)


def _read_folder(path, count, shape):
    files = sorted(pictures_in(path), key=lambda file: _by_numbers(file.name))
    numbers = _chosen(path, len(files), count)
    frames = _joined(path, [images.read(files[number]) for number in numbers], shape)
    return Clip(frames, numbers, len(files), None)


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """The sort key of a name: its numbers are compared by value, and the text between them as text.

    Example:
      >>> sorted(["f10.png", "f2.png", "e7.png"], key=_by_numbers)
      ['e7.png', 'f2.png', 'f10.png']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read_animated(path, count, shape):
    total = images.frame_count(path)
    numbers = _chosen(path, total, count)
    frames = [images.read(Frame(path, number)) for number in numbers]
    return Clip(_joined(path, frames, shape), numbers, total, images.duration(path) or None)


def _read_video(path, count, shape):
    try:
        import av
    except ImportError as error:
        raise ValueError(f"{path}: video files need the package av: pip install 'jaxcam-saliency[video]'") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video")
            stream = container.streams.video[0]
            announced, rate = stream.frames, float(stream.average_rate or 0)
            total = announced or _decoded_count(container, rate, path)
        numbers = _chosen(path, total, count)
        frames = _decoded(av.open, path, set(numbers))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is not a video that can be read, or is cut short: {error.strerror}") from error
    if len(frames) < len(set(numbers)):
        raise ValueError(f"{path} is cut short: not all of its {total} frames can be read")
    chosen = [frames[number] for number in numbers]
    return Clip(_joined(path, chosen, shape), numbers, total, total / rate if rate else None)


def _decoded_count(container: Any, rate: float, path: pathlib.Path) -> int:
    """The frames of a container that does not announce their number, such as WebM, which is decoded to its end.

    Raises:
      ValueError: the last frame ends before the duration that the file gives. A file with sound is not checked, because
        its duration may be that of the sound.
    """
    count, last = 0, 0.0
    for frame in container.decode(video=0):
        count, last = count + 1, frame.time or last
    if container.duration and rate and len(container.streams) == 1:
        missing = container.duration / TICKS_PER_SECOND - last - 1 / rate
        if missing > 2 / rate:
            raise ValueError(f"{path} is cut short: its last {missing:.2g} seconds cannot be read")
    return count


def _decoded(open_file: Callable[..., Any], path: pathlib.Path, numbers: set[int]) -> dict[int, np.ndarray]:
    """The frames of these numbers, from one pass over the file."""
    frames = {}
    with open_file(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                frames[number] = frame.to_ndarray(format="rgb24").astype(np.float32) / 255
            if len(frames) == len(numbers):
                break
    return frames
