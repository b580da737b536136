"""Figures that pyplot does not know, and that a notebook shows all the same."""

import functools
import io
from typing import Any

from matplotlib.figure import Figure

DOTS_PER_INCH = 150


def new_figure(**options: Any) -> Figure:
    """A figure without pyplot. A notebook shows it where it is the last value of a cell."""
    figure = Figure(layout="constrained", **options)
    # IPython asks an object for this method. pyplot would register one for all figures, and keep them in memory.
    figure._repr_png_ = functools.partial(drawn, figure, "png")  # type: ignore[attr-defined]
    return figure


def drawn(figure: Figure, image_format: str) -> bytes:
    """The content of a file with the figure, in a format that matplotlib writes."""
    content = io.BytesIO()
    figure.savefig(content, format=image_format, dpi=DOTS_PER_INCH)
    return content.getvalue()
