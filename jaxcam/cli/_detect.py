"""`jaxcam detect`: the digits in a picture as boxes, and a map of each box."""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import plots
from jaxcam.cli import _options, _places

PARTS = jaxcam.scores.BOX_PARTS


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "detect",
        help="boxes of objects, and what each depends on",
        description="Find the handwritten digits of a picture with the embedded detector, and draw a map of each box: "
        "what its score depends on, and with --parts each of its sides (ODAM). HiResCAM is ODAM without its smoothing.",
    )
    parser.set_defaults(command="detect", run=run)
    _places.add_options(parser, what="IMAGE", kind="picture", method="hires_cam", layer="block3")
    parser.add_argument("--parts", action="store_true", help="maps of the score and of the four sides")
    parser.add_argument(
        "--box",
        type=_options.numbers,
        metavar="R0,C0,R1,C1",
        help="the predicted box that is nearest to this one, in pixels of the image as the network sees it, 64 x 64",
    )
    parser.add_argument(
        "--probability", type=float, default=0.5, metavar="P", help="the least of a box (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Detect and draw."""
    _places.check_input(options, "detect")
    if not 0 < options.probability < 1:
        raise ValueError(f"expected --probability between 0 and 1, got {options.probability}")
    model = jaxcam.pretrained.detector()
    image, name = _places.image_and_name(options)
    if options.box is not None:
        _check_box(options.box, image.shape)
    (file,) = _places.planned(options, name, ["png"])
    cut = jaxcam.cut(model, options.layer)
    outputs = _places.outputs_of(cut, image)
    outputs = {name: np.asarray(values) for name, values in outputs.items()}
    numbers = _chosen(options, outputs)
    parts = PARTS if options.parts else PARTS[:1]
    method = _places.method_of(options, jaxcam.scores.box)
    of_part = jax.vmap(lambda number, part: method(cut, image, (number, part)), (None, 0))
    maps = np.asarray(jax.vmap(of_part, (0, None))(jnp.asarray(numbers), jnp.arange(len(parts))))
    boxes = [_described(outputs, number) for number in numbers]
    titles = [f"{box['class']}: {100 * box['probability']:.1f}%" for box in boxes]
    figure = plots.boxes(image, outputs["boxes"][numbers], maps, titles=titles, names=parts)
    plots.save(figure, file, force=options.force)
    for box, of_box in zip(boxes, maps, strict=True):
        box["maps"] = {part: _places.described_map(saliency) for part, saliency in zip(parts, of_box, strict=True)}
    files = {"output": str(file), "files": [str(file)]}
    size = {"size": list(image.shape[:2])}  # of the image as the network sees it, which the boxes are in
    record = {
        "image": options.input or name,
        **size,
        "boxes": boxes,
        "method": options.method,
        "layer": options.layer,
        **files,
    }
    lines = [f"{title} at {', '.join(map(str, box['box']))}" for title, box in zip(titles, boxes, strict=True)]
    scores = _places.scores_of_network("boxes")
    return _places.print_record(options, record, [*lines, f"  {file}"], scores, accuracy(scores))


def accuracy(scores: dict[str, Any]) -> str:
    """How good the network is, in one line."""
    coarse, fine = scores["average_precision_50"], scores["average_precision_75"]
    line = f"network: on {scores['test_scenes']} held-out scenes the average precision is"
    return f"{line} {coarse:.2f} at an IoU of 0.5 and {fine:.2f} at 0.75"


def _check_box(box: list[float], shape: tuple[int, ...]) -> None:
    """Raises a ValueError for a box of another form, or outside the image."""
    height, width = shape[:2]
    if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):  # as of NaN
        raise ValueError(f"expected --box row0,column0,row1,column1 with row0 < row1 and column0 < column1, got {box}")
    if box[0] < 0 or box[1] < 0 or box[2] > height or box[3] > width:
        text = ",".join(f"{side:g}" for side in box)
        raise ValueError(f"the box {text} is not inside the image as the network sees it, {height} x {width} pixels")


def _chosen(options: argparse.Namespace, outputs: dict[str, np.ndarray]) -> list[int]:
    """The numbers of the boxes to explain, the most probable first."""
    lowest = float(np.log(options.probability / (1 - options.probability)))
    kept = np.asarray(jaxcam.metrics.distinct_boxes(outputs["scores"], outputs["boxes"], lowest=lowest))
    if not kept.any():
        best = 1 / (1 + np.exp(-outputs["scores"].max()))
        raise ValueError(f"no box has a probability of {options.probability:g}: the largest is {best:.3f}")
    numbers = [int(number) for number in np.argsort(-outputs["scores"]) if kept[number]]
    if options.box is None:
        return numbers
    overlaps = np.asarray(jaxcam.metrics.overlap(jnp.asarray(options.box), outputs["boxes"][numbers]))
    if overlaps.max() == 0:
        raise ValueError("no predicted box overlaps --box: leave it out to see all of them")
    return [numbers[int(overlaps.argmax())]]


def _described(outputs: dict[str, np.ndarray], number: int) -> dict:
    names = jaxcam.pretrained.DIGITS_CLASSES
    return {
        "number": number,
        "class": names[int(outputs["classes"][number].argmax())],
        "probability": float(1 / (1 + np.exp(-outputs["scores"][number]))),
        "box": [round(float(side), 1) for side in outputs["boxes"][number]],
    }
