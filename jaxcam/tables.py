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

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcam.measures import without_options

RESAMPLES = 2000
RESAMPLES_AT_A_TIME = 100
LEVEL = 0.95
ROUNDING = 1e-5  # drops of one map, from two programs, differ by less
FEWEST = 10  # images that bear an interval: a bootstrap over fewer is far too sure of itself
MARKS = "⁺⁻*"
TOP = 5


class Column(NamedTuple):
    """How a column is shown: its title, what its values are multiplied by, and which way is better."""

    title: str
    scale: float = 1
    better: str = ""

    def __str__(self) -> str:
        return f"{self.title} {'%' if self.scale == 100 else ''}".strip() + f" {self.better}".rstrip()

    def number(self, value: float) -> str:
        """As many digits as a hundred images bear."""
        return f"{100 * value:.1f}" if self.scale == 100 else f"{value:.3f}"


GROUPS: dict[str, dict[str, Column]] = {
    "The masked image": {
        "average_drop": Column("Average Drop", 100, "↓"),
        "increase": Column("Increase", 100, "↑"),
        "average_gain": Column("Average Gain", 100, "↑"),
        "win": Column("Win", 100, "↑"),
        "coherency": Column("coherency", 1, "↑"),
        "complexity": Column("complexity", 1, "↓"),
        "adcc": Column("ADCC", 1, "↑"),
    },
    "Pixels removed in order": {
        "deletion": Column("deletion", 1, "↓"),
        "insertion": Column("insertion", 1, "↑"),
        "road_most": Column("ROAD most first", 1, "↓"),
        "road_least": Column("ROAD least first", 1, "↑"),
        "road": Column("ROAD combined", 1, "↑"),
        "confidence": Column("confidence over thresholds", 1, "↑"),
    },
    "Where the map lies": {
        "pointing": Column("pointing game", 1, "↑"),
        "energy": Column("energy inside", 1, "↑"),
        "mask_iou": Column("mask IoU", 1, "↑"),
        "box_iou": Column("box IoU", 1, "↑"),
        "localised": Column("box IoU ≥ 0.5", 100, "↑"),
        "found": Column("copies found", 1, "↑"),
        "spill": Column("as bright outside", 1, "↓"),
    },
}
OTHERS = {"zero": Column("maps of zeros", 100)}
COLUMNS = {name: column for group in GROUPS.values() for name, column in group.items()} | OTHERS
ERRORS = {
    "error_1": Column("localisation error, top-1", 100, "↓"),
    "error_5": Column("top-5", 100, "↓"),
}


class Estimate(NamedTuple):
    """The mean over images, and how far it may be trusted.

    Attributes:
      mean: over the images.
      low: of its 95% interval, by bootstrap over images.
      high: of that interval.
      difference: of the mean from the reference method's on the same images.
      difference_low: of the difference's own interval, by the same resamples for both: paired.
      difference_high: of that interval.
      images: how many have this column.
    """

    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    images: int

    @property
    def differs(self) -> bool:
        """Whether the difference's interval leaves out zero; not of fewer than 10 images, which bear none."""
        return self.images >= FEWEST and (self.difference_low > 0 or self.difference_high < 0)


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


def shown_as(column: str, known: Mapping[str, Column] = COLUMNS) -> Column:
    """How a column of that name is shown, its options behind its title."""
    name = without_options(column)
    shown = known.get(name, Column(name))
    return shown._replace(title=shown.title + column.removeprefix(name))


def _fewer(columns, row, count):
    """Which columns have fewer images than there are, and how many."""
    fewer: dict[int, list[str]] = {}
    for column, estimate in row.items():
        if estimate.images < count:
            fewer.setdefault(estimate.images, []).append(columns[column].title)
    return "".join(f"; {', '.join(titles)}: of {_images(images)}" for images, titles in fewer.items())


def _images(count):
    return f"{count} image{'' if count == 1 else 's'}"


def _estimates(matrix: np.ndarray, reference: int) -> list[list[Estimate]]:
    """For each column and method of `[images columns methods]`, by the same resamples of the images for all of them.

    The percentile interval, expanded: at n images its tails are those of sqrt(n / (n - 1)) t, in the place of the
    normal's, as it is too narrow for few. Hesterberg, "What teachers should know about the bootstrap", 2015.
    """
    count, columns, methods = matrix.shape
    difference = matrix - matrix[..., [reference]]
    difference[np.abs(difference) <= ROUNDING] = 0
    both = np.stack([matrix, difference], axis=-1).reshape(count, -1)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(0, RESAMPLES, RESAMPLES_AT_A_TIME):
        times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES_AT_A_TIME)
        means.append(times @ both / count)
    low, high = np.percentile(np.concatenate(means), _tails(count), axis=0)
    figures = np.stack([both.mean(0), low, high], axis=-1).reshape(columns, methods, 6).tolist()
    return [[Estimate(*each, count) for each in column] for column in figures]  # type: ignore[call-arg]


def _tails(count):
    """The percentiles that bound the interval."""
    if count < 2:
        return 0.0, 100.0
    normal, freedom = statistics.NormalDist(), count - 1
    z = normal.inv_cdf((1 + LEVEL) / 2)
    # Student's t by Cornish and Fisher's expansion.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    tail = 100 * normal.cdf(-math.sqrt(count / freedom) * t)
    return tail, 100 - tail


def _as_dicts(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, dict[str, float]]]:
    return {method: {column: e._asdict() for column, e in row.items()} for method, row in estimates.items()}


def _cells(estimates: Mapping[str, Mapping[str, Estimate]], columns: Mapping[str, Column]) -> list[list[str]]:
    rows = []
    for method, row in estimates.items():
        shown = [(columns[column], estimate) for column, estimate in row.items()]
        rows.append([method, *(_cell(c, e) for c, e in shown)])
    return rows


def _cell(column, estimate):
    mean = column.number(estimate.mean)
    if estimate.images < FEWEST:
        return mean
    better = {"": "*", "↑": "⁺", "↓": "⁻"}[column.better]
    worse = {"*": "*", "⁺": "⁻", "⁻": "⁺"}[better]
    mark = "" if not estimate.differs else better if estimate.difference > 0 else worse
    return f"{mean} ±{column.number((estimate.high - estimate.low) / 2)}{mark}"


def _aligned(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    # A mark stands to the right of its column.
    plain = [[cell.rstrip(MARKS) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *plain, strict=True)]
    for row in [head, *rows]:
        first, *others = row
        cells = [
            cell.rstrip(MARKS).rjust(width) + (cell[-1] if cell.endswith(tuple(MARKS)) else " ")
            for cell, width in zip(others, widths[1:], strict=True)
        ]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _piped(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---|' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
