"""`jaxcam validate`: compare the closed form with the exact derivatives."""

import argparse

import jax

import jaxcam
from jaxcam.cli import _model, _options, _output


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "validate",
        help="compare the closed form with the exact derivatives",
        description="Compare the closed form of Grad-CAM++'s derivatives with the exact ones, and those with finite "
        "differences: a table, and the picture jaxcam_validate.png.",
    )
    parser.set_defaults(command="validate", run=run)
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file (default: a sample)")
    _options.add_model_options(parser, default="digits")
    _options.add_target_option(parser)
    _options.add_activation_option(parser)
    parser.add_argument(
        "--locations",
        type=int,
        default=16,
        help="number of locations at which finite differences are taken (default: %(default)s)",
    )
    _options.add_seed_option(parser, "seed of the random choice of locations")
    _options.add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print the table and draw the picture."""
    path = _output.check_free(options.out / "jaxcam_validate.png", options)
    opened, image = _model.opened_and_image(options)
    target = _model.find_target(options.target, opened.class_names)
    validation = jaxcam.validate(opened.cut, image, target, jax.random.key(options.seed), locations=options.locations)
    jaxcam.plots.save(jaxcam.plots.validation(validation, image), path, force=options.force)
    if options.json:
        _output.print_json(
            {"model": opened.name, "activation": options.activation, "output": str(path), **validation.as_dict()}
        )
    else:
        print(f"{validation}\n\n{path}")
    return 0
