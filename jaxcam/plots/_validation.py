"""The figure of a validation: the closed form against the exact derivatives."""

from typing import Any

import jax.typing
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.analysis import Validation
from jaxcam.plots._drawing import Drawing
from jaxcam.plots._figure import fitted_text, new_figure, on_white, plain_text, text_size
from jaxcam.plots._layout import PANEL
from jaxcam.plots._maps import overlay
from jaxcam.plots._picture import ValueRange

# The number of locations in a scatter plot, those with the largest derivatives. The others are nearly zero.
POINTS = 5000


@on_white
def validation(
    validation: Validation,
    image: jax.typing.ArrayLike,
    *,
    alpha: float = 0.5,
    colormap: str | None = None,
    value_range: ValueRange | None = None,
) -> Figure:
    """For each score and form, the closed form against the exact derivatives, and both maps over the image.

    Args:
      validation: what `jaxcam.validate` returned. Rows in which all derivatives are zero are left out: those of
        link="identity" for an affine score of a piecewise affine head.
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      alpha, colormap: as in `compare`. Each map is drawn from its lowest to its highest value.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Raises:
      ValueError: no row is left, or the maps are not `[h w]`.
    """
    rows = [row for row in validation.comparisons if row.exact["Y2"].any() or row.approximate["Y2"].any()]
    if not rows:
        raise ValueError("every second derivative is zero: there is nothing to draw; add link='exp'")
    map_shape = rows[0].exact["map"].shape
    if len(map_shape) != 2:
        raise ValueError(f"expected maps [h w], got {list(map_shape)}: only maps of images are drawn")
    width = 4 * PANEL + 1
    size = text_size(width)
    figure = new_figure(figsize=(width, (PANEL + 0.7) * len(rows)))
    options: dict[str, Any] = {"alpha": alpha, "colormap": colormap, "value_range": value_range}
    for axes_of_row, row in zip(figure.subplots(len(rows), 4, squeeze=False), rows, strict=True):
        *scatter_axes, exact_axes, approximate_axes = axes_of_row
        for axes, name in zip(scatter_axes, ("Y2", "Y3"), strict=True):
            _scatter(axes, row.exact[name], row.approximate[name], size)
            _set_title(axes, f"{name}: error {row.errors[name]:.1e}", size)
            axes.set_xlabel("exact", fontsize=size)
        scatter_axes[0].set_ylabel(f"{row.score}, {row.link}\n{row.form}", fontsize=size)
        overlay(exact_axes, image, row.exact["map"], **options)
        _set_title(exact_axes, "exact map", size)
        overlay(approximate_axes, image, row.approximate["map"], **options)
        _set_title(approximate_axes, f"{row.form} map: error {row.errors['map']:.1e}", size)
    figure.supxlabel(f"maps: {Drawing().legend}", fontsize=size)
    return figure


def _set_title(axes: Axes, title: str, size: float) -> None:
    axes.set_title(plain_text(fitted_text(title, 0.8 * PANEL, size)), fontsize=size)


def _scatter(axes: Axes, exact: np.ndarray, approximate: np.ndarray, size: float) -> None:
    """One point for each location, in units of the largest exact value, and the diagonal of equal values."""
    largest_value = np.abs(exact).max() or np.abs(approximate).max()
    x, y = exact.ravel() / largest_value, approximate.ravel() / largest_value
    largest = np.argsort(-np.abs(x) - np.abs(y))[:POINTS]
    bounds = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(bounds, bounds, color="0.6", linewidth=1, zorder=0)
    axes.scatter(x[largest], y[largest], s=4, linewidths=0, alpha=0.5, color="tab:red")
    axes.tick_params(labelsize=0.9 * size)
