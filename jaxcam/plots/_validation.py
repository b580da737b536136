"""TODO."""

import jax.typing
import numpy as np
from matplotlib.figure import Figure

from jaxcam.analysis import Validation
from jaxcam.plots._maps import PANEL, overlay

POINTS = 5000  # the largest locations of a scatter; the rest lie on them at zero


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


def _scatter(axes, exact, found):
    """One point for each location, in units of the largest exact value, with the diagonal that they should lie on."""
    size = np.abs(exact).max() or np.abs(found).max()
    x, y = exact.ravel() / size, found.ravel() / size
    largest = np.argsort(-np.abs(x) - np.abs(y))[:POINTS]
    bounds = [min(x.min(), y.min()), max(x.max(), y.max())]
    axes.plot(bounds, bounds, color="0.6", linewidth=1, zorder=0)
    axes.scatter(x[largest], y[largest], s=4, linewidths=0, alpha=0.5, color="tab:red")
    axes.tick_params(labelsize=7)
