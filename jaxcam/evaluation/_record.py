"""What an evaluation knows of a metric: how it is computed, what it needs of an image, and how its columns are shown.

>>> def peak(cut, case, saliency):
...     return {"peak": saliency.max()}
>>> metric = Metric(peak, {"peak": Column("highest value", better="up")}, group="Where the map lies")
>>> metric.name, str(metric.columns["peak"])
('peak', 'highest value ↑')
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax

from jaxcam.evaluation._naming import ColumnKey, option_texts

Array = jax.Array
# What a metric returns: by column a scalar, or a curve `[2 points]`, its x and its y.
Columns = dict[str, Array]
Better = Literal["up", "down"] | None
ARROWS = {"up": " ↑", "down": " ↓", None: ""}
WORDS = {"up": ", higher is better", "down": ", lower is better", None: ""}
OTHER = "Other"


class Column(NamedTuple):
    """How a column of numbers is shown.

    Attributes:
      title: the head of the column.
      better: "up" if higher values are better, "down" if lower values are, None if neither.
      scale: the factor for values in a table; 100 shows them as a percentage.
      decides: a rank. The images on which two methods differ most are chosen by the measured column of the lowest rank;
        None for a column that never decides.
    """

    title: str
    better: Better = None
    scale: float = 1
    decides: int | None = None

    def __str__(self) -> str:
        return f"{self.title}{' %' if self.scale == 100 else ''}{ARROWS[self.better]}"

    def number(self, value: float) -> str:
        """A value with as many digits as a hundred images justify."""
        return f"{100 * value:.1f}" if self.scale == 100 else f"{self.scale * value:.3f}"


class Curve(NamedTuple):
    """How a column of curves is drawn.

    Attributes:
      title: the head of the panel.
      x: the label of the horizontal axis.
      y: the label of the vertical axis.
      better: "up" if higher curves are better, "down" if lower curves are, None if neither.
    """

    title: str
    x: str = ""
    y: str = ""
    better: Better = None

    def __str__(self) -> str:
        return f"{self.title}{WORDS[self.better]}"


class Case(NamedTuple):
    """One image to be explained, and what is known of it.

    Attributes:
      image: `[*spatial c]`, floats, or in the layout that the cut says.
      target: the class that is explained.
      probability: the target's score on the whole image.
      mask: `[*spatial]` bool, the pixels of that class; None if they are not known.
      ignore: `[*spatial]` bool, pixels that do not count; None for none.
      boxes: `[m 2 axes]`, the first corner and then the last, which is excluded: row0, column0, row1, column1. A box
        without an area is padding. None if there are none.
      key: the key that a metric draws from; the same for every method.
      ends: by name, the target's score on the images of `Metric.ends`.
    """

    image: Array
    target: Array | int
    probability: Array | float = 0.0
    mask: Array | None = None
    ignore: Array | None = None
    boxes: Array | None = None
    key: Array | None = None
    ends: Mapping[str, Array] = {}

    @property
    def blank(self) -> Array | None:
        """The target's score on an image of zeros, None if it is not known."""
        return self.ends.get("blank")

    @property
    def blurred(self) -> Array | None:
        """The target's score on the blurred image, None if it is not known."""
        return self.ends.get("blurred")


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric: how it is computed, what it needs, and how its columns and curves are shown.

    Attributes:
      compute: `(cut, case, saliency, [again], *, options) -> {column: value}`, traced by jit. `saliency` is the map
        `[*spatial]` at the image's resolution, its maximum 1. A value is a scalar, or a curve `[2 points]`, its x and
        its y. A metric with the parameter `again` is given a function that explains another image, `again(image) ->
        [*spatial]`; a metric with the parameter `score` is given the score of the evaluation.
      columns: by name, how the numbers are shown. A column that is not described has its name as its title.
      curves: by name, how the curves are drawn.
      group: the title of the table that the columns stand in.
      needs: "boxes" for images with boxes only, "mask" for images with a mask or boxes, None for all images.
      of_label: whether mask and boxes are those of the label, so that a map of another class is not measured.
      ends: by name, functions from the image to another image; one with the parameter `channel_axis` is given the axis
        of the image's channels. The score of each is computed once for an image and all
        its maps: `case.ends[name]`.
      includes: functions of other metrics whose columns this metric gives too. With the same options, those metrics are
        left out.
    """

    compute: Callable[..., Columns]
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    group: str = OTHER
    needs: Literal["mask", "boxes"] | None = None
    of_label: bool = False
    ends: Mapping[str, Callable[[Array], Array]] = dataclasses.field(default_factory=dict)
    includes: tuple[Callable[..., Columns], ...] = ()

    def __call__(self, *arguments: Any, **options: Any) -> Columns:
        """What `compute` returns; `functools.partial(metric, option=value)` binds an option."""
        return self.compute(*arguments, **options)

    @property
    def function(self) -> Callable[..., Columns]:
        """`compute` without jit and without bound options."""
        return unbound_function(self.compute)

    @property
    def bound(self) -> dict[str, Any]:
        """The options that are bound to `compute`, by name."""
        return bound_options(self.compute)

    @property
    def name(self) -> str:
        """The function's name, without options."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def bound_texts(self) -> tuple[tuple[str, str], ...]:
        """The bound options as text, sorted by name."""
        return option_texts(self.bound)

    @property
    def label(self) -> str:
        """The name with the options: "pointing, tolerance 15"."""
        return str(self.column_key(self.name))

    @property
    def explains_again(self) -> bool:
        """Whether the metric explains another image, and so runs the method."""
        return "again" in inspect.signature(self.compute).parameters

    @property
    def takes_score(self) -> bool:
        """Whether the metric is given the score of the evaluation."""
        return "score" in inspect.signature(self.compute).parameters and "score" not in self.bound

    def column_key(self, column: str) -> ColumnKey:
        """The key of a column that the metric returns, with the options that are bound."""
        return ColumnKey(column, self.bound_texts)


def unbound_function(metric: Callable[..., Any]) -> Callable[..., Any]:
    """A function without jit, and without the options that are bound to it."""
    if isinstance(metric, functools.partial):
        return unbound_function(metric.func)
    return unbound_function(metric.__wrapped__) if _is_jitted(metric) else metric  # type: ignore[attr-defined]


def bound_options(metric: Callable[..., Any]) -> dict[str, Any]:
    """The options that are bound to a function, by name."""
    if isinstance(metric, functools.partial):
        return {**bound_options(metric.func), **metric.keywords}
    return bound_options(metric.__wrapped__) if _is_jitted(metric) else {}  # type: ignore[attr-defined]


def _is_jitted(metric):
    return hasattr(metric, "__wrapped__") and not isinstance(metric, types.FunctionType)
