"""A grid of pictures and maps: sizes in inches, titles that fit, and a color bar as high as the pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.typing
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.plots._drawing import Drawing, color_scale, draw_map, map_on_picture, scaled
from jaxcam.plots._figure import (
    ELLIPSIS,
    LEAST_TEXT,
    POINTS_PER_INCH,
    SHOWN_WIDTH,
    fitted_text,
    new_figure,
    plain_text,
    text_size,
)
from jaxcam.plots._picture import ValueRange, as_pictures

PANEL = 2.4  # the width of a panel, in inches
MOST_ASPECT = 1.5  # of a panel's height to its width; a taller picture is narrower than its panel
GAP, MARGIN = 0.1, 0.08  # between panels and round them, in inches
BAR = 0.13  # the width of the color bar, in inches
LEGEND = 4.2  # the width of what is written beside the color bar, in sizes of the letters
ROWS_OF_A_BAR = 3
FILLED = 0.96  # of a panel's width by its title, whose letters are drawn a little wider than they are measured
SMALL = 0.9  # the letters of the color bar, in sizes of those of titles
LINE = 1.3  # the height of a line of text, in sizes of its letters

# A panel's title and its map; None for the image alone.
Panel = tuple[str, jax.typing.ArrayLike | None]


class _Geometry(NamedTuple):
    """Where everything is, in inches from the upper left corner.

    Attributes:
      width, height: of the figure.
      size: of the letters, in points.
      titles: of each panel, wrapped.
      tops: of each row's pictures.
      shapes: the height and width of each row's pictures.
      caption: what the colors stand for, below the pictures; None if it fits beside them.
    """

    width: float
    height: float
    size: float
    titles: list[list[str]]
    tops: list[float]
    shapes: list[tuple[float, float]]
    caption: str | None


def panel_grid(
    images: Sequence[jax.typing.ArrayLike],
    rows_of_panels: Sequence[Sequence[Panel]],
    drawing: Drawing,
    *,
    value_range: ValueRange | None = None,
    heading: str | None = None,
) -> Figure:
    """A grid of panels, a row for each image, and one color bar for all maps."""
    if not len(images):
        raise ValueError("there are no images: expected at least one to draw")
    pictures = as_pictures(images, value_range=value_range)
    has_maps = any(saliency is not None for panels in rows_of_panels for _, saliency in panels)
    geometry = _geometry(pictures, rows_of_panels, drawing.legend if has_maps else None, heading)
    figure = new_figure(figsize=(geometry.width, geometry.height), layout=None)
    for i, (picture, panels) in enumerate(zip(pictures, rows_of_panels, strict=True)):
        resized = [map_on_picture(saliency, picture.shape[:2]) for _, saliency in panels if saliency is not None]
        values = iter(scaled(resized, drawing.scale))
        for j, (_, saliency) in enumerate(panels):
            height, width = geometry.shapes[i]
            left = MARGIN + j * (PANEL + GAP) + (PANEL - width) / 2
            axes = _add_axes(figure, geometry, left, geometry.tops[i], height, width)
            axes.set_title(plain_text(geometry.titles[i][j]), fontsize=geometry.size, pad=0.35 * geometry.size)
            axes.imshow(picture)
            if saliency is not None:
                draw_map(axes, next(values), drawing)
            axes.set_axis_off()
    if has_maps:
        _add_legend(figure, geometry, max(map(len, rows_of_panels)), drawing)
    if heading is not None:
        line = (LINE * geometry.size / 2 / POINTS_PER_INCH + MARGIN) / geometry.height
        text = plain_text(_fitted_heading(heading, geometry.width, geometry.size))
        figure.suptitle(text, fontsize=geometry.size, y=1 - line, va="center")
    return figure


def _geometry(pictures, rows_of_panels, legend, heading):
    columns = max(map(len, rows_of_panels))
    width = 2 * MARGIN + columns * PANEL + (columns - 1) * GAP
    size = text_size(width)
    if legend is not None:  # the letters beside the color bar widen the figure, and a wider figure has larger letters
        size = text_size((width + GAP + BAR) / (1 - LEGEND * LEAST_TEXT / SHOWN_WIDTH))
        width += GAP + BAR + LEGEND * size / POINTS_PER_INCH
    letter = size / POINTS_PER_INCH
    titles = [[fitted_text(title, FILLED * PANEL, size) for title, _ in panels] for panels in rows_of_panels]
    top = MARGIN + (LINE * letter + MARGIN if heading is not None else 0)
    tops, shapes = [], []
    for picture, titles_of_row in zip(pictures, titles, strict=True):
        lines = max(title.count("\n") + 1 for title in titles_of_row)
        top += (lines * LINE + 0.4) * letter
        aspect = picture.shape[0] / picture.shape[1]
        height = PANEL * min(aspect, MOST_ASPECT)
        tops.append(top)
        shapes.append((height, height / aspect))
        top += height + GAP
    bottom = top - GAP
    bar_height = _bottom_of_bar(tops, shapes) - tops[0]
    fits = legend is None or ELLIPSIS not in fitted_text(legend, bar_height, SMALL * size)
    height = bottom + MARGIN + (0 if fits else LINE * letter)
    return _Geometry(width, height, size, titles, tops, shapes, None if fits else legend)


def _bottom_of_bar(tops, shapes):
    """Where the color bar ends: with the last row, or with the first of many rows, which a page shows one by one."""
    last = len(tops) - 1 if len(tops) <= ROWS_OF_A_BAR else 0
    return tops[last] + shapes[last][0]


def _fitted_heading(heading, width, size):
    return fitted_text(heading, width - 2 * MARGIN, size, most_lines=1)


def _add_axes(figure: Figure, geometry: _Geometry, left: float, top: float, height: float, width: float) -> Axes:
    bottom = geometry.height - top - height
    return figure.add_axes(
        (left / geometry.width, bottom / geometry.height, width / geometry.width, height / geometry.height)
    )


def _add_legend(figure: Figure, geometry: _Geometry, columns: int, drawing: Drawing) -> None:
    """A color bar as high as the pictures, from the first row to the last one of the bar, or the text of a mask."""
    left = MARGIN + columns * (PANEL + GAP)
    top, bottom = geometry.tops[0], _bottom_of_bar(geometry.tops, geometry.shapes)
    small = SMALL * geometry.size
    label = "" if geometry.caption else plain_text(fitted_text(drawing.legend, bottom - top, small))
    if geometry.caption:
        right, low = 1 - MARGIN / geometry.width, MARGIN / geometry.height
        figure.text(right, low, plain_text(geometry.caption), va="bottom", ha="right", fontsize=small)
    if not drawing.has_colors:
        middle = 1 - (top + bottom) / 2 / geometry.height
        if label:
            figure.text(left / geometry.width, middle, label, rotation=90, va="center", ha="left", fontsize=small)
        return
    axes = _add_axes(figure, geometry, left, top, bottom - top, BAR)
    bar = figure.colorbar(color_scale(drawing), cax=axes, ticks=[0, 1] if geometry.caption else [0, 0.5, 1])
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    axes.tick_params(labelsize=small, length=2, pad=2)
    axes.set_ylabel(label, fontsize=small, labelpad=2)
