"""`jaxcam diagnose`: report what is known about a map before it is drawn."""

import argparse

import jaxcam
from jaxcam.cli import _model, _options, _output


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "diagnose",
        help="report what is known about a map before it is drawn",
        description="Report whether the closed form is exact, where derivatives are zero or the denominator of alpha "
        "is negative, what the relu cuts off, and the score and probability of the class.",
    )
    parser.set_defaults(command="diagnose", run=run)
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file (default: a sample)")
    _options.add_model_options(parser)
    _options.add_target_option(parser)
    _options.add_activation_option(parser)
    parser.add_argument("--score", choices=_options.SCORES, default="logit", help="(default: %(default)s)")
    _options.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    opened, image = _model.opened_and_image(options)
    names = opened.class_names
    target = _model.find_target(options.target, names)
    diagnosis = jaxcam.diagnose(opened.cut, image, target, score=getattr(jaxcam.scores, options.score))
    if options.json:
        _output.print_json({"class": names[diagnosis.target], **diagnosis.as_dict()})
    else:
        print(f"{opened.name}, class {names[diagnosis.target]!r}\n{diagnosis}")
    return 0
