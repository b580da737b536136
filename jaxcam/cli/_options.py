"""Options that several commands share, and how the text of an option is read."""

import argparse
import pathlib
from typing import Any

from jaxcam.formulas.weights import ALPHAS
from jaxcam.methods import METHOD_TITLES

# What `ArgumentParser.add_subparsers` returns.
Subparsers = argparse._SubParsersAction

METHODS = tuple(METHOD_TITLES)
ACTIVATIONS = ("relu", "leaky_relu", "relu6", "elu", "softplus", "silu", "gelu", "tanh")
SCORES = ("logit", "log_softmax")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The network: `--weights` and `--classes`."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of a VGG, as written by Keras, PyTorch, timm, flaxmodels or jaxcam; or 'imagenet' for those of "
        "VGG-16, which are downloaded once (default: the embedded network)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="the names of the classes, one per line; or 'imagenet' for its 1000 names",
    )


def add_layer_option(parser: argparse.ArgumentParser) -> None:
    """`--layer`."""
    parser.add_argument("--layer", help="a layer listed by `jaxcam layers` (default: the one that it recommends)")


def add_target_option(parser: argparse.ArgumentParser) -> None:
    """`--target`, a class by name or number."""
    parser.add_argument("--target", help="the class to explain, a name or a number (default: the most probable class)")


def add_activation_option(parser: argparse.ArgumentParser) -> None:
    """`--activation`, another nonlinearity for the same weights."""
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default="relu",
        help="replaces relu and keeps the weights: the derivatives change, and the network is no longer a trained one "
        "(default: %(default)s)",
    )


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """One method with its options; `jaxcam.cli._method` builds it."""
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="smooth_grad_cam_pp",
        help="(default: %(default)s); cam is undefined for a head with hidden layers, such as that of a VGG",
    )
    parser.add_argument(
        "--samples",
        type=int,
        help="number of noisy copies to average the derivatives over (default: 5 for smooth_grad_cam_pp, otherwise 0)",
    )
    parser.add_argument(
        "--std",
        type=float,
        help="standard deviation of the noise, as a share of the image's range (default: the method's, 0.3 or 0.15)",
    )
    add_seed_option(parser, "seed of the noise")
    parser.add_argument("--score", choices=SCORES, help="(default: logit)")
    parser.add_argument("--link", choices=("identity", "exp"), help="Y = score, or e^score (default: the method's)")
    parser.add_argument(
        "--alpha",
        choices=ALPHAS,
        help="of grad_cam_pp and smooth_grad_cam_pp: alphas as the papers define them, or bounded to [0, 1/2] "
        "(default: defined)",
    )


def add_seed_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    """`--seed`."""
    parser.add_argument("--seed", type=int, default=0, help=f"{meaning} (default: %(default)s)")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """`--json` of a command; it keeps a `--json` that is given before the command."""
    parser.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)


def add_output_options(parser: argparse.ArgumentParser, *, of_command: bool = True) -> None:
    """`--out`, `--force` and `--json`.

    Those of a command have no defaults, so that they do not undo what is given before the command.
    """

    def default(value: Any) -> Any:
        return argparse.SUPPRESS if of_command else value

    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FOLDER",
        help="folder for the pictures (default: .)",
        default=default(pathlib.Path(".")),
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing pictures", default=default(False))
    parser.add_argument("--json", action="store_true", help="print JSON", default=default(False))


def integers(text: str) -> list[int]:
    """The integers of a text such as "3,7"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 3,7") from None


def pairs(text: str) -> dict[str, str]:
    """The names and values of a text such as "image=file,label=breed"."""
    parts = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of pairs such as image=file,label=breed")
    return {name: value for name, _, value in parts}


def points(text: str) -> list[tuple[int, ...]]:
    """The points of a text such as "0,0 4,4"."""
    try:
        coordinates = [tuple(int(i) for i in point.split(",")) for point in text.split()]
    except ValueError:
        coordinates = []
    if not coordinates or any(len(point) != 2 for point in coordinates):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of points such as '0,0 4,4'")
    return coordinates
