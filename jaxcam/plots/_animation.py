"""Figures as the frames of an animated picture."""

import io
import os
import pathlib
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from jaxcam.datasets import images
from jaxcam.plots._figure import drawn
from jaxcam.runtime import replace

DOTS_PER_INCH = 100  # a GIF of many frames is large


def animate(figures: Iterable[Figure], path: str | os.PathLike, *, seconds: float = 0.8, force: bool = False) -> None:
    """Write figures as the frames of an animated GIF, which repeats. The file is complete or absent.

    Args:
      figures: any figures; those that are smaller than the largest one get a white border.
      path: of the file, which ends in `.gif`.
      seconds: for which each frame is shown.
      force: overwrite an existing file.

    Raises:
      FileExistsError: the file exists, and `force` is False.
      ValueError: no figures, another suffix, or `seconds` that are not positive.

    Example:
      >>> import pathlib, tempfile
      >>> from jaxcam import plots
      >>> figures = [plots.compare([np.ones([8, 8, 3])], {"map": [np.eye(4) * i]}) for i in range(2)]
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     animate(figures, pathlib.Path(folder) / "maps.gif", seconds=0.5)
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"{path} ends in {path.suffix!r}: an animation is written as .gif")
    if not seconds > 0:
        raise ValueError(f"expected seconds above 0, got {seconds}")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already")
    frames = [_pixels(figure) for figure in figures]  # as bytes: there may be hundreds
    if not frames:
        raise ValueError("there are no figures: expected at least one to draw")
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    bordered = [
        np.pad(frame, [(0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)], constant_values=255)
        for frame in frames
    ]
    replace(path, images.animated(bordered, seconds=seconds))


def _pixels(figure: Figure) -> np.ndarray:
    content = io.BytesIO(drawn(figure, "png", DOTS_PER_INCH))
    return np.round(255 * images.read(content)).astype(np.uint8)
