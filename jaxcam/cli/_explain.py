"""`jaxcam explain`: explain your own pictures."""

import argparse
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxcam
from jaxcam._base import progress
from jaxcam.cli import _method, _model, _options, _output
from jaxcam.methods import METHOD_TITLES

# The height and width, in pixels, that a panel of a figure has at most.
DRAWN = 360


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="explain your own pictures")
    parser.set_defaults(command="explain", run=run)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture files; each is resized to the network's input"
    )
    _options.add_model_options(parser)
    _options.add_layer_option(parser)
    _options.add_target_option(parser)
    _options.add_method_options(parser)
    parser.add_argument("--filters", type=_options.integers, metavar="K,K", help="feature maps to draw, one panel each")
    parser.add_argument(
        "--subset", type=_options.points, metavar="'R,C R,C'", help="neurons to keep; two corners with --region"
    )
    parser.add_argument("--region", action="store_true", help="take --subset as two opposite corners of a rectangle")
    _options.add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Explain each picture. A picture that fails is reported, and the others are explained."""
    select = None
    if options.filters or options.subset or options.region:
        select = jaxcam.select(filters=options.filters, region=options.region, subset=options.subset)
    method = _method.chosen_method(options, select)
    key = _method.key_of_method(options)
    if key is not None:
        method = functools.partial(method, key=key)
    _model.check_class_options(options)
    outputs = _output.picture_paths(options)
    model = _model.build_model(options)
    layer = options.layer or _model.recommended_layer(model)
    cut = _model.cut_at(model, layer)
    target = _model.find_target(options.target, _model.class_names(model))
    records: list[_output.Record] = []
    answers: list[dict[str, Any]] = []  # of all pictures, also of those that failed
    work = math.inf if len(outputs) > 1 else 0
    with progress.bar("explaining", len(outputs), flops=work) as advance:
        for image, output in zip(options.images, outputs, strict=True):
            try:
                record = _explain_picture(image, output, model, cut, layer, target, method, options)
            except (OSError, ValueError, TypeError) as error:
                message = _output.one_line(error)
                answers.append({"image": image, "error": message})
                _output.print_error(message if image in str(error) else f"{image}: {message}")
            else:
                records.append(record)
                answers.append({**record.as_dict(), "map_is_zero": not record.saliency.any()})
            if advance is not None:
                advance()
    if options.json:
        _output.print_json(answers)
    else:
        for record in records:
            print(record)
            if not record.saliency.any():
                chosen = options.filters or options.subset
                why = "nothing in what was chosen speaks for the class" if chosen else "jaxcam diagnose says why"
                print(f"  the map is zero everywhere: {why}")
    return 0 if len(records) == len(outputs) else _output.FAILURE


def _explain_picture(
    path: str,
    output: pathlib.Path,
    model: jaxcam.VGG,
    cut: jaxcam.Cut,
    layer: str,
    target: int | None,
    method: Callable[..., jax.Array],
    options: argparse.Namespace,
) -> _output.Record:
    """Explains one picture and draws the map over it, at the picture's own resolution."""
    from jaxcam.datasets import images  # loads Pillow

    shape = _model.input_size(model)
    image = images.read(path, at_least=(max(DRAWN, shape[0]), max(DRAWN, shape[1])))
    fitted = images.fit(image, shape)
    target, probability = _model.target_and_probability(cut, fitted, target)
    saliency = np.asarray(method(cut, fitted, target))
    if not np.isfinite(saliency).all():
        raise ValueError(f"the map is not finite: {options.method} is not defined for this layer")
    class_name = _model.class_names(model)[target]
    if options.filters:
        figure = jaxcam.plots.filters(image, saliency, options.filters)
    elif options.subset:
        figure = jaxcam.plots.neurons(image, saliency, options.subset, region=options.region)
    else:
        title = _output.title_of(class_name, probability)
        figure = jaxcam.plots.compare([image], {METHOD_TITLES[options.method]: [saliency]}, titles=[title])
    jaxcam.plots.save(figure, output, force=options.force)
    return _output.Record(path, output, class_name, target, probability, layer, options.method, saliency)
