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
import textwrap
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import jax.typing
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam import maps
from jaxcam.evaluation import CONTROLS
from jaxcam.measures import without_options
from jaxcam.tables import Evaluation
from jaxcam.validation import Validation

COLOURS = "turbo"
PANEL = 2.4  # inches
CURVES = {
    "deletion_curve": ("deletion, lower is better", "share of the pixels removed", "score"),
    "insertion_curve": ("insertion, higher is better", "share of the pixels put back", "score"),
    "road_most_curve": ("ROAD, most relevant first, lower is better", "share of the pixels removed", "score"),
    "road_least_curve": ("ROAD, least relevant first, higher is better", "share of the pixels removed", "score"),
    "confidence_curve": ("confidence, higher is better", "quantile below which pixels are removed", "over the whole's"),
}
TITLE = 26  # letters that fit above a panel
POINTS = 5000  # the largest locations of a scatter; the rest lie on them at zero


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


def validation(found: Validation, image: jax.typing.ArrayLike, *, alpha: float = 0.5) -> Figure:
    """For each score and form: the closed form against the exact derivatives, and both maps over the image.

    Args:
      found: what `jaxcam.validate` returned; rows without any derivative (link="identity" on a piecewise affine head
        with an affine score) are left out.
      image: `[h w 3]` in 0..1.
      alpha: opacity of the maps.

    Raises:
      ValueError: nothing is left to draw, or the layer's maps are not images.
    """
    rows = [row for row in found.comparisons if row.exact["Y2"].any() or row.found["Y2"].any()]
    if not rows:
        raise ValueError("every second derivative is zero: there is nothing to draw; add link='exp'")
    if rows[0].exact["map"].ndim != 2:
        raise ValueError(f"the map is {list(rows[0].exact['map'].shape)}: only maps of images, [h w], are drawn")
    figure = Figure(figsize=(4 * PANEL + 1, (PANEL + 0.35) * len(rows)), layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), 4, squeeze=False), rows, strict=True):
        for panel, name in zip(axes, ("Y2", "Y3"), strict=False):
            _scatter(panel, row.exact[name], row.found[name])
            panel.set_title(f"{name}: error {row.errors[name]:.1e}", fontsize=9)
            panel.set_xlabel("exact", fontsize=8)
        axes[0].set_ylabel(f"{row.score}, {row.link}\n{row.form}", fontsize=8)
        for panel, title, each in zip(axes[2:], ("exact", row.form), (row.exact, row.found), strict=True):
            overlay(panel, image, each["map"], alpha=alpha)
            panel.set_title(
                f"{title} map" if each is row.exact else f"{title} map, {row.errors['map']:.1e}", fontsize=9
            )
    return figure


def curves(found: Evaluation, *, methods: Sequence[str] | None = None) -> Figure:
    """The mean curves of an evaluation, a panel for each kind and a line for each method, controls dashed.

    Args:
      found: what `jaxcam.evaluate` returned.
      methods: of its methods those to draw; None for all.

    Raises:
      ValueError: it has no curves, or not that method.
    """
    drawn = found.curves()
    order = [column for name in CURVES for column in drawn if without_options(column) == name]
    known = {column: drawn[column] for column in dict.fromkeys([*order, *drawn])}
    if not known:
        raise ValueError("the evaluation has no curves: measure deletion, insertion, road or confidence")
    chosen = found.methods if methods is None else methods
    for name in chosen:
        if name not in found.methods:
            raise ValueError(f"no method {name!r}: choose of {', '.join(found.methods)}")
    columns = min(len(known), 3)
    rows = -(-len(known) // columns)
    figure = Figure(
        figsize=(1.5 * PANEL * columns, 1.3 * PANEL * rows + 0.3 * -(-len(chosen) // 4)), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(known) :]:
        axes.set_axis_off()
    colours = [*matplotlib.colormaps["tab10"].colors, *matplotlib.colormaps["Dark2"].colors]  # type: ignore[attr-defined]
    methods_drawn = [name for name in chosen if name not in CONTROLS]
    for axes, (column, of_methods) in zip(grid, known.items(), strict=False):
        for name in chosen:
            x, y = of_methods[name]
            if name in CONTROLS:
                at = list(CONTROLS).index(name)
                look = {"color": str(0.25 + 0.1 * at), "linestyle": (0, (1 + at, 1 + at / 2)), "linewidth": 1.1}
            else:
                look = {"color": colours[methods_drawn.index(name) % len(colours)], "linewidth": 1.4, "marker": "."}
            axes.plot(x, y, label=name.replace("$", r"\$"), markersize=4, **look)
        name = without_options(column)
        title, across, up = CURVES.get(name, (name, "", ""))
        title, comma, better = title.rpartition(", ") if name in CURVES else (title, "", "")
        axes.set_title((title + column.removeprefix(name) + comma + better).replace("$", r"\$"), fontsize=9)
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(up, fontsize=8)
        axes.tick_params(labelsize=7)
        if name in CURVES:
            axes.set_ylim(bottom=0)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    return figure


def differences(
    images: Sequence[jax.typing.ArrayLike],
    maps_by_name: Mapping[str, Sequence[jax.typing.ArrayLike]],
    figures_by_name: Mapping[str, Sequence[str]],
    *,
    titles: Sequence[str] | None = None,
    masks: Sequence[jax.typing.ArrayLike | None] | None = None,
    boxes: Sequence[jax.typing.ArrayLike | None] | None = None,
    heading: str | None = None,
    alpha: float = 0.5,
) -> Figure:
    """A row for each image, with its map by each method and what was measured of it above: where methods disagree.

    Args:
      images: `[h w 3]` each, in 0..1.
      maps_by_name: for each method's name, one map for each image.
      figures_by_name: for each method's name, one line for each image, such as "energy 0.41".
      titles: a line above each image.
      masks: `[h w]` each, drawn as an outline where they are above 0; None for an image without.
      boxes: `[m 4]` each, row0, column0, row1, column1, drawn where there is no mask; None for an image without.
      heading: a line above all.
      alpha: opacity of the maps.
    """
    panels = [
        [
            (titles[i] if titles else "input", None),
            *(
                (f"{textwrap.fill(name, TITLE)}\n{figures_by_name[name][i]}", each[i])
                for name, each in maps_by_name.items()
            ),
        ]
        for i in range(len(images))
    ]
    figure = _grid(images, panels, alpha)
    for i in range(len(images)):
        axes = figure.axes[i * len(panels[0])]
        mask = None if masks is None else masks[i]
        box = None if boxes is None else boxes[i]
        if mask is not None:
            axes.contour(np.asarray(mask) > 0, levels=[0.5], colors="white", linewidths=1)
        elif box is not None:
            for r0, c0, r1, c1 in np.asarray(box):
                axes.add_patch(Rectangle((c0 - 0.5, r0 - 0.5), c1 - c0, r1 - r0, fill=False, edgecolor="white"))
    if heading is not None:
        figure.suptitle(heading.replace("$", r"\$"), fontsize=9)
    return figure


def _scatter(axes, exact, found):
    """One point for each location, in units of the largest exact value, with the diagonal that they should lie on."""
    size = np.abs(exact).max() or np.abs(found).max()
    x, y = exact.ravel() / size, found.ravel() / size
    largest = np.argsort(-np.abs(x) - np.abs(y))[:POINTS]
    bounds = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(bounds, bounds, color="0.6", linewidth=1, zorder=0)
    axes.scatter(x[largest], y[largest], s=4, linewidths=0, alpha=0.5, color="tab:red")
    axes.tick_params(labelsize=7)


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
