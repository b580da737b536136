"""What `jaxcam caption` and `jaxcam ask` share: the picture, the method, the file that is written."""

import argparse
import inspect
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxcam
from jaxcam.cli import _method, _options, _output
from jaxcam.datasets import FITS, Example
from jaxcam.methods import DERIVATIVES

SIDE = 64
# Of all methods in `examples.captions.table` its maps lie best on the digits that words and answers are about.
METHOD = "layer_cam"


class Picture(NamedTuple):
    """The picture as the network takes it, its name, and the file that is drawn."""

    image: np.ndarray
    name: str
    file: pathlib.Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of both commands, without the picture."""
    parser.add_argument(
        "--sample", type=int, metavar="N", help="the sample canvas of this number, 0 to 2, in the place of IMAGE"
    )
    parser.add_argument("--fit", choices=FITS, default="square", help="how a picture is made to fit 64 x 64 pixels "
                        "(default: the largest square in the center)")  # fmt: skip
    group = parser.add_argument_group("method")
    group.add_argument("--method", choices=_options.METHODS, default=METHOD, help="(default: %(default)s)")
    group.add_argument("--samples", type=int, help="number of noisy copies to average the derivatives over")
    group.add_argument("--std", type=float, help="standard deviation of the noise, as a share of the image's range")
    _options.add_seed_option(group, "seed of the noise")
    group.add_argument("--link", choices=("identity", "exp"), help="Y = score, or e^score (default: the method's)")
    group.add_argument(
        "--derivatives", choices=[name for name in DERIVATIVES if name != "sampled"], help="(default: exact)"
    )
    parser.set_defaults(score=None, alpha=None, n_locations=None)
    _options.add_output_options(parser.add_argument_group("files"))


def find_picture(image: str | None, word: str, options: argparse.Namespace) -> Picture:
    """The picture that IMAGE or `--sample` names.

    Args:
      image: a file, or None.
      word: in the name of what is drawn: "caption" gives cat.caption.png.
      options: of the command line.

    Raises:
      OSError, ValueError: neither IMAGE nor `--sample`, or both; no picture; or a file that may not be written.
    """
    if (image is None) == (options.sample is None):
        raise ValueError("expected a picture: give IMAGE, or --sample N for a sample canvas, and not both")
    if image is None:
        pixels, _ = jaxcam.pretrained.digits_canvas(options.sample)
        name = stem = f"canvas{options.sample}"
    else:
        name, stem = image, pathlib.Path(image).stem
    file = _output.check_free(options.out / f"{stem}.{word}.png", options)
    if image is not None:
        pixels = np.asarray(jaxcam.datasets.load(Example(image), (SIDE, SIDE), fit=options.fit).image)
    return Picture(pixels, name, file)


def bound_method(options: argparse.Namespace, score: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The method with its options and a score: `(cut, image, target) -> map`.

    Raises:
      ValueError: an option that the method does not take, or a method that takes no score.
    """
    if "score" not in inspect.signature(getattr(jaxcam, options.method)).parameters:
        raise ValueError(f"--method {options.method} takes no score: choose another, such as grad_cam")
    method = _method.chosen_method(options)
    key = _method.key_of_method(options)

    def map_of(cut: jaxcam.Cut, image: Any, target: Any) -> jax.Array:
        arguments = (cut, image, target) if key is None else (cut, image, target, key)
        return method(*arguments, score=score)

    return map_of


def write_figure(picture: Picture, maps: dict[str, Any], title: str, options: argparse.Namespace) -> None:
    """Draws the picture and its maps, five panels in a row."""
    figure = jaxcam.plots.family(picture.image, maps, title=title, columns=min(5, len(maps) + 1))
    jaxcam.plots.save(figure, picture.file, force=options.force)


def described(picture: Picture, options: argparse.Namespace) -> dict[str, Any]:
    """What the records of both commands say of the picture and of what is drawn."""
    return {
        "image": picture.name,
        "method": options.method,
        "output": str(picture.file),
        "files": [str(picture.file)],
    }
