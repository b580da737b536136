"""TODO."""

import textwrap
from collections.abc import Mapping, Sequence

import jax.typing
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxcam.evaluation import CONTROLS, Evaluation
from jaxcam.plots._maps import PANEL, _grid

TITLE = 26  # letters that fit above a panel


def curves(found: Evaluation, *, methods: Sequence[str] | None = None) -> Figure:
    """The mean curves of an evaluation, a panel for each kind and a line for each method, controls dashed.

    Args:
      found: what `jaxcam.evaluate` returned.
      methods: of its methods those to draw; None for all.

    Raises:
      ValueError: it has no curves, or not that method.
    """
    known = found.curves()
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
        curve = found.shown_curve(column)
        axes.set_title(str(curve or column).replace("$", r"\$"), fontsize=9)
        axes.tick_params(labelsize=7)
        if curve is not None:
            axes.set_xlabel(curve.x, fontsize=8)
            axes.set_ylabel(curve.y, fontsize=8)
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
