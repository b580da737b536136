"""How one map is drawn over its picture: in colors, as what it keeps of the picture, or as lines."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import jax.typing
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patheffects import withStroke

from jaxcam.formulas import maps

STYLES = ("overlay", "mask", "contour")
SCALES = ("each", "row")
# Perceptually uniform: equal steps of a map are equal steps for the eye, in gray and for the color-blind as well.
COLORMAP = "inferno"
LEVELS = (0.25, 0.5, 0.75)  # of contours, on the map's scale
DIMMED = 0.8  # how much darker a mask makes what it does not keep


class Drawing(NamedTuple):
    """How maps are drawn.

    Attributes:
      style: one of `STYLES`.
      alpha: opacity of an overlay.
      colormap: a name that matplotlib knows, of an overlay or of contours.
      threshold: what a mask keeps, and where the one contour is; None for 0.5, and for the contours at `LEVELS`.
      scale: "each" map from its lowest to its highest value, or the maps of one "row" together.
    """

    style: str = "overlay"
    alpha: float = 0.5
    colormap: str = COLORMAP
    threshold: float | None = None
    scale: str = "each"

    @property
    def has_colors(self) -> bool:
        """Whether a color stands for a value, so that a color bar is needed."""
        return self.style != "mask"

    @property
    def legend(self) -> str:
        """What the colors stand for, or what a mask shows."""
        whose = "each map" if self.scale == "each" else "maps of a row"
        if self.style == "mask":
            return f"bright: at least {0.5 if self.threshold is None else self.threshold:g} of {whose}"
        return f"{whose}, min to max"


def checked_drawing(
    *,
    style: str = "overlay",
    alpha: float = 0.5,
    colormap: str | None = None,
    threshold: float | None = None,
    scale: str = "each",
) -> Drawing:
    """A drawing whose options are known.

    Raises:
      ValueError: no such style, scale or colormap, or a value outside 0..1.
    """
    for option, value, choices in (("style", style, STYLES), ("scale", scale, SCALES)):
        if value not in choices:
            raise ValueError(f"no {option} {value!r}: choose one of {', '.join(choices)}")
    if colormap is not None and colormap not in matplotlib.colormaps:
        raise ValueError(f"no colormap {colormap!r}: choose one of matplotlib's, such as inferno, viridis, cividis")
    for option, number in (("alpha", alpha), ("threshold", threshold)):
        if number is not None and not 0 <= number <= 1:
            raise ValueError(f"expected {option} in 0..1, got {number}")
    return Drawing(style, alpha, colormap or COLORMAP, threshold, scale)


def map_on_picture(saliency_map: jax.typing.ArrayLike, shape: tuple[int, int]) -> np.ma.MaskedArray:
    """A map at the size of its picture; masked where it was.

    Raises:
      ValueError: the map is masked and has another size than the picture, or has values that are not finite.
    """
    mask = np.ma.getmaskarray(saliency_map) if isinstance(saliency_map, np.ma.MaskedArray) else None
    if mask is not None and mask.shape != shape:
        raise ValueError(f"expected a masked map of the image's size {shape}, got {mask.shape}")
    saliency = np.asarray(saliency_map, np.float32)
    if not np.isfinite(saliency).all():
        raise ValueError(f"a map has {np.count_nonzero(~np.isfinite(saliency))} values that are NaN or infinite")
    resized = saliency if saliency.shape == shape else np.asarray(maps.resize(jnp.asarray(saliency), shape))
    return np.ma.MaskedArray(resized, False if mask is None else mask)


def scaled(resized: Sequence[np.ma.MaskedArray], scale: str) -> list[np.ma.MaskedArray]:
    """The maps of a row in 0..1, each from its lowest to its highest value or all of them together."""
    bounds = [(saliency.min(), saliency.max()) for saliency in resized]
    if any(np.ma.is_masked(bound) for pair in bounds for bound in pair):
        raise ValueError("a map is masked everywhere: there is nothing to draw")
    if scale == "row" and bounds:
        lows, highs = zip(*bounds, strict=True)
        bounds = [(min(lows), max(highs))] * len(bounds)
    return [
        (saliency - low) / (high - low) if high > low else saliency * np.float32(0)
        for saliency, (low, high) in zip(resized, bounds, strict=True)
    ]


def draw_map(axes: Axes, values: np.ma.MaskedArray, drawing: Drawing) -> None:
    """Draw a map in 0..1 over the picture that the axes have."""
    if drawing.style == "overlay":
        axes.imshow(values, cmap=drawing.colormap, vmin=0, vmax=1, alpha=drawing.alpha)
    elif drawing.style == "mask":
        threshold = 0.5 if drawing.threshold is None else drawing.threshold
        shade = np.zeros((*values.shape, 4), np.float32)
        shade[..., 3] = np.where(np.ma.filled(values >= threshold, False), 0, DIMMED)
        axes.imshow(shade)
    elif values.max() > 0:
        levels = LEVELS if drawing.threshold is None else (drawing.threshold,)
        lines = axes.contour(values, levels=levels, cmap=drawing.colormap, vmin=0, vmax=1, linewidths=1.4)
        lines.set_path_effects([withStroke(linewidth=2.6, foreground="white", alpha=0.7)])


def color_scale(drawing: Drawing) -> ScalarMappable:
    """What a color bar shows: the colors of 0..1, as they are without a picture under them."""
    return ScalarMappable(Normalize(0, 1), drawing.colormap)
