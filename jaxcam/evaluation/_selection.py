"""The metrics of one evaluation, from names, functions and records.

Options are bound by `functools.partial`. They are part of the metric's label and of its columns' keys:

    >>> import functools
    >>> from jaxcam.evaluation._metrics import pointing
    >>> list(named_metrics([pointing, functools.partial(pointing, tolerance=15)]))
    ['pointing', 'pointing, tolerance 15']
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

from jaxcam.evaluation._metrics import METRICS
from jaxcam.evaluation._record import Columns, Metric, unbound_function
from jaxcam.methods import option_names

# What `evaluate(metrics=)` lists: a name of `METRICS`, a `Metric`, or a function of the form of `Metric.compute`.
AnyMetric = str | Metric | Callable[..., Columns]


def named_metrics(metrics: Sequence[AnyMetric] | None = None) -> dict[str, Metric]:
    """The records of metrics by label, without those that another of them includes.

    Args:
      metrics: names of `METRICS`, records, and functions, options bound by `functools.partial`; all of `METRICS` by
        default.

    Raises:
      TypeError: not a list, or an element that is not a function.
      ValueError: an unknown name or option; two metrics with one label; a score, because one score holds for the whole
        evaluation.
    """
    if isinstance(metrics, str | Mapping) or callable(metrics):
        raise TypeError(f"expected a list of names, or of functions with their options bound, got metrics={metrics!r}")
    chosen: dict[str, Metric] = {}
    given: dict[str, AnyMetric] = {}
    for each in METRICS if metrics is None else metrics:
        metric = as_metric(each)
        _check_options(metric)
        same = metric.label not in chosen or _compute_of(given[metric.label]) is _compute_of(each)
        if not same:
            raise ValueError(f"two metrics are called {metric.label!r}: give one of them another name")
        chosen[metric.label], given[metric.label] = metric, each
    return {label: metric for label, metric in chosen.items() if not _is_included(metric, chosen.values())}


def as_metric(given: AnyMetric) -> Metric:
    """The record of a metric, with the options that are bound to it.

    A function that `METRICS` does not have gets a record without columns: it needs nothing of an image, and its columns
    are shown by their names.

    Raises:
      TypeError: not a function.
      ValueError: an unknown name.

    Example:
      >>> as_metric(lambda cut, case, saliency: {"peak": saliency.max()}).needs is None
      True
      >>> as_metric(functools.partial(METRICS["pointing"], tolerance=15)).label
      'pointing, tolerance 15'
    """
    choices = f"choose one of {', '.join(METRICS)}, or give a function, options bound by functools.partial"
    if isinstance(given, str):
        if given not in METRICS:
            raise ValueError(f"no metric {given!r}: {choices}")
        return METRICS[given]
    if isinstance(given, Metric):
        return given
    if not callable(given):
        raise TypeError(f"metric {given!r} is not a function: {choices}")
    function = unbound_function(given)
    if isinstance(function, Metric):
        return dataclasses.replace(function, compute=_without_record(given))
    known = (metric for metric in METRICS.values() if metric.function is function)
    return dataclasses.replace(next(known, Metric(given)), compute=given)


def _without_record(given):
    """The partial of a record as a partial of its function."""
    if isinstance(given, Metric):
        return given.compute
    if isinstance(given, functools.partial):
        return functools.partial(_without_record(given.func), *given.args, **given.keywords)
    return _without_record(given.__wrapped__)  # the whole evaluation is jitted


def _compute_of(given):
    if isinstance(given, str):
        return METRICS[given].compute
    return given.compute if isinstance(given, Metric) else given


def _check_options(metric):
    parameters = inspect.signature(metric.function).parameters
    unknown = [option for option in metric.bound if option not in parameters]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        choices = ", ".join(option_names(metric.function)) or "none"
        raise ValueError(f"{metric.name} has no option {unknown[0]!r}: it takes {choices}")
    is_known = any(metric.function is known.function for known in METRICS.values())
    if is_known and "score" in metric.bound:
        raise ValueError(
            f"{metric.label} has a score of its own: give evaluate score=, which also holds for the whole image"
        )


def _is_included(metric, chosen):
    return any(metric.function in other.includes and metric.bound_texts == other.bound_texts for other in chosen)
