"""TODO."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxcam.evaluation._bootstrap import FEWEST, Estimate
from jaxcam.evaluation.measures import without_options

MARKS = "⁺⁻*"


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
