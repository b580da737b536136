"""`jaxcam layers`: describe the layers at which the network can be cut."""

import argparse

import jaxcam
from jaxcam.cli import _model, _options, _output


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("layers", help="list the layers, with the recommended one marked")
    parser.set_defaults(command="layers", run=run)
    _options.add_model_options(parser)
    _options.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the descriptions, with the recommended layer marked; as JSON the names and shapes."""
    descriptions = jaxcam.describe_layers(_model.build_model(options))
    if options.json:
        _output.print_json({layer.name: list(layer.shape) for layer in descriptions})
    else:
        print(descriptions)
    return 0
