"""How an evaluation is shown: the columns and curves that metric records describe, and tables as text and Markdown."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jaxcam.evaluation._bootstrap import FEWEST, Estimate
from jaxcam.evaluation._metrics import METRICS
from jaxcam.evaluation._naming import ColumnKey
from jaxcam.evaluation._record import OTHER, Column, Curve, Metric

MARKS = "⁺⁻*"

ZERO = "zero"  # the column of every evaluation that counts maps of zeros
# Columns that the tables add to those of the metrics.
ADDED = {
    ZERO: Column("maps of zeros", scale=100),
    "error_1": Column("localization error, top-1", "down", 100),
    "error_5": Column("top-5", "down", 100),
}


class _Place(NamedTuple):
    """How a column is shown, and the table that it stands in."""

    column: Column
    group: str


def shown_column(key: ColumnKey, metrics: Iterable[Metric] = ()) -> Column:
    """How a column is shown, the options behind its title.

    Args:
      key: of the column.
      metrics: records that may describe it, besides those of `METRICS`.
    """
    known = _known_columns(metrics).get(key.name)
    column = Column(key.name) if known is None else known.column
    return column._replace(title=column.title + key.options_text)


def shown_curve(key: ColumnKey, metrics: Iterable[Metric] = ()) -> Curve | None:
    """How a column of curves is drawn, the options behind its title; None if no record describes it."""
    curve = _known_curves(metrics).get(key.name)
    return None if curve is None else curve._replace(title=curve.title + key.options_text)


def ordered_curves(keys: Iterable[ColumnKey], metrics: Iterable[Metric] = ()) -> list[ColumnKey]:
    """Columns of curves in the order of the records, then those that no record describes."""
    keys = list(keys)
    described = [key for name in _known_curves(metrics) for key in keys if key.name == name]
    return list(dict.fromkeys([*described, *keys]))


def grouped_columns(keys: Iterable[ColumnKey], metrics: Iterable[Metric] = ()) -> dict[str, list[ColumnKey]]:
    """Columns by the title of their table, in the order of the records; the last table has all other columns."""
    keys = list(keys)
    groups: dict[str, list[ColumnKey]] = {}
    known = _known_columns(metrics)
    for name, place in known.items():
        groups.setdefault(place.group, []).extend(key for key in keys if key.name == name)
    others = groups.pop(OTHER, []) + [key for key in keys if key.name not in known]
    return {title: group for title, group in [*groups.items(), (OTHER, others)] if group}


def deciding_column(keys: Iterable[ColumnKey], metrics: Iterable[Metric] = ()) -> ColumnKey | None:
    """The column that decides on which images two methods differ most; None if none of the columns ever decides."""
    known = _known_columns(metrics)
    ranked = [(known[key.name].column.decides, key) for key in keys if key.name in known]
    deciding = [(rank, key) for rank, key in ranked if rank is not None]
    return min(deciding, key=lambda pair: pair[0])[1] if deciding else None


def _known_columns(metrics) -> dict[str, _Place]:
    columns = {
        name: _Place(column, metric.group)
        for metric in (*METRICS.values(), *metrics)
        for name, column in metric.columns.items()
    }
    return columns | {name: _Place(column, OTHER) for name, column in ADDED.items()}


def _known_curves(metrics) -> dict[str, Curve]:
    return {name: curve for metric in (*METRICS.values(), *metrics) for name, curve in metric.curves.items()}


def count_of_images(count: int) -> str:
    """A number of images in words."""
    return f"{count} image{'' if count == 1 else 's'}"


def columns_of_fewer_images(columns: Mapping[ColumnKey, Column], row: Mapping[ColumnKey, Estimate], count: int) -> str:
    """The columns that fewer than `count` images have, and how many have them, as they stand behind a title."""
    fewer: dict[int, list[str]] = {}
    for key, estimate in row.items():
        if estimate.images < count:
            fewer.setdefault(estimate.images, []).append(columns[key].title)
    return "".join(f"; {', '.join(titles)}: of {count_of_images(images)}" for images, titles in fewer.items())


def cells(
    estimates: Mapping[str, Mapping[ColumnKey, Estimate]], columns: Mapping[ColumnKey, Column]
) -> list[list[str]]:
    """The rows of a table: the method, and a cell for each column."""
    return [
        [method, *(_cell(columns[key], estimate) for key, estimate in row.items())] for method, row in estimates.items()
    ]


def _cell(column, estimate):
    mean = column.number(estimate.mean)
    if estimate.images < FEWEST:
        return mean
    mark = _mark(column, estimate) if estimate.differs else ""
    return f"{mean} ±{column.number((estimate.high - estimate.low) / 2)}{mark}"


def _mark(column, estimate):
    if column.better is None:
        return "*"
    is_better = (estimate.difference > 0) == (column.better == "up")
    return "⁺" if is_better else "⁻"


def aligned_lines(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A table for a terminal; a mark stands to the right of its column."""
    plain = [[cell.rstrip(MARKS) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *plain, strict=True)]
    for row in [head, *rows]:
        first, *others = row
        padded = [
            cell.rstrip(MARKS).rjust(width) + (cell[-1] if cell.endswith(tuple(MARKS)) else " ")
            for cell, width in zip(others, widths[1:], strict=True)
        ]
        yield "  ".join([first.ljust(widths[0]), *padded]).rstrip()


def markdown_lines(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A table for a page."""
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---|' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
