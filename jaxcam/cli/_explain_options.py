"""The options of `jaxcam explain`, and which of them contradict each other, before anything is computed."""

import argparse
import inspect
import math

import jaxcam
from jaxcam._base import checks
from jaxcam.cli import _method, _options
from jaxcam.explaining import FORMATS

FUSIONS = {"mean": "mean", "max": "maximum"}  # by the words of the command line
LEVELS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)  # of noise, as shares of the image's range
GIFS = ("noise", "layers", "frames")


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options but those of the model."""
    _add_subject_options(parser.add_argument_group("what is explained"))
    _options.add_method_options(parser.add_argument_group("methods"), several=True)
    _add_selection_options(parser.add_argument_group("feature maps and neurons"))
    add_drawing_options(parser.add_argument_group("drawing"))
    files = parser.add_argument_group("files")
    add_file_options(files)
    _add_gif_options(files)


def _add_subject_options(group) -> None:
    _options.add_target_option(group)
    group.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="explain each of the N most probable classes, and print them (default: print 5, explain the first)",
    )
    group.add_argument(
        "--layers", type=_options.words, metavar="L,L", help="several layers, in the place of --layer: a map at each"
    )
    group.add_argument("--fuse", choices=FUSIONS, help="one map of all --layers: their mean or maximum")
    group.add_argument(
        "--frames",
        type=_options.count_or_all,
        metavar="N",
        help="explain N frames of an animated picture, spread evenly, or 'all' (default: its first one)",
    )


def _add_selection_options(group) -> None:
    group.add_argument("--filters", type=_options.integers, metavar="K,K", help="feature maps to draw, one panel each")
    group.add_argument(
        "--subset", type=_options.points, metavar="'R,C R,C'", help="neurons to keep; two corners with --region"
    )
    group.add_argument("--region", action="store_true", help="take --subset as two opposite corners of a rectangle")


def add_drawing_options(group) -> None:
    """How maps are drawn: the options of `jaxcam.plots.compare`."""
    styles = group.add_mutually_exclusive_group()
    styles.add_argument("--overlay", action="store_true", help="colors over the picture (the default)")
    styles.add_argument("--mask", action="store_true", help="the picture, dark where the map is below --threshold")
    styles.add_argument("--contour", action="store_true", help="lines at 0.25, 0.5 and 0.75, or at --threshold")
    group.add_argument("--colormap", metavar="NAME", help="one of matplotlib's (default: inferno)")
    group.add_argument("--opacity", type=float, metavar="X", help="of an overlay, 0 to 1 (default: 0.5)")
    group.add_argument(
        "--threshold", type=float, metavar="X", help="of a mask or a contour, 0 to 1 from the map's lowest to highest"
    )


def add_file_options(group) -> None:
    """Where pictures are written, and the formats of maps."""
    _options.add_output_options(group)
    group.add_argument(
        "--save-maps",
        type=_formats,
        default=(),
        metavar="F,F",
        help=f"also write the maps at the layer's resolution, in the formats {', '.join(FORMATS)}",
    )


def _add_gif_options(group) -> None:
    group.add_argument(
        "--gif",
        choices=GIFS,
        help="an animated picture instead: over levels of noise, over --layers, or over the frames of a clip, which is "
        "an animated picture or a folder of pictures",
    )
    group.add_argument(
        "--levels",
        type=_options.numbers,
        metavar="S,S",
        help=f"of --gif noise: standard deviations (default: {','.join(f'{level:g}' for level in LEVELS)})",
    )


def _formats(text: str) -> list[str]:
    formats = text.split(",")
    for word in formats:
        if word not in FORMATS or formats.count(word) > 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of some of {', '.join(FORMATS)}")
    return formats


def drawing_of(options: argparse.Namespace) -> dict[str, object]:
    """The options of `jaxcam.plots.compare` that were given.

    Raises:
      ValueError: an option that does not go with the style, no such colormap, or a number outside 0..1.
    """
    style = "mask" if options.mask else "contour" if options.contour else "overlay"
    given = {"colormap": options.colormap, "alpha": options.opacity, "threshold": options.threshold}
    unused = {"overlay": ("threshold",), "mask": ("colormap", "alpha"), "contour": ("alpha",)}[style]
    for name in unused:
        if given[name] is not None:
            flag = "opacity" if name == "alpha" else name
            others = "--mask or --contour" if style == "overlay" else "--overlay"
            subject = "an overlay" if style == "overlay" else f"--{style}"
            raise ValueError(f"--{flag} does not go with {subject}: {others} takes it")
    drawing = {"style": style, **{name: value for name, value in given.items() if value is not None}}
    if len(drawing) > 1:
        jaxcam.plots.checked_drawing(**drawing)
    return drawing


def check_options(options: argparse.Namespace) -> None:
    """Raises a ValueError if options contradict each other, before a network is built or a picture is read."""
    if options.top is not None:
        checks.check_count("top", options.top, at_least=1)
    selects = "--filters" if options.filters else "--subset" if options.subset else None
    for given, first, second, why in (
        (options.top and options.target, "--top", "--target", "one explains the most probable classes"),
        (options.layers and options.layer, "--layers", "--layer", "give all of them in --layers"),
        (selects and options.layers, selects, "--layers", "its numbers are those of one layer"),
        (selects and options.methods, selects, "--methods", "it is drawn for one --method"),
        (selects and options.top, selects, "--top", "it is drawn for one class"),
        (selects and options.gif, selects, "--gif", "it is drawn as one picture"),
        (selects and _styled(options), selects, _styled(options), "it is drawn as an overlay"),
        (options.filters and "csv" in options.save_maps, "--filters", "--save-maps csv", "take npy or npz"),
    ):
        if given:
            raise ValueError(f"{first} does not go with {second}: {why}")
    if options.fuse and len(options.layers or ()) < 2:
        raise ValueError("--fuse joins the maps of several layers: give them as --layers a,b")
    _check_gif(options)


def _styled(options: argparse.Namespace) -> str | None:
    return "--mask" if options.mask else "--contour" if options.contour else None


def _check_gif(options: argparse.Namespace) -> None:
    if options.levels is not None and options.gif != "noise":
        raise ValueError("--levels are those of --gif noise")
    if options.gif == "layers" and (options.fuse or len(options.layers or ()) < 2):
        raise ValueError("--gif layers shows one layer after the other: give them as --layers a,b, without --fuse")
    if options.gif != "noise":
        return
    for option in ("methods", "layers", "top", "std"):
        if getattr(options, option):
            raise ValueError(f"--gif noise does not go with --{option}: it shows one map at each of the --levels")
    if min(options.levels or LEVELS) < 0 or not all(map(math.isfinite, options.levels or LEVELS)):
        raise ValueError(f"expected --levels of at least 0, got {','.join(f'{x:g}' for x in options.levels)}")
    _method.chosen_method(options)  # whose message is clearer where --samples does not go with the method
    default = inspect.signature(getattr(jaxcam, options.method)).parameters.get("n_samples")
    if not options.samples and (default is None or not default.default or options.samples == 0):
        raise ValueError(f"--gif noise needs --samples: --method {options.method} draws no noise")
