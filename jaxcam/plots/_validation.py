"""The figure of a validation: the closed form against the exact derivatives."""

import jax.typing
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam.analysis import Validation
from jaxcam.plots._figure import new_figure
from jaxcam.plots._maps import PANEL, overlay
from jaxcam.plots._picture import ValueRange

# The number of locations in a scatter plot, those with the largest derivatives. The others are nearly zero.
POINTS = 5000


def validation(
    validation: Validation,
    image: jax.typing.ArrayLike,
    *,
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> Figure:
    """For each score and form, the closed form against the exact derivatives, and both maps over the image.

    Args:
      validation: what `jaxcam.validate` returned. Rows in which all derivatives are zero are left out: those of
        link="identity" for an affine score of a piecewise affine head.
      image: `[h w 3]`, `[h w 1]` or `[h w]`, in any range that `as_picture` knows.
      alpha: opacity of the maps.
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
    figure = new_figure(figsize=(4 * PANEL + 1, (PANEL + 0.35) * len(rows)))
    for axes_of_row, row in zip(figure.subplots(len(rows), 4, squeeze=False), rows, strict=True):
        *scatter_axes, exact_axes, approximate_axes = axes_of_row
        for axes, name in zip(scatter_axes, ("Y2", "Y3"), strict=True):
            _scatter(axes, row.exact[name], row.approximate[name])
            axes.set_title(f"{name}: error {row.errors[name]:.1e}", fontsize=9)
            axes.set_xlabel("exact", fontsize=8)
        scatter_axes[0].set_ylabel(f"{row.score}, {row.link}\n{row.form}", fontsize=8)
        overlay(exact_axes, image, row.exact["map"], alpha=alpha, value_range=value_range)
        exact_axes.set_title("exact map", fontsize=9)
        overlay(approximate_axes, image, row.approximate["map"], alpha=alpha, value_range=value_range)
        approximate_axes.set_title(f"{row.form} map: error {row.errors['map']:.1e}", fontsize=9)
    return figure


def _scatter(axes: Axes, exact: np.ndarray, approximate: np.ndarray) -> None:
    """One point for each location, in units of the largest exact value, and the diagonal of equal values."""
    size = np.abs(exact).max() or np.abs(approximate).max()
    x, y = exact.ravel() / size, approximate.ravel() / size
    largest = np.argsort(-np.abs(x) - np.abs(y))[:POINTS]
    bounds = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(bounds, bounds, color="0.6", linewidth=1, zorder=0)
    axes.scatter(x[largest], y[largest], s=4, linewidths=0, alpha=0.5, color="tab:red")
    axes.tick_params(labelsize=7)
