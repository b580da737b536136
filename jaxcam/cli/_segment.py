"""`jaxcam segment`: the mask of each class in a picture, and a map of each mask."""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import plots
from jaxcam.cli import _options, _places
from jaxcam.datasets import images
from jaxcam.pretrained import SEGMENTER_CLASSES

LEAST_PIXELS = 8  # of a class that is shown: fewer are single pixels at the edges of others


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "segment",
        help="the mask of each class, and what it depends on",
        description="Give each pixel of a picture a class with the embedded U-Net for handwritten digits, and draw a "
        "map of each class's mask: what the mean of the class's logits over the mask depends on (Seg-Grad-CAM).",
    )
    parser.set_defaults(command="segment", run=run)
    _places.add_options(parser, what="IMAGE", kind="picture", method="grad_cam", layer="block3")
    parser.add_argument("--class", dest="class_name", choices=SEGMENTER_CLASSES, help="one class (default: all digits)")
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="explain --class over this mask, a picture of 64 x 64 that is neither black nor transparent there, "
        "such as a PNG file",
    )


def run(options: argparse.Namespace) -> int:
    """Segment and draw."""
    _places.check_input(options, "segment")
    if options.mask is not None and options.class_name is None:
        raise ValueError("--mask needs --class, the class whose logits are explained over it")
    model = jaxcam.pretrained.segmenter()
    image, name = _places.image_and_name(options)
    (file,) = _places.planned(options, name, ["png"])
    cut = jaxcam.cut(model, options.layer)
    outputs = _places.outputs_of(cut, image)
    predicted = np.asarray(outputs.argmax(-1))
    classes, masks = _classes_and_masks(options, predicted)
    method = _places.method_of(options, jaxcam.scores.masked_mean)
    of_class = jax.vmap(lambda number, mask: method(cut, image, (number, mask)))
    maps = np.asarray(of_class(jnp.asarray(classes), jnp.asarray(masks)))
    names = [SEGMENTER_CLASSES[number] for number in classes]
    titles = [f"{name}: {mask.sum()} pixels" for name, mask in zip(names, masks, strict=True)]
    rows = {"mask": list(masks.astype(np.float32)), _places.title_of(options): list(maps)}
    figure = plots.compare([image] * len(names), rows, titles=titles)
    plots.save(figure, file, force=options.force)
    record = {
        "image": options.input or name,
        "classes": [
            {"class": name, "pixels": int(mask.sum()), **_places.described_map(saliency)}
            for name, mask, saliency in zip(names, masks, maps, strict=True)
        ],
        **{"method": options.method, "layer": options.layer, "output": str(file), "files": [str(file)]},
    }
    scores = _places.scores_of_network("masks")
    line = f"{', '.join(titles)}: {file}"
    return _places.print_record(options, record, [line], scores, accuracy(scores, names))


def accuracy(scores: dict[str, Any], names: list[str]) -> str:
    """How good the network is, in one line: the IoU of the explained classes, and the digits that it never finds."""
    of_names = ", ".join(f"{name}: {scores['iou'][name]:.2f}" for name in names)
    never = [name for name in SEGMENTER_CLASSES if scores["iou"][name] == 0]
    line = f"network: on {scores['test_scenes']} held-out scenes the IoU of digits is {scores['iou_of_digits']:.2f}"
    return f"{line} ({of_names})" + (f"; it never finds {', '.join(never)}" if never else "")


def _classes_and_masks(options: argparse.Namespace, predicted: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The numbers of the classes to explain, and the mask `[h w]` of each."""
    counts = np.bincount(predicted.ravel(), minlength=len(SEGMENTER_CLASSES))
    present = [number for number in range(10) if counts[number] >= LEAST_PIXELS]
    if options.mask is not None:
        mask = images.drawn_pixels(options.mask)
        if mask.shape != predicted.shape:
            raise ValueError(f"expected a mask of the image's size {predicted.shape}, got {mask.shape}: {options.mask}")
        if not mask.any():
            raise ValueError(f"expected a mask that is not black everywhere: {options.mask}")
        return [SEGMENTER_CLASSES.index(options.class_name)], np.stack([mask])
    chosen = present
    if options.class_name is not None:
        number = SEGMENTER_CLASSES.index(options.class_name)
        chosen = [number] if counts[number] else []
    if not chosen:
        wanted = "a digit" if options.class_name is None else options.class_name
        others = ", ".join(SEGMENTER_CLASSES[number] for number in present) or "none"
        raise ValueError(f"no pixel of {wanted} is predicted; digits with a mask: {others}")
    return chosen, np.stack([predicted == number for number in chosen])
