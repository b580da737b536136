"""The result of an evaluation: means over images with paired bootstrap intervals, as text, Markdown and JSON.

>>> rows = lambda a, b: {"rows": {"Grad-CAM": {"average_drop": a}, "random": {"average_drop": b}}}
>>> record = {"label": 1, "target": 1, "predicted": 1, "probability": 0.9, "rank": 0}
>>> images = {str(i): {**record, **rows(i / 32, i / 32 + 0.5)} for i in range(17)}
>>> print(Evaluation(images, {}, "Grad-CAM"))
17 images, 100.0% classified rightly
<BLANKLINE>
The masked image:
<BLANKLINE>
          Average Drop % ↓     Win % ↑
Grad-CAM         25.0 ±7.9   50.0 ±0.0
random           75.0 ±7.9⁻   0.0 ±0.0⁻
<BLANKLINE>
Win: the share of images whose drop is lower than Grad-CAM's, ties by half.
± half of the 95% interval, by bootstrap over images; ⁺ better, ⁻ worse than Grad-CAM beyond doubt, by the paired one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcam._base.targets import is_integer
from jaxcam.evaluation._bootstrap import FEWEST, LEVEL, ROUNDING, Estimate, paired_estimates
from jaxcam.evaluation._format import (
    ZERO,
    aligned_lines,
    cells,
    columns_of_fewer_images,
    count_of_images,
    deciding_column,
    grouped_columns,
    markdown_lines,
    ordered_curves,
    shown_column,
    shown_curve,
)
from jaxcam.evaluation._naming import ColumnKey, as_key
from jaxcam.evaluation._record import Column, Curve, Metric

DROP, WIN = "average_drop", "win"
LOCALIZED = "localised"  # the column's name in files of earlier versions, too
ERRORS = {"error_1": 1, "error_5": 5}  # the largest outputs among which the label must be

# The lines of a table, from its head and its rows.
Layout = Callable[[list[str], list[list[str]]], Iterator[str]]


class Evaluation(NamedTuple):
    """The result of `jaxcam.evaluate`. It prints as tables.

    Columns have a `jaxcam.evaluation.ColumnKey`, which equals its text: `estimates()["random"]["average_drop"]`,
    `estimates()["random"]["pointing, tolerance 15"]`. In `as_dict()` they are texts.

    Attributes:
      images: by name the record of each image: `label`, `target` (a text if it is no number), `predicted`,
        `probability` of the target, `rank` of the label among the outputs (0 for the largest), and `rows`, for each
        method its values by column.
      failed: by name why an image has no record.
      reference: the method that the others are compared with, also by Win %.
      target: what was explained: the class "predicted", the "label", or the "given" target.
      metrics: the records of the metrics that were measured; they say how columns are shown. The records of
        `jaxcam.evaluation.METRICS` are always known.
    """

    images: dict[str, dict[str, Any]]
    failed: dict[str, str]
    reference: str
    target: str = "predicted"
    metrics: tuple[Metric, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The methods in the order of the table."""
        return list(next(iter(self.images.values()))["rows"]) if self.images else []

    @property
    def accuracy(self) -> float | None:
        """The share of the labeled images that the model classifies correctly; None if no image has a label."""
        known = [r for r in self.images.values() if r["label"] is not None and r["predicted"] is not None]
        is_right = [record["predicted"] == record["label"] for record in known]
        return float(np.mean(is_right)) if is_right else None

    def apart(self) -> list[str]:
        """The images whose explained class is not the predicted one; they are counted apart."""
        of_classes = {
            name: r for name, r in self.images.items() if r["predicted"] is not None and is_integer(r["target"])
        }
        return [name for name, record in of_classes.items() if record["predicted"] != record["target"]]

    def estimates(self, names: Sequence[str] | None = None) -> dict[str, dict[ColumnKey | str, Estimate]]:
        """For each method and column of numbers its `Estimate`.

        Args:
          names: the images; by default those whose explained class is the predicted one.
        """
        values = self._values(self._counted() if names is None else names)
        return self._estimates_of(values)  # type: ignore[return-value]

    def curves(self) -> dict[ColumnKey | str, dict[str, np.ndarray]]:
        """For each curve and method the mean `[2 points]`, over the images that have it.

        The images are those whose explained class is the predicted one. The curves are in the order of the metrics'
        records.
        """
        names = self._counted()
        curves: dict[ColumnKey | str, dict[str, np.ndarray]] = {}
        for key in ordered_curves(self._keys(names), self.metrics):
            rows = self._rows_with(key, names)
            if isinstance(rows[0][self.methods[0]][key], list):
                curves[key] = {method: np.mean([row[method][key] for row in rows], axis=0) for method in self.methods}
        return curves

    def shown_column(self, column: ColumnKey | str) -> Column:
        """How a column of numbers is shown, its options behind the title."""
        return shown_column(as_key(column), self.metrics)

    def shown_curve(self, column: ColumnKey | str) -> Curve | None:
        """How a column of curves is drawn, its options behind the title; None if no metric's record describes it."""
        return shown_curve(as_key(column), self.metrics)

    def deciding_column(self) -> ColumnKey | None:
        """The measured column that decides on which images methods differ most; None if there is none."""
        return deciding_column(self._values(self._counted()), self.metrics)

    def most_different(self, column: ColumnKey | str, method: str, other: str, *, count: int = 6) -> list[str]:
        """The images on which two methods differ most in a column, the largest difference first.

        Raises:
          ValueError: an unknown method or column.
        """
        for name in (method, other):
            if name not in self.methods:
                raise ValueError(f"no method {name!r}: choose of {', '.join(self.methods)}")
        key, values = as_key(column), self._values(list(self.images))
        if key not in values:
            raise ValueError(f"no column {str(key)!r}: choose of {', '.join(map(str, values))}")
        names = [name for name in self.images if self._has_column(name, key)]
        first, second = (values[key][:, self.methods.index(each)] for each in (method, other))
        return [names[i] for i in np.argsort(-np.abs(first - second), kind="stable")[:count]]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, columns by their text; the estimates stand before the images."""
        apart = self.apart()
        return {
            "accuracy": self.accuracy,
            "reference": self.reference,
            "target": self.target,
            "counted": len(self.images) - len(apart),
            "estimates": _estimates_as_dict(self.estimates()) if len(apart) < len(self.images) else {},
            "apart": len(apart),
            "estimates_apart": _estimates_as_dict(self.estimates(apart)) if apart else {},
            "curves": {
                str(column): {method: mean.tolist() for method, mean in means.items()}
                for column, means in self.curves().items()
            },
            "failed": self.failed,
            "images": {name: _record_as_dict(record) for name, record in self.images.items()},
        }

    def __str__(self) -> str:
        return "\n".join(self._lines(aligned_lines))

    def markdown(self) -> str:
        """The tables, for a page."""
        return "\n".join(self._lines(markdown_lines))

    def _lines(self, layout: Layout) -> Iterator[str]:
        yield self._summary()
        counted, apart = self._counted(), self.apart()
        is_split = f"{count_of_images(len(counted))}, of the class that the model predicts" if apart else ""
        is_apart = f"{count_of_images(len(apart))}, counted apart: of a class that the model does not predict"
        for names, heading in ((counted, is_split), (apart, is_apart)):
            if names:
                yield from ["", heading] if heading else []
                yield from self._tables(self._estimates_of(self._values(names)), len(names), layout)
        errors = self._estimates_of(self._localization_errors())
        if any(errors.values()):
            yield ""
            yield "All images: found where the class is among the largest outputs and the box's IoU >= 0.5"
            yield ""
            yield from self._table(errors, list(errors[self.methods[0]]), layout)
        yield ""
        if any(self._keys_named(DROP, names) for names in (counted, apart)):
            yield f"Win: the share of images whose drop is lower than {self.reference}'s, ties by half."
        if max(len(counted), len(apart)) < FEWEST:
            yield f"Fewer than {FEWEST} images bear no interval."
            return
        marks = f"⁺ better, ⁻ worse than {self.reference} beyond doubt, by the paired one."
        yield f"± half of the {LEVEL:.0%} interval, by bootstrap over images; {marks}"

    def _summary(self):
        right = "" if self.accuracy is None else f", {self.accuracy:.1%} classified rightly"
        failed = next(iter(self.failed.items()), None)
        why = "" if failed is None else f", {len(self.failed)} failed, {failed[0]} for one: {failed[1]}"
        return f"{count_of_images(len(self.images))}{right}{why}"

    def _tables(self, estimates: Mapping[str, Mapping[ColumnKey, Estimate]], count: int, layout: Layout):
        row = estimates[self.methods[0]]
        is_zero_shown = any(row[ColumnKey(ZERO)].mean for row in estimates.values() if ZERO in row)
        keys = [key for key in row if key.name != ZERO or is_zero_shown]
        for title, group in grouped_columns(keys, self.metrics).items():
            columns = {key: self.shown_column(key) for key in group}
            fewer = columns_of_fewer_images(columns, {key: row[key] for key in group}, count)
            yield from ["", f"{title}{fewer}:", ""]
            yield from self._table(estimates, group, layout)

    def _table(self, estimates, keys: Sequence[ColumnKey], layout: Layout):
        columns = {key: self.shown_column(key) for key in keys}
        chosen = {method: {key: row[key] for key in keys} for method, row in estimates.items()}
        return layout(["", *map(str, columns.values())], cells(chosen, columns))

    def _localization_errors(self) -> dict[ColumnKey, np.ndarray]:
        """By column `[images methods]`, of all images with a label, whether the model predicts it or not.

        The map is that of the label, so there are none if the predicted class was explained.
        """
        labeled = [name for name, record in self.images.items() if record["label"] is not None]
        errors = {}
        for key in self._keys_named(LOCALIZED, labeled) if self.target == "label" else []:
            names = [name for name in labeled if self._has_column(name, key)]
            rank = np.array([self.images[name]["rank"] for name in names])[:, None]
            is_localized = self._values(names)[key] > 0
            for error, top in ERRORS.items():
                errors[key._replace(name=error)] = 1.0 - (is_localized & (rank < top))
        return errors

    def _estimates_of(self, values: Mapping[ColumnKey, np.ndarray]) -> dict[str, dict[ColumnKey, Estimate]]:
        """For each method and column its estimate; columns of as many images have the same resamples."""
        reference = self.methods.index(self.reference) if self.reference in self.methods else 0
        by_column: dict[ColumnKey, list[Estimate]] = {}
        for count in {len(matrix) for matrix in values.values()}:
            keys = [key for key, matrix in values.items() if len(matrix) == count]
            estimates = paired_estimates(np.stack([values[key] for key in keys], axis=1), reference)
            by_column.update(zip(keys, estimates, strict=True))
        return {method: {key: by_column[key][i] for key in values} for i, method in enumerate(self.methods)}

    def _counted(self) -> list[str]:
        """The images whose explained class is the predicted one."""
        apart = set(self.apart())
        return [name for name in self.images if name not in apart]

    def _keys(self, names: Iterable[str]) -> list[ColumnKey]:
        """The columns that some of the images have."""
        rows = [self.images[name]["rows"][self.methods[0]] for name in names]
        return list(dict.fromkeys(as_key(column) for row in rows for column in row))

    def _keys_named(self, name: str, images: Iterable[str]) -> list[ColumnKey]:
        """The columns of that name, with any options, that some of the images have."""
        return [key for key in self._keys(images) if key.name == name]

    def _rows_with(self, key: ColumnKey, names: Iterable[str]) -> list[dict[str, Any]]:
        """The rows of the images that have a column."""
        all_rows = [self.images[name]["rows"] for name in names]
        return [rows for rows in all_rows if key in rows[self.methods[0]]]

    def _has_column(self, image: str, key: ColumnKey) -> bool:
        measured = key._replace(name=DROP) if key.name == WIN else key
        return measured in self.images[image]["rows"][self.methods[0]]

    def _values(self, names: Sequence[str]) -> dict[ColumnKey, np.ndarray]:
        """For each column of numbers `[images methods]`, of the images that have it, and Win of each drop."""
        values: dict[ColumnKey, np.ndarray] = {}
        for key in self._keys(names):
            rows = self._rows_with(key, names)
            if not isinstance(rows[0][self.methods[0]][key], list):
                values[key] = np.array([[row[method][key] for method in self.methods] for row in rows])
        for key in self._keys_named(DROP, names) if self.reference in self.methods else []:
            lower = values[key] - values[key][:, [self.methods.index(self.reference)]]
            values[key._replace(name=WIN)] = np.where(np.abs(lower) <= ROUNDING, 0.5, lower < 0)
        return values


def _estimates_as_dict(estimates):
    return {
        method: {str(column): estimate._asdict() for column, estimate in row.items()}
        for method, row in estimates.items()
    }


def _record_as_dict(record):
    rows = {method: {str(column): value for column, value in row.items()} for method, row in record["rows"].items()}
    return {**record, "rows": rows}
