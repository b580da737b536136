"""`jaxcam serve`: the web page, on this machine."""

import argparse
import inspect

import jaxcam
from jaxcam import web
from jaxcam.cli import _model, _options

LOOPBACK = "127.0.0.1"
PORT = 7860


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="a web page on which pictures are explained",
        description="Serve a web page on which pictures are explained by the given network and by those whose weights "
        "are installed. It needs Gradio: pip install 'jaxcam-saliency[demo]'.",
    )
    parser.set_defaults(command="serve", run=run)
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="the address to listen at; 0.0.0.0 lets other machines in (default: %(default)s, this machine alone)",
    )
    parser.add_argument("--port", type=int, default=PORT, help="(default: %(default)s)")
    _options.add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Serve the page until it is interrupted."""
    if not 0 < options.port < 2**16:
        raise ValueError(f"expected --port in 1..{2**16 - 1}, got {options.port}")
    try:
        web.check_gradio()
    except ImportError as error:
        raise ValueError(str(error)) from error
    given = {"weights": options.weights, **_model.open_options(options)}
    known = inspect.signature(jaxcam.open_model).parameters
    changed = {name: value for name, value in given.items() if value != known[name].default}
    web.serve([web.Network(_model.source_of(options).name, changed)], host=options.host, port=options.port)
    return 0
