"""`jaxcam layers`: describe the layers at which the network can be cut."""

import argparse

from jaxcam.cli import _model, _options, _output
from jaxcam.opening import describe_source


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("layers", help="list the layers, with the recommended one marked")
    parser.set_defaults(command="layers", run=run)
    _options.add_model_options(parser)
    _options.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the descriptions, with the recommended layer marked; as JSON the names and shapes."""
    descriptions = describe_source(
        _model.source_of(options),
        input_size=options.input_size,
        output=options.output,
        channel_axis=options.channel_axis,
        image_channel_axis=options.image_channel_axis,
    )
    if options.json:
        _output.print_json({layer.name: list(layer.shape) for layer in descriptions})
    else:
        print(descriptions)
    return 0
