"""`jaxcam batch`: save the maps of all pictures in a folder as arrays."""

import argparse
import pathlib
from typing import Any

import jaxcam
from jaxcam.cli import _cluster, _method, _model, _options, _output

MEBIBYTE = 2**20
NAMED = 3  # skipped files whose names are printed


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "batch",
        help="save the maps of all pictures in a folder as arrays",
        description="Save one map for each picture, as NAME.npy in another folder. Hidden files and files of other "
        "kinds are skipped. The same command resumes a run that was stopped.",
    )
    parser.set_defaults(command="batch", run=run)
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="folder of the pictures")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FOLDER",
        required=True,
        help="folder for the maps, or a store NAME.zarr for many; it is made if it does not exist",
    )
    _options.add_model_options(parser)
    _options.add_target_option(parser)
    _options.add_method_options(parser)
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures at a time (default: as many as fit in the memory)"
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="MIB",
        help="memory for what is computed at a time (default: a share of the machine's)",
    )
    parser.add_argument(
        "--stored", choices=("float16", "uint8"), help="with NAME.zarr: fewer bytes, with a scale for each map"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read pictures ahead (default: none)")
    parser.add_argument(
        "--share",
        type=_share,
        metavar="I/N",
        help="explain every N-th picture from the I-th, counted from 0, such as 1/4",
    )
    parser.add_argument(
        "--log", type=pathlib.Path, metavar="FILE", help="a line of JSON with figures every ten seconds"
    )
    _cluster.add_ray_options(parser, result="--out is a store NAME.zarr")
    _options.add_dry_run_option(parser)
    _options.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Compute and save the maps that are missing."""
    if options.ray is not None and options.out.suffix != ".zarr":
        raise ValueError(f"expected --out NAME.zarr with --ray, got {options.out}")
    _cluster.check_ray_options(options)
    method = _method.chosen_method(options)
    pictures = jaxcam.datasets.pictures_in(options.folder)
    skipped = _describe_skipped(jaxcam.datasets.other_files_in(options.folder))
    if not pictures:
        raise ValueError(f"{options.folder} has no pictures" + (f": {skipped}" if skipped else ""))
    if skipped:
        _output.print_error(f"{options.folder}: {skipped}")
    opened = _model.open_model(options)
    target, key = _model.find_target(options.target, opened.class_names), _method.key_of_method(options)
    settings: dict[str, Any] = {
        "out": options.out,
        "stored": options.stored,
        "memory": None if options.memory is None else options.memory * MEBIBYTE,
    }
    if options.batch_size is not None:
        settings["batch_size"] = options.batch_size
    if options.ray is not None:
        over_ray = _cluster.explain_over_ray(options, method, opened, pictures, target, key, **settings)
        return _print_explained(over_ray, opened, options)
    settings |= {"load": opened.load, "workers": options.workers, "share": options.share}
    if options.dry_run:
        plan = jaxcam.runtime.plan_batch(method, opened.cut, pictures, target, key, **settings)
        return _output.print_plan(plan, options)
    explained = jaxcam.explain_batch(method, opened.cut, pictures, target, key, **settings, log=options.log)
    return _print_explained(explained, opened, options)


def _print_explained(explained, opened, options) -> int:
    if options.json:
        _output.print_json(
            {"out": str(options.out), "layer": opened.layer, "maps": len(explained.maps), "failed": explained.failed}
        )
    else:
        failures = f", {len(explained.failed)} failed: the same command tries them again" if explained.failed else ""
        print(f"{options.out}: {len(explained.maps)} maps at layer {opened.layer} of {opened.name}{failures}")
    return _output.FAILURE if explained.failed else 0


def _share(text: str) -> tuple[int, int]:
    number, _, shares = text.partition("/")
    if not (number.isdecimal() and shares.isdecimal() and int(number) < int(shares)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N, such as 0/4")
    return int(number), int(shares)


def _describe_skipped(files: list[pathlib.Path]) -> str:
    """The files that are not pictures: how many they are, and the names of the first ones."""
    hidden = [file for file in files if file.name.startswith(".")]
    others = [file.name for file in files if file not in hidden]
    names = ", ".join([*others[:NAMED], *(["..."] if len(others) > NAMED else [])])
    parts = [f"{_count(others, 'file')} of other kinds ({names})"] if others else []
    parts += [_count(hidden, "hidden file")] if hidden else []
    return f"skipped {' and '.join(parts)}" if parts else ""


def _count(things, name):
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
