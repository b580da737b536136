"""The metrics of an evaluation by an earlier name: `jaxcam.measures.pointing` is a metric, `Case` its argument."""

from typing import Any

from jaxcam.evaluation._metrics import METRICS as METRICS
from jaxcam.evaluation._record import Case as Case
from jaxcam.evaluation._record import Columns as Columns
from jaxcam.evaluation._record import bound_options as bound
from jaxcam.evaluation._record import unbound_function as function
from jaxcam.evaluation._selection import named_metrics as named

__all__ = ["bound", "function", "named"]

MEASURES = {name: metric.compute for name, metric in METRICS.items()}


def __getattr__(name: str) -> Any:
    if name in MEASURES:
        return MEASURES[name]
    raise AttributeError(f"module 'jaxcam.measures' has no metric {name!r}: choose one of {', '.join(MEASURES)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *MEASURES])
