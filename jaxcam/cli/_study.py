"""`jaxcam study`: a page on which people judge maps, and what their answers say."""

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxcam import plots
from jaxcam.analysis import preferences
from jaxcam.cli import _method, _model, _options, _output
from jaxcam.cli._inputs import Input, find_inputs
from jaxcam.datasets import images
from jaxcam.explaining import Explanation, explain_each
from jaxcam.opening import OpenedModel
from jaxcam.runtime import replace

PAGE, KEY = "study.html", "study_key.json"
LONGEST_SIDE = 420  # of a drawn picture, in pixels: two of them stand next to each other
OPACITY = 0.5
DEFAULT_METHODS = "grad_cam,grad_cam_pp"


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "study",
        help="write a page on which people judge maps, or read their answers",
        description="Write study.html, a page without a server, and study_key.json, which participants must not "
        "see. On the page people say which class a map shows and which of two maps they trust more. With --read, print "
        "what the answers that they saved say.",
    )
    parser.set_defaults(command="study", run=run)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="picture files, folders or globs in quotes")
    _options.add_model_options(parser)
    group = parser.add_argument_group("study")
    group.add_argument(
        "--questions",
        type=_options.words,
        default=list(preferences.QUESTIONS),
        metavar="Q,Q",
        help="class, trust, or both (default: both)",
    )
    group.add_argument(
        "--choices",
        type=int,
        default=2,
        metavar="N",
        help="classes to choose from, the most probable ones (default: 2)",
    )
    group.add_argument(
        "--targets", type=_options.words, metavar="C,C", help="the classes to choose from, for all pictures"
    )
    group.add_argument(
        "--title", default="What does the classifier look at?", help="of the page (default: %(default)s)"
    )
    _options.add_method_options(parser.add_argument_group("methods"), several=True)
    parser.set_defaults(methods=DEFAULT_METHODS)
    reading = parser.add_argument_group("answers")
    reading.add_argument("--read", nargs="+", type=pathlib.Path, metavar="FILE", help="files of answers to read")
    reading.add_argument(
        "--key", type=pathlib.Path, metavar="FILE", help=f"with --read: the study's key (default: {KEY} in --out)"
    )
    _options.add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the page and the key, or print what the answers say."""
    return _read(options) if options.read else _write(options)


def _read(options: argparse.Namespace) -> int:
    if options.images:
        raise ValueError("--read takes files of answers, and no pictures go with it")
    path = options.key or options.out / KEY
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no key of a study: it is no JSON") from error
    if not isinstance(key, dict) or not {"study", "sources", "choices", "questions"} <= set(key):
        raise ValueError(f"{path} is no key of a study: give the {KEY} that was written with the page")
    summary = preferences.summarize(preferences.read(options.read, key))
    if options.json:
        _output.print_json(_as_dict(summary))
    else:
        print(summary)
    return 0


def _write(options: argparse.Namespace) -> int:
    if not options.images:
        raise ValueError("expected pictures to make a study of, or --read with files of answers")
    _output.check_folder(options.out)
    page, key = (_output.check_new(options.out / name, options) for name in (PAGE, KEY))
    inputs = find_inputs(options.images)
    names = [entry.name for entry in inputs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two pictures have the name {twice}: a study tells pictures apart by their names")
    opened = _model.open_model(options)
    methods: Any = _method.chosen_methods(options)
    drawn: list[preferences.DrawnMap] = []
    choices: dict[str, tuple[str, ...]] = {}
    for entry in inputs:
        explained = _explained(entry, opened, methods, options)
        choices[entry.name] = tuple(explanation.class_name for explanation in explained)
        drawn += [_drawn(entry.name, name, explanation) for explanation in explained for name in explanation.maps]
    study = preferences.make_study(drawn, choices, questions=options.questions, seed=options.seed, title=options.title)
    replace(key, (json.dumps(study.key, indent=1) + "\n").encode())  # first: a page is of no use without its key
    replace(page, study.page.encode())
    record = {"page": str(page), "key": str(key), "pictures": len(inputs), "forms": study.forms}
    if options.json:
        _output.print_json(record)
    else:
        print(
            f"{page} for participants, {page.stat().st_size / 2**20:.1f} MiB, and {key}, which they must not see\n"
            f"{len(inputs)} pictures; number the participants 1, 2, 3 ...: multiples of {study.forms} are balanced "
            "exactly"
        )
    return 0


def _explained(entry: Input, opened: OpenedModel, methods: Any, options: argparse.Namespace) -> tuple[Explanation, ...]:
    """A picture with the maps of its choices, the most probable one first."""
    targets: Mapping[str, Any] = {"top": options.choices}
    if options.targets is not None:
        targets = {"target": [_model.find_target(name, opened.class_names) for name in options.targets]}
    explained = explain_each(opened, entry.picture, key=jax.random.key(options.seed), methods=methods, **targets)
    return tuple(sorted(explained, key=lambda explanation: -explanation.probability))


def _drawn(picture: str, source: str, explanation: Explanation) -> preferences.DrawnMap:
    """A map on its picture, colored from its lowest to its highest value; what the network did not see stays plain."""
    saliency = explanation.on_image(source)
    seen = saliency.compressed()
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    scaled = (saliency.filled(low) - low) / (high - low) if high > low else np.zeros(saliency.shape)
    hidden = np.ma.getmaskarray(saliency)[..., None]
    colored = (1 - OPACITY) * explanation.image + OPACITY * plots.colors(scaled)
    pixels = np.where(hidden, explanation.image, colored)
    longest = max(pixels.shape[:2])
    size = tuple(max(1, round(side * LONGEST_SIDE / longest)) for side in pixels.shape[:2])
    fitted = images.fit(pixels.astype(np.float32), size)  # type: ignore[arg-type]
    return preferences.DrawnMap(picture, source, explanation.class_name, fitted)


def _as_dict(summary: preferences.Preferences) -> dict[str, Any]:
    """The figures, ready for JSON."""
    return {
        "participants": summary.participants,
        "chance": summary.chance,
        "right": {source: share._asdict() for source, share in summary.right.items()},
        "pairs": [
            {"sources": [first, second], **{name: share._asdict() for name, share in pair._asdict().items()}}
            for (first, second), pair in summary.pairs.items()
        ],
        "class_agreement": summary.class_agreement,
        "trust_agreement": summary.trust_agreement,
    }
