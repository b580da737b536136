"""Figures of maps over images, with one color bar.

Figures are plain `matplotlib.figure.Figure` objects. They are made without pyplot, which would keep them in memory. A
figure that is the last value of a notebook's cell shows itself.

    >>> import jaxcam, jaxcam.plots
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> figure = jaxcam.plots.compare([image], {"Grad-CAM": [jaxcam.grad_cam(cut, image)]})
    >>> type(figure).__name__
    'Figure'
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import jax.typing
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from jaxcam.plots._drawing import checked_drawing, color_scale, draw_map, map_on_picture, scaled
from jaxcam.plots._figure import drawn, on_white
from jaxcam.plots._layout import Panel, panel_grid
from jaxcam.plots._picture import ValueRange, as_picture
from jaxcam.runtime import replace


def overlay(
    axes: Axes,
    image: jax.typing.ArrayLike,
    saliency_map: jax.typing.ArrayLike,
    *,
    alpha: float = 0.5,
    colormap: str | None = None,
    style: str = "overlay",
    threshold: float | None = None,
    value_range: ValueRange | None = None,
) -> AxesImage | ScalarMappable:
    """Draw a map over an image, resized to the image and scaled from its lowest to its highest value.

    Args:
      axes: where to draw.
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      saliency_map: `[h' w']`, at any resolution; or a masked array `[h w]`, which is drawn where it is not masked.
      alpha, colormap, style, threshold: as in `compare`.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Returns:
      The drawn map, for `figure.colorbar`; of a style other than "overlay" its colors.

    Raises:
      ValueError: no such style or colormap, or a map that is not finite.
    """
    drawing = checked_drawing(style=style, alpha=alpha, colormap=colormap, threshold=threshold)
    picture = as_picture(image, value_range=value_range)
    [values] = scaled([map_on_picture(saliency_map, picture.shape[:2])], drawing.scale)
    axes.imshow(picture)
    axes.set_axis_off()
    draw_map(axes, values, drawing)
    return axes.images[-1] if style == "overlay" else color_scale(drawing)


@on_white
def compare(
    images: Sequence[jax.typing.ArrayLike],
    maps_by_name: Mapping[str, Sequence[jax.typing.ArrayLike]],
    *,
    titles: Sequence[str] | None = None,
    alpha: float = 0.5,
    colormap: str | None = None,
    style: str = "overlay",
    threshold: float | None = None,
    scale: str = "each",
    value_range: ValueRange | None = None,
) -> Figure:
    """One row for each image: the image, then its map by each method (figures 1 and 2 of the paper).

    Args:
      images: `[h w 3]`, `[h w 1]` or `[h w]` each, in any range that `as_picture` knows.
      maps_by_name: for each method's name, one map for each image.
      titles: a title for each image, such as its class and probability. Defaults to "input". Titles are wrapped to the
        width of a panel, and cut where a line of them takes more than two.
      alpha: opacity of the maps.
      colormap: a colormap of matplotlib's. The default, "inferno", is perceptually uniform.
      style: "overlay" draws colors over the picture, "mask" darkens what is below the threshold, and "contour" draws
        lines.
      threshold: what a mask keeps, on the map's scale in 0..1, and where the contour is; None for 0.5, and for contours
        at 0.25, 0.5 and 0.75.
      scale: "each" map is drawn from its lowest to its highest value, because methods have different units, or the maps
        of a "row" share the lowest and the highest value of all of them. The color bar says which.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Raises:
      ValueError: a method has more or fewer maps than there are images, or there is no such style, scale or colormap.
    """
    drawing = checked_drawing(style=style, alpha=alpha, colormap=colormap, threshold=threshold, scale=scale)
    for name, row in maps_by_name.items():
        if len(row) != len(images):
            raise ValueError(f"expected one map for each of the {len(images)} images, got {len(row)} maps of {name}")
    panels = [
        [(titles[i] if titles else "input", None), *((name, row[i]) for name, row in maps_by_name.items())]
        for i in range(len(images))
    ]
    return panel_grid(images, panels, drawing, value_range=value_range)


@on_white
def family(
    image: jax.typing.ArrayLike,
    maps_by_name: Mapping[str, jax.typing.ArrayLike],
    *,
    columns: int = 4,
    title: str = "input",
    alpha: float = 0.5,
    colormap: str | None = None,
    value_range: ValueRange | None = None,
) -> Figure:
    """One image and its map by each of many methods, in rows of `columns` panels.

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      maps_by_name: for each method's name its map, `[h' w']`. An attribution `[h w c]` has to be reduced to one channel
        first, for example to its largest absolute value over channels.
      columns: panels in a row.
      title: the title of the image.
      alpha, colormap: as in `compare`.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.
    """
    drawing = checked_drawing(alpha=alpha, colormap=colormap)
    rows = _in_rows([(title, None), *maps_by_name.items()], columns)
    return panel_grid([image] * len(rows), rows, drawing, value_range=value_range)


def _in_rows(panels: Sequence[Panel], columns: int) -> list[Sequence[Panel]]:
    if columns < 1:
        raise ValueError(f"expected at least 1 for columns, got {columns}")
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]


@on_white
def filters(
    image: jax.typing.ArrayLike,
    filter_maps: Sequence[jax.typing.ArrayLike] | jax.Array | np.ndarray,
    chosen: Sequence[int],
    *,
    columns: int = 4,
    alpha: float = 0.5,
    colormap: str | None = None,
    value_range: ValueRange | None = None,
) -> Figure:
    """The image, then the map of each chosen feature map, in rows of `columns` panels (figure 4 of the paper).

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      filter_maps: `[m h' w']`, what a method returns with `select=jaxcam.select(filters=chosen)`.
      chosen: the numbers of the m feature maps, for the titles.
      columns: panels in a row.
      alpha, colormap: as in `compare`.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Raises:
      ValueError: more or fewer maps than chosen feature maps.
    """
    if len(filter_maps) != len(chosen):
        raise ValueError(f"expected one map for each of the {len(chosen)} chosen filters, got {len(filter_maps)}")
    panels: list[Panel] = [("input", None)]
    panels += [(f"filter {k}", filter_map) for k, filter_map in zip(chosen, filter_maps, strict=True)]
    rows = _in_rows(panels, columns)
    drawing = checked_drawing(alpha=alpha, colormap=colormap)
    return panel_grid([image] * len(rows), rows, drawing, value_range=value_range)


@on_white
def neurons(
    image: jax.typing.ArrayLike,
    saliency_map: jax.typing.ArrayLike,
    subset: Sequence[Sequence[int]],
    *,
    region: bool = False,
    whole: jax.typing.ArrayLike | None = None,
    alpha: float = 0.5,
    colormap: str | None = None,
    value_range: ValueRange | None = None,
) -> Figure:
    """The image with the chosen neurons marked, and the map of those neurons alone (figure 5 of the paper).

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      saliency_map: `[h' w']`, what a method returns with `select=jaxcam.select(region=region, subset=subset)`.
      subset: the coordinates on the layer, as given to `jaxcam.select`.
      region: whether they are two opposite corners of a rectangle.
      whole: the map of all neurons, drawn between the two. By default it is left out.
      alpha, colormap: as in `compare`.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.
    """
    panels: list[Panel] = [("chosen neurons", None), ("their map", saliency_map)]
    if whole is not None:
        panels.insert(1, ("all neurons", whole))
    drawing = checked_drawing(alpha=alpha, colormap=colormap)
    figure = panel_grid([image], [panels], drawing, value_range=value_range)
    height, width = figure.axes[0].images[0].get_size()
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
    replace(path, drawn(figure, image_format))
