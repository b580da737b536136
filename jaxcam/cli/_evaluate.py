"""`jaxcam evaluate`: compare methods and controls on labeled images."""

import argparse
import functools
import inspect
import pathlib
from typing import Any

import jax

import jaxcam
from jaxcam.cli import _cluster, _model, _options, _output
from jaxcam.cli._method_texts import parse_methods, parse_metrics
from jaxcam.cli._report import estimates_of, write_report
from jaxcam.evaluation import METRICS

LAYOUTS = ("csv", "voc", "imagenet", "folder")
# The options of this command that are options of a loader, `jaxcam.datasets.csv` and so on.
LOADER_OPTIONS = ("labels", "boxes", "blacklist", "root", "inside", "ignore", "columns", "where", "split")


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare methods and controls on labeled images, as tables",
        description="Compare methods and controls on labeled images: tables with intervals, curves, and the images "
        "on which methods differ most. The same command resumes a run that was stopped; methods and metrics may be "
        "added.",
    )
    parser.set_defaults(command="evaluate", run=run)
    parser.add_argument("data", type=pathlib.Path, metavar="DATA", help="a folder, or a csv of image, label, mask")
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="FOLDER", required=True, help="folder for all that is written"
    )
    _add_data_options(parser.add_argument_group("data"))
    _options.add_model_options(parser, fit="stretch")
    _options.add_activation_option(parser)
    parser.add_argument(
        "--methods",
        default="grad_cam,grad_cam_pp,smooth_grad_cam_pp",
        metavar="M,M",
        help="methods, with options after colons: grad_cam_pp:derivatives=closed_form (default: %(default)s)",
    )
    parser.add_argument(
        "--metrics",
        metavar="M,M",
        help=f"some of {', '.join(METRICS)}, with options after colons: pointing:tolerance=15 (default: all)",
    )
    parser.add_argument(
        "--target",
        dest="explained",
        choices=("predicted", "label"),
        default="predicted",
        help="the class to explain (default: %(default)s)",
    )
    parser.add_argument("--reference", help="the method to compare the others with (default: Grad-CAM)")
    _options.add_seed_option(parser, "seed of everything random")
    _cluster.add_ray_options(parser, result="this process writes --out")
    _options.add_dry_run_option(parser)
    _options.add_json_option(parser)


def _add_data_options(group) -> None:
    group.add_argument("--format", choices=LAYOUTS, help="(default: what DATA looks like)")
    group.add_argument("--labels", type=pathlib.Path, metavar="FILE", help="with imagenet: the file of labels")
    group.add_argument("--boxes", type=pathlib.Path, metavar="FOLDER", help="with imagenet: the annotations")
    group.add_argument("--blacklist", type=pathlib.Path, metavar="FILE", help="with imagenet: the images to leave out")
    group.add_argument("--synsets", type=pathlib.Path, metavar="FILE", help="ImageNet's synsets in the outputs' order")
    group.add_argument("--root", type=pathlib.Path, metavar="FOLDER", help="with csv: the folder its paths start from")
    group.add_argument("--masks", metavar="FOLDER", help="with csv: the folder of the masks; with voc: 'yes'")
    group.add_argument("--inside", type=_options.integers, metavar="V,V", help="with csv: mask values of the object")
    group.add_argument("--ignore", type=_options.integers, metavar="V,V", help="with csv: mask values not counted")
    group.add_argument(
        "--columns", type=_options.pairs, metavar="K=V,K=V", help="with csv: other names of columns, image=file"
    )
    group.add_argument("--where", type=_options.pairs, metavar="K=V,K=V", help="with csv: rows to keep, split=test")
    group.add_argument("--split", help="with voc: the list of images (default: test)")
    group.add_argument("--limit", type=int, metavar="N", help="number of images, spread evenly (default: all)")


def run(options: argparse.Namespace) -> int:
    """Evaluate what is missing, write the report and print the tables."""
    _cluster.check_ray_options(options)
    methods = parse_methods(options.methods)
    metrics = None if options.metrics is None else parse_metrics(options.metrics)
    names = _model.known_class_names(_model.source_of(options), options)
    examples = _spread(_listed_examples(options, names), options.limit)
    opened = _model.open_model(options)
    load = functools.partial(jaxcam.datasets.load, shape=opened.input_size, fit=options.fit)
    key = jax.random.key(options.seed)
    settings: dict[str, Any] = {
        "target": options.explained,
        "reference": options.reference,
        "load": load,
        "out": options.out,
    }
    if options.dry_run:
        plan = jaxcam.evaluation.plan_evaluation(opened.cut, examples, methods, metrics, key, **settings)
        return _output.print_plan(plan, options)
    if options.ray is None:
        evaluation = jaxcam.evaluate(opened.cut, examples, methods, metrics, key, **settings)
    else:
        evaluation = _cluster.evaluate_over_ray(options, examples, methods, metrics, key, **settings)
    example_of = {example.name: example for example in examples}
    written = write_report(
        evaluation,
        options.out,
        opened.cut,
        methods,
        lambda name: load(example_of[name]),
        key,
        class_name=opened.class_names.__getitem__,
    )
    if options.json:
        _output.print_json(estimates_of(evaluation))
    else:
        print(f"{opened.name}, layer {opened.layer}\n\n{evaluation}\n\n{', '.join(map(str, written))}")
    return _output.FAILURE if evaluation.failed else 0


def layout_of(data: pathlib.Path) -> str:
    """The layout that a data set looks like."""
    if data.is_file():
        return "csv"
    return "voc" if (data / "JPEGImages").is_dir() else "folder"


def _listed_examples(options: argparse.Namespace, names: tuple[str, ...] | None) -> list[jaxcam.Example]:
    """The examples that the options name, read by a function of `jaxcam.datasets`."""
    layout = options.format or layout_of(options.data)
    given: dict[str, Any] = {name: getattr(options, name) for name in LOADER_OPTIONS}
    given["masks"] = options.masks == "yes" if layout == "voc" else options.masks
    if options.synsets is not None:
        given["classes"] = jaxcam.datasets.synsets(options.synsets)
    elif layout != "imagenet" and not (layout == "folder" and jaxcam.datasets.of_synsets(options.data)):
        given["classes"] = names  # names of classes are no synsets
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    load = getattr(jaxcam.datasets, layout)
    known = inspect.signature(load).parameters
    for name in given:
        if name not in known:
            raise ValueError(f"--{name} does not go with --format {layout}")
    if layout == "imagenet" and "labels" not in given:
        raise ValueError("--format imagenet needs --labels FILE")
    return load(options.data, **given)


def _spread(examples: list[jaxcam.Example], limit: int | None) -> list[jaxcam.Example]:
    """So many of the examples, spread evenly over all."""
    if limit is None:
        return examples
    if limit < 1:
        raise ValueError(f"expected --limit of at least 1, got {limit}")
    count = min(limit, len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]
