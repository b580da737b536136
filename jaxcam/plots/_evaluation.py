"""Figures of an evaluation: its curves, and the images on which methods differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.typing
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam.evaluation import CONTROLS, Evaluation
from jaxcam.plots._drawing import checked_drawing
from jaxcam.plots._figure import POINTS_PER_INCH, fitted_text, new_figure, on_white, plain_text, text_size, text_width
from jaxcam.plots._layout import PANEL, Panel, panel_grid
from jaxcam.plots._picture import ValueRange

CURVE = 1.5 * PANEL  # the width of a panel of curves
CURVES_IN_A_ROW = 3
LEGEND_KEY = 5  # the line and the space before and behind a method's name, in sizes of its letters


@on_white
def curves(evaluation: Evaluation, *, methods: Sequence[str] | None = None) -> Figure:
    """The mean curves of an evaluation: a panel for each kind, a line for each method, dashed for controls.

    Args:
      evaluation: what `jaxcam.evaluate` returned.
      methods: the methods to draw; None for all.

    Raises:
      ValueError: the evaluation has no curves, or does not have a method.
    """
    curves_by_column = evaluation.curves()
    if not curves_by_column:
        raise ValueError("the evaluation has no curves: measure deletion, insertion, road or confidence")
    chosen = evaluation.methods if methods is None else methods
    for name in chosen:
        if name not in evaluation.methods:
            raise ValueError(f"no method {name!r}: choose one of {', '.join(evaluation.methods)}")
    columns = min(len(curves_by_column), CURVES_IN_A_ROW)
    rows = -(-len(curves_by_column) // columns)
    width = CURVE * columns
    size = text_size(width)
    legend_columns = _legend_columns(chosen, width, size)
    legend_height = 1.4 * size / POINTS_PER_INCH * -(-len(chosen) // legend_columns)
    figure = new_figure(figsize=(width, 1.3 * PANEL * rows + legend_height))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(curves_by_column) :]:
        axes.set_axis_off()
    styles = _line_styles(chosen)
    for axes, (column, curve_by_method) in zip(grid, curves_by_column.items(), strict=False):
        for name in chosen:
            x, y = curve_by_method[name]
            axes.plot(x, y, label=plain_text(name), markersize=4, **styles[name])
        _label_curve(axes, evaluation, column, size)
    lines, names = grid[0].get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside lower center", ncols=legend_columns, fontsize=size, columnspacing=1, handlelength=2.5
    )
    return figure


@on_white
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
    colormap: str | None = None,
    value_range: ValueRange | None = None,
) -> Figure:
    """One row for each image, with its map by each method and a measured value above each map.

    Args:
      images: `[h w 3]`, `[h w 1]` or `[h w]` each, in any range that `as_picture` knows.
      maps_by_name: for each method's name, one map for each image.
      figures_by_name: for each method's name, one line of text for each image, such as "energy 0.41".
      titles: a title for each image. Defaults to "input".
      masks: `[h w]` each, outlined where they are above 0; None for an image without a mask.
      boxes: `[m 4]` each, row0, column0, row1, column1, drawn if the image has no mask; None for one without boxes.
      heading: the title of the figure.
      alpha, colormap: as in `compare`.
      value_range: the values of the images that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.
    """
    rows: list[list[Panel]] = []
    for i in range(len(images)):
        maps = [
            (f"{name}\n{figures_by_name[name][i]}", maps_of_method[i]) for name, maps_of_method in maps_by_name.items()
        ]
        rows.append([(titles[i] if titles else "input", None), *maps])
    drawing = checked_drawing(alpha=alpha, colormap=colormap)
    figure = panel_grid(images, rows, drawing, value_range=value_range, heading=heading)
    for i in range(len(images)):
        axes = figure.axes[i * len(rows[0])]
        mask = None if masks is None else masks[i]
        boxes_of_image = None if boxes is None else boxes[i]
        if mask is not None:
            axes.contour(np.asarray(mask) > 0, levels=[0.5], colors="white", linewidths=1)
        elif boxes_of_image is not None:
            for row0, column0, row1, column1 in np.asarray(boxes_of_image):
                corner = (column0 - 0.5, row0 - 0.5)
                box = Rectangle(corner, column1 - column0, row1 - row0, fill=False, edgecolor="white")
                axes.add_patch(box)
    return figure


def _line_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The style of each method's line: a color, or gray dashes for a control."""
    colors = [*matplotlib.colormaps["tab10"].colors, *matplotlib.colormaps["Dark2"].colors]  # type: ignore[attr-defined]
    methods = [name for name in names if name not in CONTROLS]
    controls = list(CONTROLS)
    styles: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in CONTROLS:
            i = controls.index(name)
            styles[name] = {"color": str(0.25 + 0.1 * i), "linestyle": (0, (1 + i, 1 + i / 2)), "linewidth": 1.1}
        else:
            color = colors[methods.index(name) % len(colors)]
            styles[name] = {"color": color, "linewidth": 1.4, "marker": "."}
    return styles


def _legend_columns(names: Sequence[str], width: float, size: float) -> int:
    """The number of methods that fit beside each other in the legend."""
    longest = max(text_width(name, size) for name in names) + LEGEND_KEY * size / POINTS_PER_INCH
    return max(1, min(len(names), int(width / longest)))


def _label_curve(axes: Axes, evaluation: Evaluation, column: Any, size: float) -> None:
    """The title and labels of a panel of curves. A column without a description has its own name as the title."""
    curve = evaluation.shown_curve(column)
    axes.set_title(plain_text(fitted_text(str(curve or column), 0.8 * CURVE, size)), fontsize=size)
    axes.tick_params(labelsize=0.9 * size)
    if curve is not None:
        axes.set_xlabel(plain_text(fitted_text(curve.x, 0.8 * CURVE, size)), fontsize=size)
        axes.set_ylabel(plain_text(fitted_text(curve.y, 0.8 * PANEL, size)), fontsize=size)
        axes.set_ylim(bottom=0)
