"""Figures: maps over images, with a colour bar. The only room that imports matplotlib; `import jaxcam.plots`.

Figures are plain `matplotlib.figure.Figure` objects, made without pyplot: nothing is shown, kept or leaked.

    >>> import jaxcam, jaxcam.plots
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> figure = jaxcam.plots.compare([image], {"Grad-CAM": [jaxcam.grad_cam(cut, image)]})
    >>> type(figure).__name__
    'Figure'
"""

import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import jax.typing
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam.formulas import maps

COLOURS = "turbo"
PANEL = 2.4  # inches


def overlay(axes: Axes, image: jax.typing.ArrayLike, saliency_map: jax.typing.ArrayLike, *, alpha: float = 0.5):
    """Draw a map over an image: the map resized to the image, normalised to 0..1, at opacity `alpha`.

    Args:
      axes: where to draw.
      image: `[h w 3]` in 0..1.
      saliency_map: `[h' w']`, at any resolution.
      alpha: 0 shows the image alone, 1 the map alone.

    Returns:
      The drawn map, for `figure.colorbar`.
    """
    picture = np.clip(np.asarray(image), 0, 1)
    fine = maps.normalize(maps.resize(jnp.asarray(saliency_map), picture.shape[:2]))
    axes.imshow(picture)
    axes.set_axis_off()
    return axes.imshow(np.asarray(fine), cmap=COLOURS, vmin=0, vmax=1, alpha=alpha)


def compare(
    images: Sequence[jax.typing.ArrayLike],
    maps_by_name: Mapping[str, Sequence[jax.typing.ArrayLike]],
    *,
    titles: Sequence[str] | None = None,
    alpha: float = 0.5,
) -> Figure:
    """A row for each image: the image, then its map by each method, and one colour bar (figures 1 and 2 of the paper).

    Args:
      images: `[h w 3]` each, in 0..1.
      maps_by_name: for each method's name, one map for each image.
      titles: a line above each image, such as its class and probability.
      alpha: opacity of the maps.

    Raises:
      ValueError: a method with another number of maps than there are images.
    """
    for name, row in maps_by_name.items():
        if len(row) != len(images):
            raise ValueError(f"{name} has {len(row)} maps for {len(images)} images: one for each is wanted")
    panels = [
        [(titles[i] if titles else "input", None), *((name, row[i]) for name, row in maps_by_name.items())]
        for i in range(len(images))
    ]
    return _grid(images, panels, alpha)


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
      maps_by_name: for each method's name its map, `[h' w']`; of an attribution `[h w c]`, the largest absolute value
        over channels, say.
      columns: panels in a row.
      title: a line above the image.
      alpha: opacity of the maps.
    """
    panels: list = [(title, None), *maps_by_name.items()]
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    return _grid([image] * len(rows), rows, alpha)


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
      chosen: the m feature maps, for the titles.
      alpha: opacity of the maps.

    Raises:
      ValueError: another number of maps than of chosen feature maps.
    """
    if len(filter_maps) != len(chosen):
        raise ValueError(f"{len(filter_maps)} maps for {len(chosen)} chosen filters: one for each is wanted")
    panels = [
        ("input", None),
        *((f"filter {k}", filter_map) for k, filter_map in zip(chosen, filter_maps, strict=True)),
    ]
    return _grid([image], [panels], alpha)


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
      region: whether they are two corners of a rectangle.
      whole: the map of all neurons, drawn between the two where given.
      alpha: opacity of the maps.
    """
    panels = [("chosen neurons", None), ("their map", saliency_map)]
    if whole is not None:
        panels.insert(1, ("all neurons", whole))
    figure = _grid([image], [panels], alpha)
    height, width = np.shape(image)[:2]
    rows, columns = np.shape(saliency_map)[-2:]
    step_y, step_x = height / rows, width / columns
    corners = np.array(subset)
    if region:
        boxes = [(*corners.min(0), *(np.ptp(corners, axis=0) + 1))]
    else:
        boxes = [(row, column, 1, 1) for row, column in corners]
    for row, column, down, across in boxes:
        place = (column * step_x - 0.5, row * step_y - 0.5)
        box = Rectangle(place, across * step_x, down * step_y, fill=False, edgecolor="white", linewidth=1.5)
        figure.axes[0].add_patch(box)
    return figure


def save(figure: Figure, path: str | os.PathLike, *, force: bool = False) -> None:
    """Write a figure, in the format of the path's ending; beside and then renamed, so never half a file.

    Raises:
      FileExistsError: the file is there, and not `force`.
      ValueError: an ending that matplotlib does not write.
    """
    path = pathlib.Path(path)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"{path} ends in {path.suffix!r}: choose one of {', '.join(sorted(known))}")
    if path.exists() and not force:
        raise FileExistsError(f"{path} is there already")
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        whole = pathlib.Path(beside) / path.name
        figure.savefig(whole, dpi=150)
        whole.replace(path)


def _grid(images, panels, alpha):
    rows, columns = len(panels), len(panels[0])
    figure = Figure(figsize=(PANEL * columns + 0.6, (PANEL + 0.25) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    drawn = None
    for axes_row, image, row in zip(grid, images, panels, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_axis_off()
        for axes, (title, saliency_map) in zip(axes_row, row, strict=False):
            axes.set_title(title.replace("$", r"\$"), fontsize=9)
            if saliency_map is None:
                axes.imshow(np.clip(np.asarray(image), 0, 1))
                axes.set_axis_off()
            else:
                drawn = overlay(axes, image, saliency_map, alpha=alpha)
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, label="saliency, normalised", pad=0.01, fraction=0.03, aspect=20 * rows)
    return figure
