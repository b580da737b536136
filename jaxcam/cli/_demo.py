"""`jaxcam` without a command: explain a photograph, or with `--digits` a canvas, by three methods."""

import argparse
from typing import Any

import jaxcam
from jaxcam.cli import _model, _output
from jaxcam.cli._options import add_output_options
from jaxcam.explaining import Explanation
from jaxcam.methods import METHOD_TITLES

METHODS = ("grad_cam", "grad_cam_pp", "smooth_grad_cam_pp")
# Of EfficientNet-Lite0: the last layer, and one of twice its resolution at which the methods differ.
LAST, EARLIER = "head", "blocks/11/expand"
REASON = f"""\
  Behind {LAST} there is nothing but the mean over space and one linear layer: the derivatives are the same for every
  image, so Grad-CAM++ and Smooth Grad-CAM++ are one map there. At {EARLIER} the methods differ."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `jaxcam` itself, which come before any command."""
    parser.set_defaults(command="demo", run=run)
    parser.add_argument("--digits", action="store_true", help="explain a canvas of handwritten digits instead of a cat")
    add_output_options(parser, of_command=False)


def run(options: argparse.Namespace) -> int:
    """Draw the maps of three methods beside each other."""
    path = _output.check_free(options.out / "jaxcam_demo.png", options)
    explanations = _of_canvas() if options.digits else _of_photograph()
    first = explanations[0]
    rows = {METHOD_TITLES[name]: [explanation.on_image(name) for explanation in explanations] for name in METHODS}
    titles = [first.title] if options.digits else [_row_title(explanation) for explanation in explanations]
    figure = jaxcam.plots.compare([first.image] * len(explanations), rows, titles=titles)
    jaxcam.plots.save(figure, path, force=options.force)
    if options.json:
        _output.print_json(_as_dict(explanations, str(path)))
    else:
        print(*_lines(explanations, str(path)), sep="\n")
    return 0


def _of_canvas() -> list[Explanation]:
    image, _ = jaxcam.pretrained.digits_canvas(_model.SAMPLE)
    return [jaxcam.explain(jaxcam.open_model("digits"), image, methods=METHODS)]


def _of_photograph() -> list[Explanation]:
    opened = jaxcam.open_model("efficientnet_lite0", layer=LAST)
    photograph = jaxcam.datasets.sample_photograph()
    return list(jaxcam.explain(opened, photograph, methods=METHODS, layers=[LAST, EARLIER]))


def _row_title(explanation: Explanation) -> str:
    rows, columns = explanation.maps[METHODS[0]].shape
    return f"{explanation.title}\nat {explanation.layer}, {rows} x {columns}"


def _as_dict(explanations: list[Explanation], path: str) -> dict[str, Any]:
    first = explanations[0]
    return {
        **first.as_dict(),
        "output": path,
        "method": list(METHODS),
        "map_shape": list(first.maps[METHODS[0]].shape),
        "layers": [explanation.layer for explanation in explanations],
    }


def _lines(explanations: list[Explanation], path: str) -> list[str]:
    first = explanations[0]
    layers = " and ".join(explanation.layer for explanation in explanations)
    what = "a photograph" if len(explanations) > 1 else "a sample canvas"
    lines = [f"{what}: class {first.class_name!r}, probability {first.probability:.4f}; most probable:"]
    lines += [f"  {probability:6.1%}  {name}" for _, name, probability in first.top]
    titles = ", ".join(METHOD_TITLES[name] for name in METHODS)
    lines.append(f"layer {layers}, {titles}: {path}")
    return lines + ([REASON] if len(explanations) > 1 else [])
