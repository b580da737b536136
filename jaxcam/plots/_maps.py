"""Figures of maps over images, with one color bar.

Figures are plain `matplotlib.figure.Figure` objects. They are made without pyplot, which would keep them in memory.

    >>> import jaxcam, jaxcam.plots
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> figure = jaxcam.plots.compare([image], {"Grad-CAM": [jaxcam.grad_cam(cut, image)]})
    >>> type(figure).__name__
    'Figure'
"""

import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import jax.typing
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from jaxcam.formulas import maps
from jaxcam.runtime import replace

COLORS = "turbo"
PANEL = 2.4  # the side of a panel, in inches
DOTS_PER_INCH = 150

# A panel's title and its map; None for the image alone.
Panel = tuple[str, jax.typing.ArrayLike | None]


def overlay(
    axes: Axes, image: jax.typing.ArrayLike, saliency_map: jax.typing.ArrayLike, *, alpha: float = 0.5
) -> AxesImage:
    """Draw a map over an image, resized to the image and normalized to 0..1.

    Args:
      axes: where to draw.
      image: `[h w 3]` in 0..1.
      saliency_map: `[h' w']`, at any resolution.
      alpha: opacity of the map; 0 shows only the image, 1 only the map.

    Returns:
      The drawn map, for `figure.colorbar`.
    """
    picture = np.clip(as_picture(image), 0, 1)
    resized = maps.normalize(maps.resize(jnp.asarray(saliency_map), picture.shape[:2]))
    axes.imshow(picture)
    axes.set_axis_off()
    return axes.imshow(np.asarray(resized), cmap=COLORS, vmin=0, vmax=1, alpha=alpha)


def compare(
    images: Sequence[jax.typing.ArrayLike],
    maps_by_name: Mapping[str, Sequence[jax.typing.ArrayLike]],
    *,
    titles: Sequence[str] | None = None,
    alpha: float = 0.5,
) -> Figure:
    """One row for each image: the image, then its map by each method (figures 1 and 2 of the paper).

    Args:
      images: `[h w 3]` each, in 0..1.
      maps_by_name: for each method's name, one map for each image.
      titles: a title for each image, such as its class and probability. Defaults to "input".
      alpha: opacity of the maps.

    Raises:
      ValueError: a method has more or fewer maps than there are images.
    """
    for name, row in maps_by_name.items():
        if len(row) != len(images):
            raise ValueError(f"expected one map for each of the {len(images)} images, got {len(row)} maps of {name}")
    panels = [
        [(titles[i] if titles else "input", None), *((name, row[i]) for name, row in maps_by_name.items())]
        for i in range(len(images))
    ]
    return panel_grid(images, panels, alpha)


def family(
    image: jax.typing.ArrayLike,
    maps_by_name: Mapping[str, jax.typing.ArrayLike],
    *,
    columns: int = 4,
    title: str = "input",
    alpha: float = 0.5,
) -> Figure:
    """One image and its map by each of many methods, in rows of `columns` panels.

    Args:
      image: `[h w 3]` in 0..1.
      maps_by_name: for each method's name its map, `[h' w']`. An attribution `[h w c]` has to be reduced to one channel
        first, for example to its largest absolute value over channels.
      columns: panels in a row.
      title: the title of the image.
      alpha: opacity of the maps.
    """
    panels: list[Panel] = [(title, None), *maps_by_name.items()]
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    return panel_grid([image] * len(rows), rows, alpha)


def filters(
    image: jax.typing.ArrayLike,
    filter_maps: Sequence[jax.typing.ArrayLike] | jax.Array | np.ndarray,
    chosen: Sequence[int],
    *,
    alpha: float = 0.5,
) -> Figure:
    """The image, then the map of each chosen feature map (figure 4 of the paper).

    Args:
      image: `[h w 3]` in 0..1.
      filter_maps: `[m h' w']`, what a method returns with `select=jaxcam.select(filters=chosen)`.
      chosen: the numbers of the m feature maps, for the titles.
      alpha: opacity of the maps.

    Raises:
      ValueError: more or fewer maps than chosen feature maps.
    """
    if len(filter_maps) != len(chosen):
        raise ValueError(f"expected one map for each of the {len(chosen)} chosen filters, got {len(filter_maps)}")
    panels: list[Panel] = [("input", None)]
    panels += [(f"filter {k}", filter_map) for k, filter_map in zip(chosen, filter_maps, strict=True)]
    return panel_grid([image], [panels], alpha)


def neurons(
    image: jax.typing.ArrayLike,
    saliency_map: jax.typing.ArrayLike,
    subset: Sequence[Sequence[int]],
    *,
    region: bool = False,
    whole: jax.typing.ArrayLike | None = None,
    alpha: float = 0.5,
) -> Figure:
    """The image with the chosen neurons marked, and the map of those neurons alone (figure 5 of the paper).

    Args:
      image: `[h w 3]` in 0..1.
      saliency_map: `[h' w']`, what a method returns with `select=jaxcam.select(region=region, subset=subset)`.
      subset: the coordinates on the layer, as given to `jaxcam.select`.
      region: whether they are two opposite corners of a rectangle.
      whole: the map of all neurons, drawn between the two. By default it is left out.
      alpha: opacity of the maps.
    """
    panels: list[Panel] = [("chosen neurons", None), ("their map", saliency_map)]
    if whole is not None:
        panels.insert(1, ("all neurons", whole))
    figure = panel_grid([image], [panels], alpha)
    height, width = as_picture(image).shape[:2]
    rows, columns = np.shape(saliency_map)[-2:]
    pixels_down, pixels_across = height / rows, width / columns  # of one neuron
    points = np.array(subset)
    if region:
        boxes = [(*points.min(0), *(np.ptp(points, axis=0) + 1))]
    else:
        boxes = [(row, column, 1, 1) for row, column in points]
    for row, column, rows_down, columns_across in boxes:
        corner = (column * pixels_across - 0.5, row * pixels_down - 0.5)
        box = Rectangle(
            corner,
            columns_across * pixels_across,
            rows_down * pixels_down,
            fill=False,
            edgecolor="white",
            linewidth=1.5,
        )
        figure.axes[0].add_patch(box)
    return figure


def save(figure: Figure, path: str | os.PathLike, *, force: bool = False) -> None:
    """Write a figure to a file, in the format of the path's suffix. The file is complete or absent.

    Args:
      figure: any figure.
      path: of the file; its folder has to exist.
      force: overwrite an existing file.

    Raises:
      FileExistsError: the file exists, and `force` is False.
      ValueError: a suffix of no format that matplotlib writes.
    """
    path = pathlib.Path(path)
    image_format = path.suffix[1:].lower()
    formats = figure.canvas.get_supported_filetypes()
    if image_format not in formats:
        raise ValueError(f"{path} ends in {path.suffix!r}: choose one of {', '.join(sorted(formats))}")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already")
    content = io.BytesIO()
    figure.savefig(content, format=image_format, dpi=DOTS_PER_INCH)
    replace(path, content.getvalue())


def panel_grid(
    images: Sequence[jax.typing.ArrayLike], rows_of_panels: Sequence[Sequence[Panel]], alpha: float
) -> Figure:
    """A grid of panels, a row for each image, and one color bar for all maps. The first row is the longest."""
    rows, columns = len(rows_of_panels), len(rows_of_panels[0])
    figure = Figure(figsize=(PANEL * columns + 0.6, (PANEL + 0.25) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    drawn_map = None
    for axes_of_row, image, panels in zip(grid, images, rows_of_panels, strict=True):
        for axes in axes_of_row[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, saliency_map) in zip(axes_of_row, panels, strict=False):
            axes.set_title(plain_text(title), fontsize=9)
            if saliency_map is None:
                axes.imshow(np.clip(as_picture(image), 0, 1))
                axes.set_axis_off()
            else:
                drawn_map = overlay(axes, image, saliency_map, alpha=alpha)
    if drawn_map is not None:
        figure.colorbar(drawn_map, ax=grid, label="saliency, normalized", pad=0.01, fraction=0.03, aspect=20 * rows)
    return figure


def as_picture(image: jax.typing.ArrayLike) -> np.ndarray:
    """An image `[h w 3]`, or `[3 h w]`, as matplotlib takes it.

    Example:
      >>> as_picture(np.ones([3, 8, 9])).shape
      (8, 9, 3)
    """
    picture = np.asarray(image)
    first, *_, last = picture.shape
    is_channels_first = picture.ndim == 3 and first in (1, 3, 4) and last not in (1, 3, 4)
    return np.moveaxis(picture, 0, -1) if is_channels_first else picture


def plain_text(text: str) -> str:
    """A text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
