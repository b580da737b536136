"""What `jaxcam segment`, `detect` and `watch` share: an input or a sample, a method at a layer, files, printing."""

import argparse
import functools
import importlib.resources
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import jaxcam
from jaxcam.cli import _options, _output
from jaxcam.datasets import images
from jaxcam.methods import METHOD_TITLES

SIZE = (64, 64)  # of what the embedded networks were trained on
# Methods of one example, a target and no other input.
METHODS = ("grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "hires_cam", "layer_cam", "xgrad_cam", "grad_cam_plus")


def add_options(parser: argparse.ArgumentParser, *, what: str, kind: str, method: str, layer: str) -> None:
    """The input, `--sample`, the method and the layer, and where pictures are written.

    Args:
      parser: of the command.
      what: the name of the input in the help, such as IMAGE.
      kind: what it is.
      method: the default.
      layer: the default.
    """
    parser.add_argument(
        "input", nargs="?", metavar=what, help=f"a {kind}, which is resized to 64 x 64 pixels; or give --sample"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="a sample of the package in its place, from 0")
    parser.add_argument("--method", choices=METHODS, default=method, help="(default: %(default)s)")
    parser.add_argument("--layer", default=layer, help="a layer of the network (default: %(default)s)")
    _options.add_seed_option(parser, "seed of noise")
    parser.add_argument("--out", type=pathlib.Path, metavar="FOLDER", default=pathlib.Path("."), help="(default: .)")
    parser.add_argument("--force", action="store_true", help="overwrite existing pictures")
    parser.add_argument("--json", action="store_true", help="print JSON")


def check_input(options: argparse.Namespace, command: str) -> None:
    """Raises a ValueError unless there is either a file or `--sample`."""
    if (options.input is None) == (options.sample is None):
        got = "neither" if options.input is None else "both"
        raise ValueError(f"jaxcam {command} takes a file or --sample N, got {got}")


def image_and_name(options: argparse.Namespace) -> tuple[np.ndarray, str]:
    """The image `[64 64 3]`, and the beginning of the names of the files that are written for it."""
    if options.input is None:
        return jaxcam.pretrained.digits_canvas(options.sample)[0], f"canvas{options.sample}"
    picture = images.read(options.input)
    picture = picture if picture.shape[:2] == SIZE else images.fit(picture, SIZE)
    return picture, pathlib.Path(options.input).stem


def method_of(options: argparse.Namespace, score: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`(cut, image, target) -> map` of the chosen method and a score."""
    function = functools.partial(getattr(jaxcam, options.method), score=score)
    if options.method == "smooth_grad_cam_pp":
        key = jax.random.key(options.seed)
        return lambda cut, image, target: function(cut, image, target, key)
    return lambda cut, image, target: function(cut, image, target)


def outputs_of(cut: jaxcam.Cut, image: Any) -> Any:
    """The network's outputs for one image or clip, from one program."""
    return jax.jit(lambda cut, image: cut.head(cut.params, cut.features(cut.params, image), image))(cut, image)


def title_of(options: argparse.Namespace) -> str:
    """The method's title."""
    return METHOD_TITLES[options.method]


def planned(options: argparse.Namespace, name: str, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """The files that are written, which do not exist yet."""
    return [_output.check_free(options.out / f"{name}.{options.command}.{suffix}", options) for suffix in suffixes]


def scores_of_network(folder: str) -> dict[str, Any]:
    """What the training script printed of an embedded network: its scores on held-out data.

    Args:
      folder: of its weights in `jaxcam.pretrained`.
    """
    return json.loads((importlib.resources.files("jaxcam.pretrained") / folder / "scores.json").read_text())


def print_record(
    options: argparse.Namespace, record: dict[str, Any], lines: Sequence[str], scores: dict[str, Any], accuracy: str
) -> int:
    """Print JSON or lines, and how good the network is; returns the exit code."""
    if options.json:
        _output.print_json(record | {"scores_of_network": scores})
    else:
        print(*lines, accuracy, sep="\n")
    return 0


def described_map(saliency: Any) -> dict[str, Any]:
    """What JSON says of a map."""
    return {
        "map_shape": list(saliency.shape),
        "lowest": float(saliency.min()),
        "highest": float(saliency.max()),
        "map_is_zero": not bool((saliency != 0).any()),
    }
