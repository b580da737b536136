"""`jaxcam` without a command: explain a sample canvas with the embedded network."""

import argparse

import jax
import numpy as np

import jaxcam
from jaxcam.cli import _model, _output
from jaxcam.cli._options import add_output_options
from jaxcam.methods import METHOD_TITLES


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `jaxcam` itself, which come before any command."""
    parser.set_defaults(command="demo", run=run)
    add_output_options(parser, of_command=False)


def run(options: argparse.Namespace) -> int:
    """Draw the maps of three methods beside each other."""
    path = _output.check_free(options.out / "jaxcam_demo.png", options)
    model = jaxcam.digits()
    layer = _model.recommended_layer(model)
    cut = jaxcam.cut(model, layer)
    image, _ = jaxcam.pretrained.digits_canvas(_model.SAMPLE)
    maps = {
        "grad_cam": jaxcam.grad_cam(cut, image),
        "grad_cam_pp": jaxcam.grad_cam_pp(cut, image),
        "smooth_grad_cam_pp": jaxcam.smooth_grad_cam_pp(cut, image, None, jax.random.key(0)),
    }
    target, probability = _model.target_and_probability(cut, image)
    class_name = _model.class_names(model)[target]
    figure = jaxcam.plots.compare(
        [image],
        {METHOD_TITLES[name]: [saliency] for name, saliency in maps.items()},
        titles=[_output.title_of(class_name, probability)],
    )
    jaxcam.plots.save(figure, path, force=options.force)
    record = _output.Record(
        "a sample canvas", path, class_name, target, probability, layer, list(maps), np.asarray(maps["grad_cam"])
    )
    if options.json:
        _output.print_json(record.as_dict())
    else:
        print(record)
    return 0
