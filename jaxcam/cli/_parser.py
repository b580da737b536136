"""What the command line takes: its commands, their options, and how a value is read.

>>> options = parser().parse_args(["explain", "cat.png", "--subset", "0,0 4,4"])
>>> options.command, options.images, options.subset
('explain', ['cat.png'], [(0, 0), (4, 4)])
"""

import argparse
import pathlib

from jaxcam.evaluation.measures import MEASURES
from jaxcam.methods import TITLES

METHODS = tuple(TITLES)
ACTIVATIONS = ("relu", "leaky_relu", "relu6", "elu", "softplus", "silu", "gelu", "tanh")


class _Parser(argparse.ArgumentParser):
    """argparse with its errors in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Of all commands; which one was given is `options.command`, "demo" where none was."""
    found = _Parser(prog="jaxcam", description="Class activation maps: what a network looks at.")
    found.set_defaults(command="demo")
    _output_options(found)
    commands = found.add_subparsers(title="commands", metavar="")

    explain = commands.add_parser("explain", help="explain pictures of your own")
    explain.set_defaults(command="explain")
    explain.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture files; each is resized to the network's input"
    )
    _model_options(explain)
    _layer_and_target(explain)
    _method_options(explain)
    explain.add_argument("--filters", type=_integers, metavar="K,K", help="feature maps to draw, one panel each")
    explain.add_argument(
        "--subset", type=_points, metavar="'R,C R,C'", help="neurons to keep; two corners with --region"
    )
    explain.add_argument("--region", action="store_true", help="--subset is two opposite corners of a rectangle")
    _output_options(explain, default=argparse.SUPPRESS)

    batch = commands.add_parser(
        "batch",
        help="the maps of all pictures of a folder, as arrays",
        description="One map a picture, NAME.npy in another folder. The same command goes on where a run stopped.",
    )
    batch.set_defaults(command="batch", filters=None, subset=None, region=False)
    batch.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="where the pictures are")
    batch.add_argument(
        "--out", type=pathlib.Path, metavar="FOLDER", required=True, help="where the maps go; made where it is not"
    )
    _model_options(batch)
    _layer_and_target(batch)
    _method_options(batch)
    batch.add_argument("--batch-size", type=int, metavar="N", help="pictures at a time (default: what fits the memory)")
    batch.add_argument("--memory", type=float, metavar="MIB", help="for what is computed at a time (default: a share)")
    batch.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)

    evaluate = commands.add_parser(
        "evaluate",
        help="methods and controls on labelled images, as tables",
        description="Methods and controls on labelled images: tables with intervals, curves, and the images where "
        "methods differ most. The same command goes on where a run stopped; methods and metrics may be added.",
    )
    evaluate.set_defaults(command="evaluate", target=None)
    evaluate.add_argument("data", type=pathlib.Path, metavar="DATA", help="a folder, or a csv of image, label, mask")
    evaluate.add_argument("--out", type=pathlib.Path, metavar="FOLDER", required=True, help="where all is written")
    data = evaluate.add_argument_group("data")
    data.add_argument("--format", choices=("csv", "voc", "imagenet", "folder"), help="(default: what DATA looks like)")
    data.add_argument("--labels", type=pathlib.Path, metavar="FILE", help="of --format imagenet: its file of labels")
    data.add_argument("--boxes", type=pathlib.Path, metavar="FOLDER", help="of --format imagenet: its annotations")
    data.add_argument("--blacklist", type=pathlib.Path, metavar="FILE", help="of --format imagenet: images left out")
    data.add_argument("--synsets", type=pathlib.Path, metavar="FILE", help="ImageNet's synsets, in the outputs' order")
    data.add_argument("--root", type=pathlib.Path, metavar="FOLDER", help="of a csv: what its paths start from")
    data.add_argument("--masks", metavar="FOLDER", help="of a csv: the masks' folder; of voc: 'yes'")
    data.add_argument("--inside", type=_integers, metavar="V,V", help="of a csv: the masks' values of the object")
    data.add_argument("--ignore", type=_integers, metavar="V,V", help="of a csv: the masks' values not counted")
    data.add_argument("--columns", type=_pairs, metavar="K=V,K=V", help="of a csv: columns' other names, image=file")
    data.add_argument("--where", type=_pairs, metavar="K=V,K=V", help="of a csv: the rows wanted, split=test")
    data.add_argument("--split", help="of voc: the list of images (default: test)")
    data.add_argument("--fit", choices=("stretch", "crop"), default="stretch", help="(default: %(default)s)")
    data.add_argument("--limit", type=int, metavar="N", help="images, spread evenly over all (default: all)")
    _model_options(evaluate)
    evaluate.add_argument("--layer", help="a layer that `jaxcam layers` lists (default: the last convolution)")
    _activation_option(evaluate)
    evaluate.add_argument(
        "--methods",
        default="grad_cam,grad_cam_pp,smooth_grad_cam_pp",
        metavar="M,M",
        help="with options after colons: grad_cam_pp:derivatives=closed_form (default: %(default)s)",
    )
    evaluate.add_argument(
        "--metrics",
        metavar="M,M",
        help=f"of {', '.join(MEASURES)}; with options likewise: pointing:tolerance=15 (default: all)",
    )
    evaluate.add_argument(
        "--target",
        dest="explained",
        choices=("predicted", "label"),
        default="predicted",
        help="the class that is explained (default: %(default)s)",
    )
    evaluate.add_argument("--reference", help="the method that others are compared with (default: Grad-CAM)")
    evaluate.add_argument("--seed", type=int, default=0, help="of what is random (default: %(default)s)")
    evaluate.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)

    diagnose = commands.add_parser(
        "diagnose",
        help="what is known about a map before it is drawn",
        description="Whether the closed form is exact, where derivatives are zero or alpha's denominator negative, "
        "what the relu cuts off, and the score and probability of the class.",
    )
    diagnose.set_defaults(command="diagnose")
    diagnose.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file (default: a sample canvas)")
    _model_options(diagnose)
    _layer_and_target(diagnose)
    _activation_option(diagnose)
    diagnose.add_argument("--score", choices=("logit", "log_softmax"), default="logit", help="(default: %(default)s)")
    diagnose.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)

    validate = commands.add_parser(
        "validate",
        help="the closed form against the exact derivatives",
        description="How far the closed form of Grad-CAM++'s derivatives is from the exact ones, and those from "
        "finite differences: a table, and the picture jaxcam_validate.png.",
    )
    validate.set_defaults(command="validate")
    validate.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file (default: a sample canvas)")
    _model_options(validate)
    _layer_and_target(validate)
    _activation_option(validate)
    validate.add_argument(
        "--locations", type=int, default=16, help="where finite differences are taken (default: %(default)s)"
    )
    validate.add_argument("--seed", type=int, default=0, help="of their choice (default: %(default)s)")
    _output_options(validate, default=argparse.SUPPRESS)

    layers = commands.add_parser("layers", help="list the layers with the shape of their output")
    layers.set_defaults(command="layers")
    _model_options(layers)
    layers.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)
    return found


def _model_options(parser):
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a VGG's weights, as Keras, PyTorch, timm, flaxmodels or jaxcam write them; or 'imagenet', which fetches "
        "those of VGG-16 once (default: the embedded network)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="the names of the classes, one a line; or 'imagenet' for its 1000 names",
    )


def _activation_option(parser):
    parser.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default="relu",
        help="in the place of relu, with the same weights: the derivatives change, the network is no longer trained "
        "(default: %(default)s)",
    )


def _method_options(parser):
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="smooth_grad_cam_pp",
        help="(default: %(default)s); cam is not defined where the head has hidden layers, as that of a VGG has",
    )
    parser.add_argument(
        "--samples",
        type=int,
        help="noisy copies that the derivatives are averaged over (default: 5 for smooth_grad_cam_pp, else none)",
    )
    parser.add_argument(
        "--std", type=float, help="their noise, as a share of the image's range (default: the method's, 0.3 or 0.15)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--score", choices=("logit", "log_softmax"), help="(default: logit)")
    parser.add_argument("--link", choices=("identity", "exp"), help="Y = score, or e^score (default: the method's)")


def _layer_and_target(parser):
    parser.add_argument("--layer", help="a layer that `jaxcam layers` lists (default: the last convolution)")
    parser.add_argument("--target", help="the class to explain, a name or a number (default: the most probable)")


def _output_options(parser, **default):
    # The sub-command has SUPPRESS, so that its defaults do not undo what stood before the sub-command's name.
    folder = {"default": pathlib.Path("."), **default}
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="FOLDER", help="where the pictures go (default: .)", **folder
    )
    parser.add_argument("--force", action="store_true", help="overwrite pictures that are there", **default)
    parser.add_argument("--json", action="store_true", help="print JSON", **default)


def _integers(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 3,7") from None


def _pairs(text):
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of pairs such as image=file,label=breed")
    return {name: value for name, _, value in pairs}


def _points(text):
    try:
        points = [tuple(int(i) for i in point.split(",")) for point in text.split()]
    except ValueError:
        points = []
    if not points or any(len(point) != 2 for point in points):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of points such as '0,0 4,4'")
    return points
