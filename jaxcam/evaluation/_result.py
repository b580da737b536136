"""What an evaluation found: means over images with paired bootstrap intervals, as text, Markdown and JSON.

>>> rows = lambda a, b: {"rows": {"Grad-CAM": {"average_drop": a}, "random": {"average_drop": b}}}
>>> seen = {"label": 1, "target": 1, "predicted": 1, "probability": 0.9, "rank": 0}
>>> images = {str(i): {**seen, **rows(i / 32, i / 32 + 0.5)} for i in range(17)}
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

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcam.evaluation._bootstrap import FEWEST, LEVEL, ROUNDING, Estimate, _estimates
from jaxcam.evaluation._format import (
    COLUMNS,
    ERRORS,
    GROUPS,
    _aligned,
    _as_dicts,
    _cells,
    _fewer,
    _images,
    _piped,
    shown_as,
)
from jaxcam.evaluation.measures import without_options

TOP = 5


class Evaluation(NamedTuple):
    """What `jaxcam.evaluate` found. It prints as tables.

    Attributes:
      images: by name what was found for each image: `label`, `target`, `predicted`, `probability` of the target, `rank`
        of the label among the outputs (0 for the largest), and `rows`, for each method its columns.
      failed: by name why an image has no result.
      reference: the method that the others are compared with, also by Win %.
      target: which class was explained, the "predicted" one or the "label".
    """

    images: dict[str, dict[str, Any]]
    failed: dict[str, str]
    reference: str
    target: str = "predicted"

    @property
    def methods(self) -> list[str]:
        """In the order of the table."""
        return list(next(iter(self.images.values()))["rows"]) if self.images else []

    @property
    def accuracy(self) -> float | None:
        """The share of the labelled images that the model classifies rightly; None where none has a label."""
        right = [r["predicted"] == r["label"] for r in self.images.values() if r["label"] is not None]
        return float(np.mean(right)) if right else None

    def apart(self) -> list[str]:
        """The images of which a class was explained that the model does not predict: they are counted apart."""
        return [name for name, r in self.images.items() if r["predicted"] != r["target"]]

    def estimates(self, names: Sequence[str] | None = None) -> dict[str, dict[str, Estimate]]:
        """For each method and column of numbers its `Estimate`.

        Args:
          names: of the images; where absent those whose explained class is the predicted one.
        """
        values = self._values([r for r in self.images if r not in set(self.apart())] if names is None else names)
        return self._estimated(values)

    def curves(self) -> dict[str, dict[str, np.ndarray]]:
        """For each curve and method the mean over images whose explained class is the predicted one, `[2 points]`."""
        apart = set(self.apart())
        rows = [r["rows"] for name, r in self.images.items() if name not in apart]
        curves: dict[str, dict[str, np.ndarray]] = {}
        for method in self.methods if rows else []:
            for column, value in rows[0][method].items():
                if isinstance(value, list):
                    curves.setdefault(column, {})[method] = np.mean([row[method][column] for row in rows], axis=0)
        return curves

    def most_different(self, column: str, method: str, other: str, *, count: int = 6) -> list[str]:
        """The images on which two methods differ most in a column, the largest difference first.

        Raises:
          ValueError: a method or a column that is not there.
        """
        for name in (method, other):
            if name not in self.methods:
                raise ValueError(f"no method {name!r}: choose of {', '.join(self.methods)}")
        values = self._values(list(self.images))
        if column not in values:
            raise ValueError(f"no column {column!r}: choose of {', '.join(values)}")
        names = [name for name in self.images if self._has(name, column)]
        a, b = (values[column][:, self.methods.index(each)] for each in (method, other))
        return [names[i] for i in np.argsort(-np.abs(a - b), kind="stable")[:count]]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it; the estimates of both groups of images before the images themselves."""
        apart = self.apart()
        return {
            "accuracy": self.accuracy,
            "reference": self.reference,
            "target": self.target,
            "counted": len(self.images) - len(apart),
            "estimates": _as_dicts(self.estimates()) if len(apart) < len(self.images) else {},
            "apart": len(apart),
            "estimates_apart": _as_dicts(self.estimates(apart)) if apart else {},
            "curves": {name: {m: c.tolist() for m, c in curve.items()} for name, curve in self.curves().items()},
            "failed": self.failed,
            "images": self.images,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines(_aligned))

    def markdown(self) -> str:
        """The tables, for a page."""
        return "\n".join(self._lines(_piped))

    def _lines(self, drawn) -> Iterator[str]:
        right = "" if self.accuracy is None else f", {self.accuracy:.1%} classified rightly"
        failed = next(iter(self.failed.items()), None)
        why = "" if failed is None else f", {len(self.failed)} failed, {failed[0]} for one: {failed[1]}"
        yield f"{_images(len(self.images))}{right}{why}"
        apart = self.apart()
        counted = [name for name in self.images if name not in set(apart)]
        for names, what in (
            (counted, "" if not apart else f"{_images(len(counted))}, of the class that the model predicts"),
            (apart, f"{_images(len(apart))}, counted apart: of a class that the model does not predict"),
        ):
            if names:
                yield from ["", what] if what else []
                yield from self._tables(self.estimates(names), len(names), drawn)
        errors = self._errors()
        if errors:
            yield from [
                "",
                "All images: found where the class is among the largest outputs and the box's IoU >= 0.5",
                "",
            ]
            heads = {column: shown_as(column, ERRORS) for column in next(iter(errors.values()))}
            yield from drawn(["", *map(str, heads.values())], _cells(errors, heads))
        yield ""
        if any(self._of("average_drop", names) for names in (counted, apart)):
            yield f"Win: the share of images whose drop is lower than {self.reference}'s, ties by half."
        if max(len(counted), len(apart)) < FEWEST:
            yield f"Fewer than {FEWEST} images bear no interval."
            return
        marks = f"⁺ better, ⁻ worse than {self.reference} beyond doubt, by the paired one."
        yield f"± half of the {LEVEL:.0%} interval, by bootstrap over images; {marks}"

    def _tables(self, estimates, count, drawn):
        columns = list(next(iter(estimates.values())))
        zero = any(row["zero"].mean for row in estimates.values() if "zero" in row)
        others = [column for column in columns if without_options(column) not in COLUMNS or (column == "zero" and zero)]
        groups = {
            title: [column for name in group for column in columns if without_options(column) == name]
            for title, group in GROUPS.items()
        }
        for title, group in {**groups, "Other": others}.items():
            here = {column: shown_as(column) for column in group}
            if here:
                chosen = {method: {c: row[c] for c in here} for method, row in estimates.items()}
                yield from ["", f"{title}{_fewer(here, next(iter(chosen.values())), count)}:", ""]
                yield from drawn(["", *map(str, here.values())], _cells(chosen, here))

    def _errors(self):
        """Of all images, where labels are explained: the map of the label, whether it is predicted or not."""
        labelled = [name for name, r in self.images.items() if r["label"] is not None]
        wrong = {}
        for column in self._of("localised", labelled) if self.target == "label" else []:
            names = [name for name in labelled if self._has(name, column)]
            rank = np.array([self.images[name]["rank"] for name in names])[:, None]
            localised = self._values(names)[column] > 0
            for error, top in zip(ERRORS, (1, TOP), strict=True):
                wrong[column.replace("localised", error, 1)] = 1.0 - (localised & (rank < top))
        return self._estimated(wrong) if wrong else {}

    def _estimated(self, values: Mapping[str, np.ndarray]) -> dict[str, dict[str, Estimate]]:
        """For each method and column its estimate; columns of as many images share the resamples."""
        at = self.methods.index(self.reference) if self.reference in self.methods else 0
        found: dict[str, list[Estimate]] = {}
        for count in {len(matrix) for matrix in values.values()}:
            columns = [column for column, matrix in values.items() if len(matrix) == count]
            estimates = _estimates(np.stack([values[column] for column in columns], axis=1), at)
            found.update(zip(columns, estimates, strict=True))
        return {method: {column: found[column][i] for column in values} for i, method in enumerate(self.methods)}

    def _of(self, name, images):
        """The columns of that name, with any options, that some of the images have."""
        rows = [self.images[each]["rows"][self.methods[0]] for each in images]
        return list(dict.fromkeys(column for row in rows for column in row if without_options(column) == name))

    def _has(self, name, column):
        columns = self.images[name]["rows"][self.methods[0]]
        return column in columns or column.replace("win", "average_drop", 1) in columns

    def _values(self, names) -> dict[str, np.ndarray]:
        """For each column of numbers `[images methods]`, of the images that have it."""
        rows = [self.images[name]["rows"] for name in names]
        columns: dict[str, np.ndarray] = {}
        for column in dict.fromkeys(column for row in rows for column in row[self.methods[0]]):
            having = [row for row in rows if column in row[self.methods[0]]]
            if not isinstance(having[0][self.methods[0]][column], list):
                columns[column] = np.array([[row[method][column] for method in self.methods] for row in having])
        for column in self._of("average_drop", names) if self.reference in self.methods else []:
            lower = columns[column] - columns[column][:, [self.methods.index(self.reference)]]
            win = column.replace("average_drop", "win", 1)
            columns[win] = np.where(np.abs(lower) <= ROUNDING, 0.5, lower < 0)
        return columns
