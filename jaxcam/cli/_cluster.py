"""`--ray`: `jaxcam batch` and `jaxcam evaluate` over the actors of a Ray cluster."""

import argparse
import contextlib
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax

import jaxcam
from jaxcam.cli import _model
from jaxcam.evaluation.ray import evaluate_examples
from jaxcam.opening import OpenedModel
from jaxcam.runtime import Explained, blocks_of, checked_names, import_ray
from jaxcam.runtime.ray import explain_dataset

BATCH_SIZE = 16  # pictures that an actor gets at a time


def add_ray_options(parser: Any, *, result: str) -> None:
    """`--ray` and its companions; `result` says what `--out` is."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="explain over a Ray cluster: its address, auto for the one that this machine belongs to, or local for one "
        f"that is started here; {result}; every node sees pictures and models under the same paths",
    )
    group.add_argument("--actors", type=int, metavar="N", help="with --ray: networks that explain at the same time")
    group.add_argument("--gpus", type=float, metavar="N", help="with --ray: GPUs for each of them (default: 0)")


def check_ray_options(options: argparse.Namespace) -> None:
    """Raises a ValueError for options that do not go with `--ray`, or not without, and if Ray is not installed."""
    if options.ray is None:
        for name in ("actors", "gpus"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} goes with --ray ADDRESS alone")
        return
    for name in ("share", "workers", "dry_run"):
        if getattr(options, name, None):
            raise ValueError(f"--{name.replace('_', '-')} does not go with --ray, whose actors divide the pictures")
    if options.actors is not None and options.actors < 1:
        raise ValueError(f"expected --actors of at least 1, got {options.actors}")
    import_ray()


def explain_over_ray(
    options: argparse.Namespace,
    method: Any,
    opened: OpenedModel,
    pictures: Sequence[pathlib.Path],
    target: int | None,
    key: jax.Array | None,
    **settings: Any,
) -> Explained:
    """The maps of the pictures, as `explain_batch` makes them; each actor opens the network by the same options."""
    names = checked_names(None, pictures)
    # Absolute, because actors run in other folders.
    rows = [
        {"image": str(picture.resolve()), "name": name, "number": number}
        for number, (picture, name) in enumerate(zip(pictures, names, strict=True))
    ]
    with connected(options.ray) as ray:
        batch_size = settings.pop("batch_size", BATCH_SIZE)
        dataset = ray.data.from_items(rows, override_num_blocks=blocks_of(len(rows), batch_size))
        return explain_dataset(
            dataset, functools.partial(cut_of, options), method, key, target=target, load=opened.load,
            numbers="number", num_gpus=options.gpus, concurrency=options.actors or 1, log=options.log,
            batch_size=batch_size, **settings,
        )  # fmt: skip


def evaluate_over_ray(
    options: argparse.Namespace, examples: Sequence[jaxcam.Example], *arguments: Any, **settings: Any
) -> jaxcam.Evaluation:
    """What `jaxcam.evaluate` measures; each actor opens the network by the same options."""
    with connected(options.ray):
        return evaluate_examples(
            functools.partial(cut_of, options), [_with_absolute_paths(example) for example in examples], *arguments,
            num_gpus=options.gpus, concurrency=options.actors or 1, **settings,
        )  # fmt: skip


def _with_absolute_paths(example):
    """The example for actors, which run in other folders."""
    mask = example.mask
    if isinstance(mask, jaxcam.datasets.MaskFile):
        mask = mask._replace(path=pathlib.Path(mask.path).resolve())
    return example._replace(image=pathlib.Path(example.image).resolve(), mask=mask)


def cut_of(options: argparse.Namespace) -> jaxcam.Cut:
    """The cut that the options name."""
    return _model.open_model(options).cut


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one that is started here and ends afterwards.

    Raises:
      ValueError: Ray is not installed; there is no cluster at the address.
    """
    ray = import_ray()
    try:
        ray.init(address, log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:
        raise ValueError(f"--ray {address}: there is no cluster that answers ({error})") from error
    try:
        yield ray
    finally:
        ray.shutdown()
