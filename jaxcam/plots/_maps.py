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

import jax.numpy as jnp
import jax.typing
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from jaxcam.formulas import maps
from jaxcam.plots._figure import drawn, new_figure
from jaxcam.plots._picture import ValueRange, as_picture, as_pictures
from jaxcam.runtime import replace

COLORS = "turbo"
PANEL = 2.4  # the width of a panel, in inches
LEAST_ASPECT, MOST_ASPECT = 0.5, 1.5  # of a panel's height to its width; wider and taller pictures leave space

# A panel's title and its map; None for the image alone.
Panel = tuple[str, jax.typing.ArrayLike | None]


def overlay(
    axes: Axes,
    image: jax.typing.ArrayLike,
    saliency_map: jax.typing.ArrayLike,
    *,
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> AxesImage:
    """Draw a map over an image, resized to the image and normalized to 0..1.

    Args:
      axes: where to draw.
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      saliency_map: `[h' w']`, at any resolution; or a masked array `[h w]`, which is drawn where it is not masked.
      alpha: opacity of the map; 0 shows only the image, 1 only the map.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Returns:
      The drawn map, for `figure.colorbar`.
    """
    return _draw_over(axes, as_picture(image, value_range=value_range), saliency_map, alpha)


def _draw_over(axes, picture, saliency_map, alpha):
    mask = np.ma.getmaskarray(saliency_map) if isinstance(saliency_map, np.ma.MaskedArray) else None
    if mask is not None and mask.shape != picture.shape[:2]:
        raise ValueError(f"expected a masked map of the image's size {picture.shape[:2]}, got {mask.shape}")
    saliency = np.asarray(saliency_map, np.float32)
    if not np.isfinite(saliency).all():
        raise ValueError(f"a map has {np.count_nonzero(~np.isfinite(saliency))} values that are NaN or infinite")
    resized = np.asarray(maps.normalize(maps.resize(jnp.asarray(saliency), picture.shape[:2])))
    if mask is not None:
        resized = np.ma.MaskedArray(resized, np.broadcast_to(mask, resized.shape))
    axes.imshow(picture)
    axes.set_axis_off()
    return axes.imshow(resized, cmap=COLORS, vmin=0, vmax=1, alpha=alpha)


def compare(
    images: Sequence[jax.typing.ArrayLike],
    maps_by_name: Mapping[str, Sequence[jax.typing.ArrayLike]],
    *,
    titles: Sequence[str] | None = None,
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> Figure:
    """One row for each image: the image, then its map by each method (figures 1 and 2 of the paper).

    Args:
      images: `[h w 3]`, `[h w 1]` or `[h w]` each, in any range that `as_picture` knows.
      maps_by_name: for each method's name, one map for each image.
      titles: a title for each image, such as its class and probability. Defaults to "input".
      alpha: opacity of the maps.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

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
    return panel_grid(images, panels, alpha, value_range=value_range)


def family(
    image: jax.typing.ArrayLike,
    maps_by_name: Mapping[str, jax.typing.ArrayLike],
    *,
    columns: int = 4,
    title: str = "input",
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> Figure:
    """One image and its map by each of many methods, in rows of `columns` panels.

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      maps_by_name: for each method's name its map, `[h' w']`. An attribution `[h w c]` has to be reduced to one channel
        first, for example to its largest absolute value over channels.
      columns: panels in a row.
      title: the title of the image.
      alpha: opacity of the maps.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.
    """
    panels: list[Panel] = [(title, None), *maps_by_name.items()]
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    return panel_grid([image] * len(rows), rows, alpha, value_range=value_range)


def filters(
    image: jax.typing.ArrayLike,
    filter_maps: Sequence[jax.typing.ArrayLike] | jax.Array | np.ndarray,
    chosen: Sequence[int],
    *,
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> Figure:
    """The image, then the map of each chosen feature map (figure 4 of the paper).

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      filter_maps: `[m h' w']`, what a method returns with `select=jaxcam.select(filters=chosen)`.
      chosen: the numbers of the m feature maps, for the titles.
      alpha: opacity of the maps.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Raises:
      ValueError: more or fewer maps than chosen feature maps.
    """
    if len(filter_maps) != len(chosen):
        raise ValueError(f"expected one map for each of the {len(chosen)} chosen filters, got {len(filter_maps)}")
    panels: list[Panel] = [("input", None)]
    panels += [(f"filter {k}", filter_map) for k, filter_map in zip(chosen, filter_maps, strict=True)]
    return panel_grid([image], [panels], alpha, value_range=value_range)


def neurons(
    image: jax.typing.ArrayLike,
    saliency_map: jax.typing.ArrayLike,
    subset: Sequence[Sequence[int]],
    *,
    region: bool = False,
    whole: jax.typing.ArrayLike | None = None,
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> Figure:
    """The image with the chosen neurons marked, and the map of those neurons alone (figure 5 of the paper).

    Args:
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      saliency_map: `[h' w']`, what a method returns with `select=jaxcam.select(region=region, subset=subset)`.
      subset: the coordinates on the layer, as given to `jaxcam.select`.
      region: whether they are two opposite corners of a rectangle.
      whole: the map of all neurons, drawn between the two. By default it is left out.
      alpha: opacity of the maps.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.
    """
    panels: list[Panel] = [("chosen neurons", None), ("their map", saliency_map)]
    if whole is not None:
        panels.insert(1, ("all neurons", whole))
    figure = panel_grid([image], [panels], alpha, value_range=value_range)
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


def panel_grid(
    images: Sequence[jax.typing.ArrayLike],
    rows_of_panels: Sequence[Sequence[Panel]],
    alpha: float,
    *,
    value_range: ValueRange | None = None,
) -> Figure:
    """A grid of panels, a row for each image, and one color bar for all maps. The first row is the longest."""
    if not len(images):
        raise ValueError("there are no images: expected at least one to draw")
    pictures = as_pictures(images, value_range=value_range)
    rows, columns = len(rows_of_panels), len(rows_of_panels[0])
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    titles = max(title.count("\n") for panels in rows_of_panels for title, _ in panels)
    height = PANEL * min(max(aspect, LEAST_ASPECT), MOST_ASPECT) + 0.25 + 0.15 * titles
    figure = new_figure(figsize=(PANEL * columns + 0.6, height * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    drawn_map = None
    for axes_of_row, picture, panels in zip(grid, pictures, rows_of_panels, strict=True):
        for axes in axes_of_row[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, saliency_map) in zip(axes_of_row, panels, strict=False):
            axes.set_title(plain_text(title), fontsize=9)
            if saliency_map is None:
                axes.imshow(picture)
                axes.set_axis_off()
            else:
                drawn_map = _draw_over(axes, picture, saliency_map, alpha)
    if drawn_map is not None:
        figure.colorbar(drawn_map, ax=grid, label="saliency, normalized", pad=0.01, fraction=0.03, aspect=20 * rows)
    return figure


def plain_text(text: str) -> str:
    """A text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
