"""Pictures from visitors and the samples: what is read, and what is refused in one line.

A file is judged by its content. Pillow reads formats that start other programs or name other files, which are not read.

>>> sorted(SAMPLES)
['cat', 'digits 0', 'digits 1', 'digits 2']
"""

import functools
import hashlib
import importlib.resources
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxcam import datasets, pretrained

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 64 * 10**6
MOST_FRAMES = 512
# The first bytes of the files that are read.
SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "WebP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
}
# As `jaxcam.explain` reads a picture: a larger one is reduced while it is read, to no less than four times this size.
LEAST_SIDE = 360


class Sample(NamedTuple):
    """A picture that ships with jaxcam.

    Attributes:
      path: of the file.
      network: the network that knows what it shows.
      python: what stands for it in Python.
      shell: what stands for it in a shell.
    """

    path: pathlib.Path
    network: str
    python: str
    shell: str


def _canvas(number: int) -> Sample:
    path = importlib.resources.files("jaxcam.pretrained") / "digits" / f"canvas{number}.png"
    where = f"importlib.resources.files('jaxcam.pretrained') / 'digits' / 'canvas{number}.png'"
    return Sample(
        pathlib.Path(str(path)),
        "digits",
        f"jaxcam.pretrained.digits_canvas({number})[0]",
        f'"$(python -c "import importlib.resources; print({where})")"',
    )


SAMPLES = {
    "cat": Sample(
        datasets.sample_photograph(),
        "efficientnet_lite0",
        "jaxcam.datasets.sample_photograph()",
        '"$(python -c "import jaxcam; print(jaxcam.datasets.sample_photograph())")"',
    ),
    **{f"digits {number}": _canvas(number) for number in (0, 1, 2)},
}


def read_picture(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """A picture file as RGB in 0..1, `[h w 3]`, read as `jaxcam.explain` reads it.

    Args:
      path: the file. Messages have its name without its folder.
      size: the height and width that a network takes.

    Raises:
      ValueError: no picture of a format that is read, too many bytes or pixels, a broken file, or one that was removed.

    Example:
      >>> read_picture(SAMPLES["digits 1"].path, (64, 64)).shape
      (64, 64, 3)
    """
    from jaxcam.datasets import images  # loads Pillow

    path = pathlib.Path(path)
    try:
        _check_content(path)
        pixels = images.count_pixels(path)
        if pixels > MOST_PIXELS:
            raise ValueError(f"{path.name} has {pixels / 1e6:.0f} megapixels: at most {MOST_PIXELS / 1e6:.0f} are read")
        return images.read(path, at_least=(max(LEAST_SIDE, size[0]), max(LEAST_SIDE, size[1])))
    except FileNotFoundError as error:  # its own message has the folder
        raise ValueError(f"{path.name} is no longer on the server: upload it again") from error
    except (OSError, ValueError) as error:
        raise ValueError(" ".join(str(error).replace(str(path), path.name).split())) from error


def read_clip(path: str | os.PathLike, count: int, size: tuple[int, int]) -> np.ndarray:
    """Frames of an animated GIF file, spread evenly, `[count h w 3]` in 0..1, each fitted to a size.

    Args:
      path: the file. Messages have its name without its folder.
      count: how many frames.
      size: height and width.

    Raises:
      ValueError: no GIF file, fewer frames, too many bytes or pixels, a broken file, or one that was removed.
    """
    from jaxcam.datasets import clips, images  # loads Pillow

    path = pathlib.Path(path)
    try:
        _check_content(path)
        with path.open("rb") as file:
            is_gif = file.read(6) in SIGNATURES["GIF"]
        if not is_gif or path.suffix.lower() != ".gif":
            raise ValueError(f"{path.name} is no clip that can be read: expected an animated GIF")
        pixels = images.count_pixels(path) * min(images.frame_count(path), MOST_FRAMES)
        if pixels > MOST_PIXELS or images.frame_count(path) > MOST_FRAMES:
            raise ValueError(
                f"{path.name} is too long or too large: at most {MOST_FRAMES} frames and {MOST_PIXELS / 1e6:.0f} "
                "megapixels in all are read"
            )
        return clips.read(path, count, shape=size).frames
    except FileNotFoundError as error:  # its own message has the folder
        raise ValueError(f"{path.name} is no longer on the server: upload it again") from error
    except (OSError, ValueError) as error:
        raise ValueError(" ".join(str(error).replace(str(path), path.name).split())) from error


def write_sample_clip(number: int, folder: pathlib.Path) -> pathlib.Path:
    """Writes a sample clip as a GIF file, which has fewer colors than the clip, and returns its path."""
    path = folder / f"{pretrained.MOTIONS[pretrained.motion_clip(number)[2]]}.gif"
    path.write_bytes(_sample_clip(number))
    return path


def sample_clip_of(path: str | os.PathLike) -> int | None:
    """The number of the sample clip whose GIF file has the content of a file; None if there is none.

    Example:
      >>> import tempfile
      >>> sample_clip_of(write_sample_clip(3, pathlib.Path(tempfile.mkdtemp())))
      3
    """
    return _sample_clips_by_digest().get(_digest(path))


@functools.cache
def _sample_clip(number: int) -> bytes:
    from jaxcam.datasets import images  # loads Pillow

    frames, _, _ = pretrained.motion_clip(number)
    return images.animated(
        [np.round(255 * frame).astype(np.uint8).repeat(3, 0).repeat(3, 1) for frame in frames], seconds=0.15
    )


@functools.cache
def _sample_clips_by_digest() -> dict[bytes, int]:
    return {hashlib.sha256(_sample_clip(number)).digest(): number for number in range(len(pretrained.MOTIONS))}


def _check_content(path: pathlib.Path) -> None:
    """Raises a ValueError for a file of too many bytes, or whose first bytes are those of no picture that is read."""
    count = path.stat().st_size
    if count > MOST_BYTES:
        raise ValueError(f"{path.name} has {count / 2**20:.0f} MiB: at most {MOST_BYTES // 2**20} are read")
    with path.open("rb") as file:
        first = file.read(12)
    kinds = [kind for kind, signatures in SIGNATURES.items() if first.startswith(signatures)]
    if not kinds or (kinds == ["WebP"] and first[8:] != b"WEBP"):
        raise ValueError(f"{path.name} is no picture that can be read: expected {', '.join(SIGNATURES)}")


def sample_of(path: str | os.PathLike) -> Sample | None:
    """The sample that has the content of a file, whatever the file is called; None if there is none.

    Example:
      >>> sample_of(SAMPLES["cat"].path).network
      'efficientnet_lite0'
    """
    return _samples_by_digest().get(_digest(path))


@functools.cache
def _samples_by_digest() -> dict[bytes, Sample]:
    return {_digest(sample.path): sample for sample in SAMPLES.values()}


def _digest(path: str | os.PathLike) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
