"""The work of `jaxcam explain` and `jaxcam compare`: pictures one after the other, their files, and what is printed."""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jaxcam
from jaxcam._base import progress
from jaxcam.cli import _output
from jaxcam.cli._explain_files import Files, write_map_files
from jaxcam.cli._inputs import Input
from jaxcam.explaining import Explanations
from jaxcam.opening import OpenedModel

# What a picture that cannot be explained raises; the others are explained.
OF_A_PICTURE = (OSError, ValueError, TypeError)


class Answer(NamedTuple):
    """What is said of one picture: a record for JSON, and a text, which a picture that failed does not have."""

    record: dict[str, Any]
    text: str | None


class Task(NamedTuple):
    """What is done with every picture: `explain` makes the explanations of one."""

    explain: Callable[..., Explanations]
    networks: list[OpenedModel]
    drawing: dict[str, Any]
    options: argparse.Namespace


def explain_and_print(inputs: Sequence[Input], files: Sequence[Files], task: Task) -> int:
    """Explains all pictures, prints what they are, and returns the exit code."""
    answers = explain_all(inputs, files, task)
    texts = [answer.text for answer in answers if answer.text is not None]
    if task.options.json:
        _output.print_json([answer.record for answer in answers])
    elif texts:
        print(*texts, sep="\n")
    return 0 if len(texts) == len(answers) else _output.FAILURE


def explain_all(inputs: Sequence[Input], files: Sequence[Files], task: Task) -> list[Answer]:
    """The answers for all pictures, under a progress bar if there are several."""
    answers: list[Answer] = []
    work = math.inf if len(inputs) > 1 else 0
    with progress.bar("explaining", len(inputs), flops=work) as advance:
        for clip, files_of_clip in _in_clips(inputs, files, task.options):
            if task.options.gif == "frames":
                figures = _figures_of_clip(clip, files_of_clip, task, answers, advance)
                try:
                    jaxcam.plots.animate(figures, files_of_clip[0].picture, force=task.options.force)
                except OF_A_PICTURE as error:
                    answers.append(_failed(clip[0].clip, error))
                continue
            for picture, own_files in zip(clip, files_of_clip, strict=True):
                answers.append(_answer(picture, own_files, task))
                if advance is not None:
                    advance()
    return answers


def _in_clips(inputs, files, options) -> Iterator[tuple[list[Input], list[Files]]]:
    """The pictures of each clip with their files; without `--gif frames` all of them."""
    if options.gif != "frames":
        yield list(inputs), list(files)
        return
    for clip in dict.fromkeys(picture.clip for picture in inputs):
        chosen = [i for i, picture in enumerate(inputs) if picture.clip == clip]
        yield [inputs[i] for i in chosen], [files[i] for i in chosen]


def _figures_of_clip(clip, files, task, answers, advance) -> Iterator[Any]:
    """The figure of each frame that can be explained. The answers are appended while figures are drawn."""
    for picture, own_files in zip(clip, files, strict=True):
        try:
            explanations = task.explain(picture.picture)
            figure = explanations.figure(**task.drawing)
            write_map_files(explanations, own_files, force=task.options.force)
        except OF_A_PICTURE as error:
            answers.append(_failed(picture.name, error))
        else:
            answers.append(_explained(explanations, own_files, task))
            yield figure
        if advance is not None:
            advance()


def _answer(picture: Input, files: Files, task: Task) -> Answer:
    """Explains one picture and writes its files."""
    try:
        explanations = task.explain(picture.picture)
        _write_picture(explanations, files, task)
        write_map_files(explanations, files, force=task.options.force)
    except OF_A_PICTURE as error:
        return _failed(picture.name, error)
    return _explained(explanations, files, task)


def _write_picture(explanations: Explanations, files: Files, task: Task) -> None:
    options = task.options
    if not (options.filters or options.subset):
        explanations.save(files.picture, force=options.force, **task.drawing)
        return
    explanation = explanations[0]
    colors = {name: value for name, value in task.drawing.items() if name in ("alpha", "colormap")}
    if options.filters:
        maps = list(explanation.on_image(options.method))
        figure = jaxcam.plots.filters(explanation.image, maps, options.filters, **colors)
    else:
        saliency = explanation.maps[options.method]
        figure = jaxcam.plots.neurons(explanation.fitted, saliency, options.subset, region=options.region, **colors)
    jaxcam.plots.save(figure, files.picture, force=options.force)


def _failed(name: str, error: Exception) -> Answer:
    message = _output.one_line(error)
    _output.print_error(message if name in str(error) else f"{name}: {message}")
    return Answer({"image": name, "error": message}, None)


def _explained(explanations: Explanations, files: Files, task: Task) -> Answer:
    options = task.options
    maps = explanations.labeled_maps()
    names = list(explanations[0].maps)
    record = explanations.as_dict()
    first = explanations[0].maps[names[0]]
    record |= {
        "output": str(files.picture),
        "files": [str(path) for path in files.all],
        "method": options.method if options.methods is None else names[0] if len(names) == 1 else names,
        "map_shape": list(first.shape) if len(names) == 1 else record["map_shape"],
        "map_is_zero": not first.any(),
        "maps": {label: _described_map(saliency, label, files) for label, saliency in maps.items()},
        "networks": {network.name: _described_network(network) for network in task.networks},
    }
    lines = [f"{explanations}: {files.picture}" if len(explanations) == 1 else f"{explanations}\n  {files.picture}"]
    lines += [f"  {path}" for path in files.maps]
    zero = [label for label, saliency in maps.items() if not saliency.any()]
    if zero:
        chosen = options.filters or options.subset
        why = "nothing in what was chosen speaks for the class" if chosen else "jaxcam diagnose says why"
        which = "the map is" if len(maps) == 1 else f"{len(zero)} maps are ({', '.join(zero)})"
        lines.append(f"  {which} zero everywhere: {why}")
    return Answer(record, "\n".join(lines))


def _described_map(saliency, label, files) -> dict[str, Any]:
    return {
        "shape": list(saliency.shape),
        "lowest": float(saliency.min()),
        "highest": float(saliency.max()),
        "is_zero": not saliency.any(),
        "files": [str(path) for path, labels in files.maps.items() if label in labels],
    }


def _described_network(network: OpenedModel) -> dict[str, Any]:
    values, fit, is_assumed = network.preprocessing
    return {
        "classes": len(network.class_names),
        "input_size": list(network.input_size),
        "preprocess": values,
        "preprocess_is_assumed": is_assumed,
        "fit": fit,
        "last_activation": network.last_activation,
    }
