"""Options that several commands share, and how the text of an option is read."""

import argparse
import math
import pathlib
from typing import Any

from jaxcam.datasets import FITS
from jaxcam.formulas.weights import ALPHAS
from jaxcam.methods import DERIVATIVES, METHOD_TITLES
from jaxcam.opening import DEFAULT as DEFAULT_MODEL
from jaxcam.opening import DEFAULT_FIT, NETWORKS, PREPROCESSING

# What `ArgumentParser.add_subparsers` returns.
Subparsers = argparse._SubParsersAction

METHODS = tuple(METHOD_TITLES)
ACTIVATIONS = ("relu", "leaky_relu", "relu6", "elu", "softplus", "silu", "gelu", "tanh")
SCORES = ("logit", "log_softmax")


def add_model_options(parser: argparse.ArgumentParser, *, default: str = DEFAULT_MODEL, fit: str = DEFAULT_FIT) -> None:
    """The network and what it takes: `--model` and its companions.

    Args:
      parser: of a command.
      default: the network without `--model` and `--weights`.
      fit: how pictures are fitted to the network's input by default.
    """
    parser.set_defaults(default_model=default)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="MODEL",
        help=f"one of {', '.join(NETWORKS)}; keras:NAME, an application of Keras; a .keras or .h5 file; or "
        f"package.module:function, which returns a model, a (module, variables) pair or a Cut (default: {default})",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of the model; without --model those of a VGG, as written by Keras, PyTorch, timm, flaxmodels or "
        "jaxcam, or 'imagenet' for those of VGG-16, which are downloaded once",
    )
    group.add_argument(
        "--classes",
        metavar="FILE",
        help="the names of the classes, one per line; or 'imagenet' for its 1000 names",
    )
    group.add_argument("--layer", help="a layer listed by `jaxcam layers` (default: the one that it recommends)")
    group.add_argument(
        "--preprocess",
        metavar="VALUES",
        help=f"what the model takes: {', '.join(PREPROCESSING)}, or module:function, from RGB in 0..1 (default: what "
        "the model says)",
    )
    group.add_argument(
        "--fit",
        choices=FITS,
        default=fit,
        help="how a picture is made to fit: square is the largest square in the center, crop a smaller one as on "
        "ImageNet, stretch the whole picture squashed, pad the whole picture between bars (default: %(default)s)",
    )
    group.add_argument(
        "--input-size", type=size, metavar="H,W", help="height and width of the images (default: what the model says)"
    )
    group.add_argument("--output", metavar="PATH", help="the part of the model's outputs to explain, such as logits")
    group.add_argument(
        "--after", metavar="NAME", help="the activation behind the layer, a name in jax.nn or module:function"
    )
    group.add_argument("--grid", type=size, metavar="H,W", help="the shape of a transformer's tokens")
    group.add_argument("--prefix", type=int, default=0, metavar="N", help="tokens before the grid (default: 0)")
    group.add_argument(
        "--channel-axis", type=int, default=-1, metavar="N", help="the layer's axis of channels (default: -1, the last)"
    )
    group.add_argument(
        "--image-channel-axis", type=int, choices=(-1, 0), default=-1, help="the image's (default: -1, the last)"
    )


def add_target_option(parser: Any) -> None:
    """`--target`, a class by name or number."""
    parser.add_argument("--target", help="the class to explain, a name or a number (default: the most probable class)")


def add_activation_option(parser: argparse.ArgumentParser) -> None:
    """`--activation`, another nonlinearity for the same weights."""
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="replaces the activation of one of jaxcam's own networks and keeps the weights: the derivatives change, "
        "and the network is no longer a trained one",
    )


def add_method_options(parser: Any, *, several: bool = False) -> None:
    """One method with its options, or `several` by `--methods`; `jaxcam.cli._method` builds them."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--method",
        choices=METHODS,
        default="smooth_grad_cam_pp",
        help="(default: %(default)s); cam is undefined for a head with hidden layers, such as that of a VGG",
    )
    if several:
        choice.add_argument(
            "--methods",
            metavar="M,M",
            help="several methods, one panel each, with options after colons: grad_cam,grad_cam_pp:score=log_softmax",
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
    add_seed_option(parser, "seed of the noise and of sampled locations")
    parser.add_argument("--score", choices=SCORES, help="(default: logit)")
    parser.add_argument("--link", choices=("identity", "exp"), help="Y = score, or e^score (default: the method's)")
    parser.add_argument(
        "--alpha",
        choices=ALPHAS,
        help="of grad_cam_pp and smooth_grad_cam_pp: alphas as the papers define them, or bounded to [0, 1/2] "
        "(default: defined)",
    )

    parser.add_argument(
        "--derivatives",
        choices=DERIVATIVES,
        help="of grad_cam_pp and smooth_grad_cam_pp: exact, the approximation in closed form, or exact at sampled "
        "locations, which estimates the map where exact takes too long (default: exact)",
    )
    parser.add_argument(
        "--n-locations",
        type=int,
        metavar="N",
        help="number of locations to draw for each channel, with --derivatives sampled",
    )


def add_seed_option(parser: Any, meaning: str) -> None:
    """`--seed`."""
    parser.add_argument("--seed", type=_seed, default=0, help=f"{meaning} (default: %(default)s)")


def _seed(text: str) -> int:
    """A seed of a `jax.random.key`: a number of 32 bits."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {2**32 - 1}")
    return int(text)


def add_json_option(parser: Any) -> None:
    """`--json` of a command; it keeps a `--json` that is given before the command."""
    parser.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)


def add_dry_run_option(parser: Any) -> None:
    """`--dry-run`."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing: say how many images are finished and missing, and how much time, disk and memory the "
        "missing ones take, measured on one batch",
    )


def add_output_options(parser: Any, *, of_command: bool = True) -> None:
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


def size(text: str) -> tuple[int, int]:
    """The height and width of a text such as "224" or "224,320"."""
    try:
        sides = [int(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 224,320")
    return sides[0], sides[-1]


def integers(text: str) -> list[int]:
    """The integers of a text such as "3,7"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 3,7") from None


def numbers(text: str) -> list[float]:
    """The numbers of a text such as "0,0.1"."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0,0.1") from None


def words(text: str) -> list[str]:
    """The words of a text such as "block2_conv2,block3_conv2", which differ from each other."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names that differ, such as a,b")
    return parts


def count_or_all(text: str) -> float:
    """The number of a text such as "8", at least 1, or infinity for "all"."""
    if text == "all":
        return math.inf
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1, or 'all'")
    return int(text)


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
