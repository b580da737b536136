"""An evaluation as its command has it: methods by their text, a data set by its layout, and the files that are left.

>>> sorted(methods_of("grad_cam,smooth_grad_cam_pp:n_samples=50:std=0.15"))
['Grad-CAM', 'Smooth Grad-CAM++, n_samples 50, std 0.15']
"""

import ast
import functools
import inspect
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import jaxcam
from jaxcam import datasets
from jaxcam._base.types import Method
from jaxcam.cutting import Cut
from jaxcam.datasets import Example
from jaxcam.evaluation import CONTROLS, Evaluation, key_of, loaded, measures, own_key, shown_as, with_controls
from jaxcam.evaluation.measures import Measure, without_options
from jaxcam.methods import TITLES, options_of
from jaxcam.plots import curves, differences, save
from jaxcam.runtime import replace

# What says how a data set is read, as the loaders call it.
LOADING = ("labels", "boxes", "blacklist", "root", "inside", "ignore", "columns", "where", "split")
DIFFERENT = 6  # images in the picture of those where two methods differ most

# Of the columns that are measured the first decides where methods differ.
DECIDING = ("adcc", "average_drop", "energy", "mask_iou", "box_iou", "deletion", "insertion", "road", "found")


def methods_of(text: str) -> dict[str, Method]:
    """Methods from a text such as "grad_cam,smooth_grad_cam_pp:n_samples=50:numerator=first", by their titles.

    Raises:
      ValueError: a method that is not known, an option that it does not take, or has no value.
    """
    found: dict[str, Method] = {}
    for part, name, given in _parts(text):
        if name not in TITLES:
            raise ValueError(f"no method {name!r}: choose of {', '.join(TITLES)}")
        method = getattr(jaxcam, name)
        options = _options(name, options_of(method), given)
        samples = options.get("n_samples", inspect.signature(method).parameters.get("n_samples"))
        if {"std", "relative"} & set(options) and getattr(samples, "default", samples) == 0:
            raise ValueError(f"{part!r} draws no noise: give n_samples= as well")
        title = ", ".join([TITLES[name], *(pair.replace("=", " ") for pair in given)])
        if title in found:
            raise ValueError(f"{part!r} is there twice")
        found[title] = functools.partial(method, **options) if options else method
    return found


def format_of(data: pathlib.Path) -> str:
    """The layout that a data set looks like."""
    return "csv" if data.is_file() else "voc" if (data / "JPEGImages").is_dir() else "folder"


def examples_of(data: pathlib.Path, kind: str, **options: Any) -> list[Example]:
    """The examples of a data set of a layout, a function of `jaxcam.datasets`; options that are None are not given.

    Raises:
      ValueError, FileNotFoundError: as that function; an option that does not go with the layout.
    """
    load = getattr(datasets, kind)
    taken = inspect.signature(load).parameters
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for name in given:
        if name not in taken:
            raise ValueError(f"--{name} does not go with --format {kind}")
    if kind == "imagenet" and "labels" not in given:
        raise ValueError("--format imagenet needs --labels FILE")
    return load(data, **given)


def write(
    found: Evaluation,
    out: pathlib.Path,
    cut: Cut,
    methods: Mapping[str, Method],
    load: Callable[[str], Example],
    key: jax.Array,
    *,
    shown: Callable[[int], str] = str,
) -> list[pathlib.Path]:
    """The tables and pictures of an evaluation, each file whole or not there; their paths.

    Args:
      found: what `jaxcam.evaluate` returned.
      out: the folder.
      cut: the `Cut` that was evaluated.
      methods: as they were evaluated.
      load: from an image's name to its example, as arrays.
      key: as it was evaluated with.
      shown: a class as a reader knows it.
    """
    tables = {"table.md": found.markdown() + "\n", "table.txt": f"{found}\n"}
    tables["table.json"] = json.dumps(estimates_of(found), indent=1) + "\n"
    for name, text in tables.items():
        replace(out / name, text.encode())
    pictures = {}
    if found.images and found.curves():
        pictures["curves.png"] = curves(found)
    different = _differences(found, cut, methods, load, key, shown)
    if different is not None:
        pictures["differences.png"] = different
    for name in ("curves.png", "differences.png"):
        if name in pictures:
            save(pictures[name], out / name, force=True)
        else:  # one of other methods or images would not belong to these tables
            (out / name).unlink(missing_ok=True)
    return [out / name for name in [*tables, *pictures]]


def estimates_of(found: Evaluation) -> dict[str, Any]:
    """All but the figures of single images, which are in the run's folder."""
    return {name: value for name, value in found.as_dict().items() if name != "images"}


def _differences(found, cut, methods, load, key, shown):
    """The images where the method that is furthest from the reference differs most from it; None where nothing does."""
    others = [name for name in found.methods if name not in CONTROLS and name != found.reference]
    estimates = found.estimates() if len(found.apart()) < len(found.images) else {}
    columns = estimates[found.reference] if estimates else {}
    column = next((each for name in DECIDING for each in columns if without_options(each) == name), None)
    if column is None or not others:
        return None
    drawn = [(name, found.most_different(column, name, found.reference, count=DIFFERENT)) for name in others]

    def value(name, method):
        return found.images[name]["rows"][method][column]

    def distance(pair):
        method, names = pair
        return np.mean([abs(value(name, method) - value(name, found.reference)) for name in names])

    method, names = max(drawn, key=distance)
    if distance((method, names)) == 0:
        return None
    how = shown_as(column)
    examples = [load(name) for name in names]
    keys = [own_key(key, loaded(example)) for example in examples]  # as they were drawn from
    maps, figures = {}, {}
    for each in (found.reference, method):
        explain = with_controls(methods)[each]
        maps[each] = [
            explain(cut, example.image, found.images[name]["target"], **key_of(explain, key))
            for example, name, key in zip(examples, names, keys, strict=True)
        ]
        figures[each] = [f"{how.title} {how.number(value(name, each))}" for name in names]
    titles = [f"{name}\nclass {shown(found.images[name]['target'])}" for name in names]
    return differences(
        [example.image for example in examples],
        maps,
        figures,
        titles=titles,
        masks=[example.mask for example in examples],
        boxes=[example.boxes for example in examples],
        heading=f"{how}: where {method} differs most from {found.reference}",
    )


def metrics_of(text: str) -> list[Measure]:
    """Metrics from a text such as "drop,pointing:tolerance=15,road:shares=(0.1,0.5)".

    Raises:
      ValueError: a metric that is not known, an option that it does not take, or has no value.
    """
    found: dict[str, Measure] = {}
    for part, name, given in _parts(text):
        if part in found:
            raise ValueError(f"{part!r} is there twice")
        if name not in measures.MEASURES:
            raise ValueError(f"no metric {name!r}: choose of {', '.join(measures.MEASURES)}")
        measure = measures.MEASURES[name]
        # The score is one for the whole evaluation.
        options = _options(name, [each for each in options_of(measure) if each != "score"], given)
        found[part] = functools.partial(measure, **options) if options else measure
    return list(found.values())


def _parts(text):
    """What commas divide, but for those in brackets; each with its name, and with the options after it."""
    for part in re.split(r",(?![^(\[]*[)\]])", text):
        name, *given = part.strip().split(":")
        yield part.strip(), name, given


def _options(name, taken, given):
    """Options from texts such as "n_samples=5"."""
    options: dict[str, Any] = {}
    for pair in given:
        option, _, value = pair.partition("=")
        if option not in taken or not value:
            choices = f"choose of {', '.join(f'{each}=' for each in taken)}" if taken else "it takes none"
            raise ValueError(f"{name} has no option {pair!r}: {choices}")
        if option in options:
            raise ValueError(f"{name} has {option!r} twice")
        if option == "score" and not hasattr(jaxcam.scores, value):
            raise ValueError(f"no score {value!r}: choose of logit, log_softmax")
        options[option] = getattr(jaxcam.scores, value) if option == "score" else _value(value)
    return options


def _value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word, such as exp
