"""`jaxcam explain`: explain your own pictures."""

import argparse
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax

import jaxcam
from jaxcam._base import progress
from jaxcam.cli import _method, _model, _options, _output
from jaxcam.explaining import Explanation
from jaxcam.opening import OpenedModel


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="explain your own pictures")
    parser.set_defaults(command="explain", run=run)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture files; each is fitted to the network's input"
    )
    _options.add_model_options(parser)
    _options.add_target_option(parser)
    _options.add_method_options(parser)
    parser.add_argument("--filters", type=_options.integers, metavar="K,K", help="feature maps to draw, one panel each")
    parser.add_argument(
        "--subset", type=_options.points, metavar="'R,C R,C'", help="neurons to keep; two corners with --region"
    )
    parser.add_argument("--region", action="store_true", help="take --subset as two opposite corners of a rectangle")
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="number of most probable classes to print (default: %(default)s)",
    )
    _options.add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Explain each picture. A picture that fails is reported, and the others are explained."""
    select = None
    if options.filters or options.subset or options.region:
        select = jaxcam.select(filters=options.filters, region=options.region, subset=options.subset)
    method = _method.chosen_method(options, select)
    outputs = _output.picture_paths(options)
    opened = _model.open_model(options)
    target = _model.find_target(options.target, opened.class_names)
    answers: list[dict[str, Any]] = []  # of all pictures, also of those that failed
    texts: list[str] = []  # of those that did not
    work = math.inf if len(outputs) > 1 else 0
    with progress.bar("explaining", len(outputs), flops=work) as advance:
        for image, output in zip(options.images, outputs, strict=True):
            try:
                explanation = _explain_picture(image, output, opened, target, method, options)
            except (OSError, ValueError, TypeError) as error:
                message = _output.one_line(error)
                answers.append({"image": image, "error": message})
                _output.print_error(message if image in str(error) else f"{image}: {message}")
            else:
                answers.append(_as_dict(explanation, output, options))
                texts.append(_as_text(explanation, output, options))
            if advance is not None:
                advance()
    if options.json:
        _output.print_json(answers)
    else:
        print(*texts, sep="\n")
    return 0 if len(texts) == len(outputs) else _output.FAILURE


def _explain_picture(
    path: str,
    output: pathlib.Path,
    opened: OpenedModel,
    target: int | None,
    method: Callable[..., jax.Array],
    options: argparse.Namespace,
) -> Explanation:
    """Explains one picture and draws the map over it, at the picture's own size."""
    explanation = jaxcam.explain(
        opened, path, target, jax.random.key(options.seed), methods={options.method: method}, top=options.top
    )
    if options.filters:
        maps = list(explanation.on_image(options.method))
        figure = jaxcam.plots.filters(explanation.image, maps, options.filters)
    elif options.subset:
        saliency = explanation.maps[options.method]
        figure = jaxcam.plots.neurons(explanation.fitted, saliency, options.subset, region=options.region)
    else:
        figure = explanation.figure()
    jaxcam.plots.save(figure, output, force=options.force)
    return explanation


def _as_dict(explanation: Explanation, output: pathlib.Path, options: argparse.Namespace) -> dict[str, Any]:
    saliency = explanation.maps[options.method]
    shown = {"output": str(output), "method": options.method, "map_shape": list(saliency.shape)}
    return {**explanation.as_dict(), **shown, "map_is_zero": not saliency.any()}


def _as_text(explanation: Explanation, output: pathlib.Path, options: argparse.Namespace) -> str:
    lines = [f"{explanation}: {output}"]
    if not explanation.maps[options.method].any():
        chosen = options.filters or options.subset
        why = "nothing in what was chosen speaks for the class" if chosen else "jaxcam diagnose says why"
        lines.append(f"  the map is zero everywhere: {why}")
    return "\n".join(lines)
