"""Methods and metrics from the text of an option, such as "grad_cam,smooth_grad_cam_pp:n_samples=50".

>>> sorted(parse_methods("grad_cam,smooth_grad_cam_pp:n_samples=50:std=0.15"))
['Grad-CAM', 'Smooth Grad-CAM++, n_samples 50, std 0.15']
"""

import ast
import functools
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jaxcam
from jaxcam._base.types import Method
from jaxcam.evaluation import METRICS, AnyMetric
from jaxcam.methods import METHOD_TITLES, option_names

# A comma that is not inside brackets.
COMMA = re.compile(r",(?![^(\[]*[)\]])")
SCORES = ("logit", "log_softmax", "probability")


class NamedChoice(NamedTuple):
    """One choice of a list: its whole text, the name, and its options, "n_samples=50" each."""

    text: str
    name: str
    options: list[str]


def parse_methods(text: str) -> dict[str, Method]:
    """Methods by their titles, options bound.

    Raises:
      ValueError: an unknown method, an option that it does not take, an option without a value, or a method twice.
    """
    methods: dict[str, Method] = {}
    for choice in _split(text):
        if choice.name not in METHOD_TITLES:
            raise ValueError(f"no method {choice.name!r}: choose one of {', '.join(METHOD_TITLES)}")
        method = getattr(jaxcam, choice.name)
        options = _parse_options(choice, option_names(method))
        if {"std", "relative"} & set(options) and not _draws_noise(method, options):
            raise ValueError(f"{choice.text!r} draws no noise: give n_samples= as well")
        title = ", ".join([METHOD_TITLES[choice.name], *(option.replace("=", " ") for option in choice.options)])
        if title in methods:
            raise ValueError(f"{choice.text!r} is given twice")
        methods[title] = functools.partial(method, **options) if options else method
    return methods


def named_methods(text: str) -> dict[str, Method]:
    """As `parse_methods`; a method without options has its name in the place of its title.

    Example:
      >>> list(named_methods("grad_cam,grad_cam_pp:link=identity"))
      ['grad_cam', 'Grad-CAM++, link identity']
    """
    names = [choice.name if not choice.options else None for choice in _split(text)]
    methods = parse_methods(text)
    return {name or title: method for name, (title, method) in zip(names, methods.items(), strict=True)}


def parse_metrics(text: str) -> list[AnyMetric]:
    """Metrics from a text such as "drop,pointing:tolerance=15,road:shares=(0.1,0.5)", options bound.

    Raises:
      ValueError: an unknown metric, an option that it does not take, an option without a value, or a metric twice.
    """
    metrics: dict[str, AnyMetric] = {}
    for choice in _split(text):
        if choice.text in metrics:
            raise ValueError(f"{choice.text!r} is given twice")
        if choice.name not in METRICS:
            raise ValueError(f"no metric {choice.name!r}: choose one of {', '.join(METRICS)}")
        metric = METRICS[choice.name].compute
        # All metrics of an evaluation have the same score.
        options = _parse_options(choice, [option for option in option_names(metric) if option != "score"])
        metrics[choice.text] = functools.partial(metric, **options) if options else metric
    return list(metrics.values())


def _split(text: str) -> Iterator[NamedChoice]:
    """The choices that commas separate."""
    for part in COMMA.split(text):
        name, *options = part.strip().split(":")
        yield NamedChoice(part.strip(), name, options)


def _parse_options(choice: NamedChoice, known: Sequence[str]) -> dict[str, Any]:
    """The options of a choice by name, with their values."""
    options: dict[str, Any] = {}
    for text in choice.options:
        option, _, value = text.partition("=")
        if option not in known or not value:
            choices = f"choose one of {', '.join(f'{name}=' for name in known)}" if known else "it takes none"
            raise ValueError(f"{choice.name} has no option {text!r}: {choices}")
        if option in options:
            raise ValueError(f"{choice.name} has {option!r} twice")
        options[option] = _score(value) if option == "score" else _literal(value)
    return options


def _score(name):
    if name not in SCORES:
        raise ValueError(f"no score {name!r}: choose one of {', '.join(SCORES)}")
    return getattr(jaxcam.scores, name)


def _literal(text):
    """The value that a text stands for in Python; the text itself if it is a word, such as exp."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _draws_noise(method, options):
    default = inspect.signature(method).parameters["n_samples"].default
    return options.get("n_samples", default) != 0
