"""What `jaxcam evaluate` leaves in its folder besides the figures of each image: tables and pictures."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import jaxcam
from jaxcam._base.types import Method
from jaxcam.evaluation import CONTROLS, key_of, loaded, own_key, with_controls
from jaxcam.runtime import replace

DIFFERENT = 6  # images in the picture of differences


def write_report(
    evaluation: jaxcam.Evaluation,
    out: pathlib.Path,
    cut: jaxcam.Cut,
    methods: Mapping[str, Method],
    load: Callable[[str], jaxcam.Example],
    key: jax.Array,
    *,
    class_name: Callable[[int], str] = str,
) -> list[pathlib.Path]:
    """Write the tables and pictures of an evaluation, and return their paths.

    Each file is complete or absent. A picture of an earlier report that this evaluation does not have is removed.

    Args:
      evaluation: what `jaxcam.evaluate` returned.
      out: the folder.
      cut: the `Cut` that was evaluated.
      methods: the methods that were evaluated, by name.
      load: from an image's name to its example, as arrays.
      key: the random key of the evaluation.
      class_name: from the number of a class to its name for readers.
    """
    tables = {
        "table.md": evaluation.markdown() + "\n",
        "table.txt": f"{evaluation}\n",
        "table.json": json.dumps(estimates_of(evaluation), indent=1) + "\n",
    }
    for name, text in tables.items():
        replace(out / name, text.encode())
    pictures = {
        "curves.png": jaxcam.plots.curves(evaluation) if evaluation.images and evaluation.curves() else None,
        "differences.png": _plot_differences(evaluation, cut, methods, load, key, class_name),
    }
    for name, figure in pictures.items():
        if figure is None:
            (out / name).unlink(missing_ok=True)
        else:
            jaxcam.plots.save(figure, out / name, force=True)
    return [out / name for name in [*tables, *(name for name, figure in pictures.items() if figure is not None)]]


def estimates_of(evaluation: jaxcam.Evaluation) -> dict[str, Any]:
    """An evaluation as a dictionary, without the figures of single images, which are in the run's folder."""
    return {name: value for name, value in evaluation.as_dict().items() if name != "images"}


def _plot_differences(evaluation, cut, methods, load, key, class_name):
    """The images on which the reference differs most from the method that is furthest from it; None without one."""
    reference = evaluation.reference
    column = evaluation.deciding_column()
    others = [name for name in evaluation.methods if name not in CONTROLS and name != reference]
    if column is None or not others:
        return None

    def value(image, method):
        return evaluation.images[image]["rows"][method][column]

    def mean_difference(method):
        return np.mean([abs(value(image, method) - value(image, reference)) for image in images_of[method]])

    images_of = {name: evaluation.most_different(column, name, reference, count=DIFFERENT) for name in others}
    method = max(others, key=mean_difference)
    if mean_difference(method) == 0:
        return None
    images = images_of[method]
    shown = evaluation.shown_column(column)
    examples = [load(image) for image in images]
    image_keys = [own_key(key, loaded(example)) for example in examples]  # those of the evaluation
    functions = with_controls(methods)
    maps = {
        name: [
            functions[name](
                cut, example.image, evaluation.images[image]["target"], **key_of(functions[name], image_key)
            )
            for example, image, image_key in zip(examples, images, image_keys, strict=True)
        ]
        for name in (reference, method)
    }
    return jaxcam.plots.differences(
        [example.image for example in examples],
        maps,
        {name: [f"{shown.title} {shown.number(value(image, name))}" for image in images] for name in maps},
        titles=[f"{image}\nclass {class_name(evaluation.images[image]['target'])}" for image in images],
        masks=[example.mask for example in examples],
        boxes=[example.boxes for example in examples],
        heading=f"{shown}: where {method} differs most from {reference}",
    )
