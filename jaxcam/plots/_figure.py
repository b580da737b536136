"""Figures that pyplot does not know, that a notebook shows all the same, and whose text is legible and fits.

A figure is white with black text, whatever style pyplot has, so that dark and light pages show it alike.
"""

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

DOTS_PER_INCH = 150
POINTS_PER_INCH = 72
# A page shows a figure about 800 pixels wide; its text is then at least 11 pixels high.
SHOWN_WIDTH, LEAST_TEXT = 800, 11
SMALLEST_TEXT = 9.0  # points, of a narrow figure
MOST_LINES = 2  # of one line of a title, after wrapping
ELLIPSIS = "…"
COLORS = {
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "savefig.transparent": False,
    "axes.facecolor": "white",
    "legend.facecolor": "white",
    "legend.edgecolor": "0.8",
    "axes.edgecolor": "black",
    "axes.labelcolor": "black",
    "axes.titlecolor": "black",
    "text.color": "black",
    "xtick.color": "black",
    "ytick.color": "black",
    "xtick.labelcolor": "inherit",
    "ytick.labelcolor": "inherit",
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_white(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, which draws black on white in every style of pyplot."""

    @functools.wraps(function)
    def drawing(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with matplotlib.rc_context(COLORS):  # type: ignore[arg-type]
            return function(*arguments, **options)

    return drawing


def new_figure(**options: Any) -> Figure:
    """A figure without pyplot. A notebook shows it where it is the last value of a cell."""
    figure = Figure(**{"layout": "constrained", **options})
    # IPython asks an object for this method. pyplot would register one for all figures, and keep them in memory.
    figure._repr_png_ = functools.partial(drawn, figure, "png")  # type: ignore[attr-defined]
    return figure


@on_white
def drawn(figure: Figure, image_format: str, dots_per_inch: int = DOTS_PER_INCH) -> bytes:
    """The content of a file with the figure, in a format that matplotlib writes."""
    content = io.BytesIO()
    figure.savefig(content, format=image_format, dpi=dots_per_inch)
    return content.getvalue()


def text_size(width: float) -> float:
    """The size of text, in points, with which a figure of so many inches is legible on a page.

    Example:
      >>> text_size(5), round(text_size(20), 1)
      (9.0, 19.8)
    """
    return max(SMALLEST_TEXT, LEAST_TEXT * width * POINTS_PER_INCH / SHOWN_WIDTH)


def plain_text(text: str) -> str:
    """A text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def fitted_text(text: str, width: float, size: float, *, most_lines: int = MOST_LINES) -> str:
    """A text that is wrapped to a width in inches. What takes more lines is cut.

    Args:
      text: one or several lines, each of which is wrapped.
      width: in inches.
      size: of the letters, in points.
      most_lines: that one line of the text may become.

    Example:
      >>> print(fitted_text("German short-haired pointer, 98.2%", 2, 9))
      German short-haired
      pointer, 98.2%
      >>> fitted_text("a_layer_with_a_very_long_name", 1, 9, most_lines=1)
      'a_layer_with_…'
    """
    return "\n".join(line for paragraph in text.split("\n") for line in _wrapped(paragraph, width, size, most_lines))


def _wrapped(paragraph, width, size, most_lines):
    lines: list[str] = []
    rest = paragraph.strip()
    while rest and len(lines) < most_lines:
        count = _letters_that_fit(rest, width, size)
        if count < len(rest) and len(lines) == most_lines - 1:
            return [*lines, rest[: _letters_that_fit(rest, width, size, end=ELLIPSIS)].rstrip() + ELLIPSIS]
        if count < len(rest):
            space = rest.rfind(" ", 0, count + 1)
            count = space if space > 0 else count
        lines.append(rest[:count].rstrip())
        rest = rest[count:].lstrip()
    return lines or [""]


def _letters_that_fit(text, width, size, end=""):
    """How many of the first letters fit in a line, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle] + end, size) <= width:
            low = middle
        else:
            high = middle - 1
    return low


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """The width of a line of text with letters of so many points, in inches."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)
    return width / POINTS_PER_INCH
