"""`jaxcam explain`: explain your own pictures."""

import argparse
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax

import jaxcam
from jaxcam.cli import _explain_options, _method, _model, _options
from jaxcam.cli._explain_files import planned_files
from jaxcam.cli._explaining import Task, explain_and_print
from jaxcam.cli._inputs import check_clips, find_inputs
from jaxcam.explaining import check_top, explain_each, map_labels
from jaxcam.methods import METHOD_TITLES


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "explain",
        help="explain your own pictures",
        description="Explain pictures: the most probable classes, and maps of a class drawn on each picture. A picture "
        "that cannot be read is reported, and the others are explained.",
    )
    parser.set_defaults(command="explain", run=run)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="picture files, folders of them, globs in quotes, or - for standard input; each picture is fitted to the "
        "network's input",
    )
    _options.add_model_options(parser)
    _explain_options.add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Explain each picture."""
    _explain_options.check_options(options)
    drawing = _explain_options.drawing_of(options)
    select = None
    if options.filters or options.subset or options.region:
        select = jaxcam.select(filters=options.filters, region=options.region, subset=options.subset)
    methods = _methods(options, select)
    inputs = find_inputs(options.images, math.inf if options.gif == "frames" and not options.frames else options.frames)
    if options.gif == "frames":
        check_clips(inputs)
    places = options.layers if options.layers and not options.fuse else ["layer"]
    labels = map_labels(list(methods), places, options.top or 1)
    files = planned_files(inputs, options, figure_name(options, methods), labels)
    opened = _model.open_model(options)
    for layer in options.layers or ():
        opened.at_layer(layer)
    check_top(opened, options.top or 1)
    explain = functools.partial(
        explain_each,
        opened,
        target=_model.find_target(options.target, opened.class_names),
        key=jax.random.key(options.seed),
        methods=methods,
        top=options.top,
        layers=options.layers,
        fuse=None if options.fuse is None else _explain_options.FUSIONS[options.fuse],
    )
    return explain_and_print(inputs, files, Task(explain, [opened], drawing, options))


def _methods(options, select) -> Any:
    """The methods, as `jaxcam.explain` takes them; for `--gif noise` one method at each level."""
    if options.gif != "noise":
        return _method.chosen_methods(options, select)
    method = _method.chosen_method(options, select)
    title = METHOD_TITLES[options.method]
    levels = options.levels or _explain_options.LEVELS
    return {f"{title}, std {level:g}": functools.partial(method, std=level) for level in levels}


def figure_name(options: argparse.Namespace, methods: Sequence[str]) -> str:
    """The word between the picture's name and the suffix of what is drawn: the method's name, or "explained"."""
    if options.methods is None:
        return options.method
    return map_labels(list(methods), ["layer"], 1)[0] if len(methods) == 1 else "explained"
