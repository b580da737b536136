"""Figures of boxes and of clips."""

import os
import pathlib
from collections.abc import Sequence

import jax
import jax.typing
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam.datasets import images
from jaxcam.plots._colors import colors
from jaxcam.plots._drawing import checked_drawing
from jaxcam.plots._figure import on_white
from jaxcam.plots._layout import Panel, panel_grid
from jaxcam.plots._picture import ValueRange, as_pictures
from jaxcam.runtime import replace

BOX_COLOR = "white"


@on_white
def boxes(
    image: jax.typing.ArrayLike,
    boxes: Sequence[jax.typing.ArrayLike] | np.ndarray,
    maps: Sequence[Sequence[jax.typing.ArrayLike]] | jax.Array | np.ndarray,
    *,
    titles: Sequence[str],
    names: Sequence[str] = ("score",),
    alpha: float = 0.5,
    colormap: str | None = None,
    value_range: ValueRange | None = None,
) -> Figure:
    """A row for each box: the image, and the maps of the box's attributes, all with the box.

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      boxes: `[4]` each, row0, column0, row1, column1 in pixels of the image.
      maps: for each box one map `[h' w']` for each name.
      titles: of the boxes.
      names: of the attributes.
      alpha, colormap: as in `compare`.
      value_range: as in `compare`.

    Raises:
      ValueError: no boxes, or not one title and one map of each name for each box.

    Example:
      >>> figure = boxes(np.ones([8, 8, 3]), [[1, 1, 5, 4]], [[np.eye(4)]], titles=["3"])
      >>> len(figure.axes[0].patches), len(figure.axes[1].patches)
      (1, 1)
    """
    if not len(boxes) or len(titles) != len(boxes) or [len(row) for row in maps] != [len(names)] * len(boxes):
        raise ValueError(
            f"expected at least one box, and for each a title and maps of {', '.join(names)}; got {len(boxes)} boxes, "
            f"{len(titles)} titles and {[len(row) for row in maps]} maps"
        )
    rows: list[list[Panel]] = [
        [(title, None), *zip(names, row, strict=True)] for title, row in zip(titles, maps, strict=True)
    ]
    drawing = checked_drawing(alpha=alpha, colormap=colormap)
    figure = panel_grid([image] * len(rows), rows, drawing, value_range=value_range)
    panels = len(names) + 1
    for i, box in enumerate(boxes):
        row0, column0, row1, column1 = np.asarray(box, float)
        for axes in figure.axes[i * panels : (i + 1) * panels]:
            corner = (column0 - 0.5, row0 - 0.5)  # a pixel's center is at a whole number
            patch = Rectangle(
                corner, column1 - column0, row1 - row0, fill=False, edgecolor=BOX_COLOR, linewidth=1.5, clip_on=True
            )
            axes.add_patch(patch)
    return figure


@on_white
def strip(
    clip: jax.typing.ArrayLike,
    maps_by_name: dict[str, jax.typing.ArrayLike],
    *,
    count: int = 6,
    title: str = "frame",
    alpha: float = 0.5,
    colormap: str | None = None,
) -> Figure:
    """Frames of a clip in a row, spread evenly, and below them a row with each map.

    Args:
      clip: `[t h w 3]`, in any range that `as_picture` knows, one for all frames.
      maps_by_name: for each method's name its map at the clip's frames, `[t h' w']`; `jaxcam.resize` resizes a map to
        `clip.shape[:3]`.
      count: frames in a row.
      title: the word in front of the frames' numbers.
      alpha, colormap: as in `compare`. The maps of a method share one scale, so that frames compare.

    Raises:
      ValueError: a clip with another number of axes, a map of another number of frames, or a `count` below 1.

    Example:
      >>> figure = strip(np.ones([8, 16, 16, 3]), {"Grad-CAM": np.ones([8, 4, 4])}, count=4)
      >>> len(figure.axes) - 1  # and the color bar
      8
    """
    clip = np.asarray(clip)
    if count < 1:
        raise ValueError(f"expected a count of at least 1 frame, got {count}")
    for name, saliency in maps_by_name.items():
        if np.shape(saliency)[:1] != clip.shape[:1] or np.ndim(saliency) != 3:
            raise ValueError(
                f"expected a map [t h w] of the clip's {len(clip)} frames for {name}, got {np.shape(saliency)}"
            )
    pictures = _pictures_of_clip(clip)
    numbers = np.unique(np.round(np.linspace(0, len(clip) - 1, count)).astype(int))
    rows: list[list[Panel]] = [[(f"{title} {number}", None) for number in numbers]]
    for name, saliency in maps_by_name.items():
        shared = np.asarray(saliency, np.float32)
        rows.append([(f"{name}, {number}", shared[number]) for number in numbers])
    drawing = checked_drawing(alpha=alpha, colormap=colormap, scale="row")
    figure = panel_grid([pictures[0]] * len(rows), rows, drawing, value_range=(0, 1))
    for axes, number in zip(figure.axes, np.tile(numbers, len(rows)), strict=False):
        axes.images[0].set_data(pictures[number])
    return figure


def animate_clip(
    clip: jax.typing.ArrayLike,
    saliency: jax.typing.ArrayLike,
    path: str | os.PathLike,
    *,
    seconds: float = 0.15,
    alpha: float = 0.5,
    height: int = 192,
    force: bool = False,
) -> None:
    """Write an animated GIF: the frames of a clip, and beside them the map over the frames, on one scale.

    Equal frames in a row become one that is shown longer.

    Args:
      clip: `[t h w 3]`, in any range that `as_picture` knows, one for all frames.
      saliency: the map at the clip's frames and size, `[t h w]`, at least 0.
      path: of the file, which ends in `.gif`.
      seconds: for which each frame is shown.
      alpha: opacity of the map.
      height: of the smallest animation, in pixels: the pixels of a small clip become squares.
      force: overwrite an existing file.

    Raises:
      FileExistsError: the file exists, and `force` is False.
      ValueError: a map of another size than the clip, negative or not finite, or a path with another suffix.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "clip.gif"
      ...     clip = np.linspace(0, 1, 3)[:, None, None, None] * np.ones([3, 8, 8, 3])
      ...     animate_clip(clip, np.ones([3, 8, 8]), path, height=16)
      ...     images.frame_count(path), images.read(path).shape
      (3, (16, 32, 3))
    """
    path, clip, saliency = pathlib.Path(path), np.asarray(clip), np.asarray(saliency, np.float32)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"{path} ends in {path.suffix!r}: an animation is written as .gif")
    if clip.ndim != 4 or saliency.shape != clip.shape[:3]:
        raise ValueError(f"expected a clip [t h w 3] and a map [t h w], got {clip.shape} and {saliency.shape}")
    if not (np.isfinite(saliency) & (saliency >= 0)).all():
        raise ValueError(f"expected a map of finite values of at least 0, got {saliency.min()} to {saliency.max()}")
    pictures = _pictures_of_clip(clip)
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already")
    shown = colors(saliency / max(float(saliency.max()), np.finfo(np.float32).tiny))
    pairs = np.concatenate([pictures, (1 - alpha) * pictures + alpha * shown], 2)
    times = max(1, -(-height // clip.shape[1]))
    pixels = np.round(255 * np.clip(pairs, 0, 1)).astype(np.uint8).repeat(times, 1).repeat(times, 2)
    replace(path, images.animated(list(pixels), seconds=seconds))


def _pictures_of_clip(clip: np.ndarray) -> np.ndarray:
    """The frames as they are shown, `[t h w 3]` in 0..1."""
    if clip.ndim != 4 or not len(clip):
        raise ValueError(f"expected a clip [t h w 3], got shape {clip.shape}")
    return np.stack(as_pictures(list(clip)))
