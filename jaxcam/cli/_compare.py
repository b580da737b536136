"""`jaxcam compare`: draw the maps of two networks, or of two layers of one network, beside each other."""

import argparse
import copy
import functools
from typing import Any

import jax

from jaxcam.cli import _explain_options, _method, _model, _options
from jaxcam.cli._explain_files import planned_files
from jaxcam.cli._explaining import Task, explain_and_print
from jaxcam.cli._inputs import Input, find_inputs
from jaxcam.explaining import explain_each, map_labels
from jaxcam.opening import ModelSource, model_source

# Options of one network, which two networks cannot share.
OF_ONE_NETWORK = ("layer", "output", "after", "grid")
# Options of `jaxcam explain` that this command does not have.
ABSENT = {"layers": None, "fuse": None, "top": None, "gif": None, "levels": None, "filters": None, "subset": None}


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "compare",
        help="draw the maps of two networks, or of two layers, beside each other",
        description="Draw the maps of two networks, or of two layers of one network, beside each other. The class is "
        "--target, or the most probable one of A; if B has classes of other names, B explains its own.",
    )
    parser.set_defaults(command="compare", run=run, **ABSENT)
    parser.add_argument("first", metavar="A", help="a network, in a form of --model; or a layer of the network")
    parser.add_argument("second", metavar="B", help="another one")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="picture files, folders, globs in quotes, or - (default: a sample)"
    )
    _options.add_model_options(parser)
    _options.add_target_option(parser)
    _options.add_method_options(parser.add_argument_group("methods"), several=True)
    _explain_options.add_drawing_options(parser.add_argument_group("drawing"))
    _explain_options.add_file_options(parser.add_argument_group("files"))


def run(options: argparse.Namespace) -> int:
    """Draw the comparison for each picture."""
    names = [options.first, options.second]
    if names[0] == names[1]:
        raise ValueError(f"compare takes two networks or two layers, got {names[0]} twice")
    drawing = _explain_options.drawing_of(options)
    methods: Any = _method.chosen_methods(options)
    sources = _sources(options)
    inputs = _inputs(options, sources[0] if sources else _model.source_of(options))
    files = planned_files(inputs, options, "compared", map_labels(list(methods), names, 1))
    if sources:
        networks = [_model.open_model(_of_network(options, name)) for name in names]
        opened, layers, target = networks, None, options.target
    else:
        network = _model.open_model(options)
        for name in names:
            network.at_layer(name)
        networks = [network]
        opened, layers, target = networks, names, _model.find_target(options.target, network.class_names)
    explain = functools.partial(
        explain_each, opened, target=target, key=jax.random.key(options.seed), methods=methods, layers=layers
    )
    return explain_and_print(inputs, files, Task(explain, networks, drawing, options))


def _sources(options: argparse.Namespace) -> list[ModelSource]:
    """The two networks; none if A and B are layers.

    Raises:
      ValueError: one of A and B is a network and the other one is not, or an option that they cannot share.
    """
    sources, errors = [], []
    if options.model is None and options.weights is None:
        for name in (options.first, options.second):
            try:
                sources.append(model_source(name))
            except ValueError as error:
                errors.append(error)
    if not sources:
        if options.layer is not None:
            raise ValueError("--layer does not go with two layers: A and B are the layers")
        return []
    if errors:
        raise errors[0]
    for option in OF_ONE_NETWORK:
        if getattr(options, option) is not None:
            raise ValueError(f"--{option} does not go with two networks: it is an option of one")
    return sources


def _of_network(options: argparse.Namespace, name: str) -> argparse.Namespace:
    """The options with one of the networks."""
    own = copy.copy(options)
    own.model = name
    return own


def _inputs(options: argparse.Namespace, source: ModelSource) -> list[Input]:
    if options.images:
        return find_inputs(options.images)
    return [Input("the sample", "sample", _model.sample_picture(source), "the sample", "sample")]
