"""`jaxcam layers`: list the layers at which the network can be cut."""

import argparse

import jaxcam
from jaxcam.cli import _model, _options, _output


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("layers", help="list the layers with the shape of their output")
    parser.set_defaults(command="layers", run=run)
    _options.add_model_options(parser)
    _options.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the names and shapes."""
    shapes = jaxcam.layers(_model.build_model(options))
    if options.json:
        _output.print_json({name: list(shape) for name, shape in shapes.items()})
    else:
        for name, shape in shapes.items():
            print(f"{name:<14}{' x '.join(map(str, shape))}")
    return 0
