"""The small runs that `benchmarks.faults` disturbs, and the processes that they run in."""

import json
import logging
import os
import pathlib
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam.runtime import _zarr

COUNT = 40
NAMES = [f"{i:02}" for i in range(COUNT)]
IN_SHARD = 8  # maps, so that a run has several shards
POISON = b"poison"


def network_and_images() -> tuple[jaxcam.Cut, np.ndarray]:
    """A cut, and images that a PNG file holds exactly."""
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)}
    cut = jaxcam.Cut(params, lambda p, x: jnp.maximum(x @ p["kernel"], 0), lambda p, A, x: A.mean((0, 1)), "hidden")
    return cut, (rng.integers(0, 256, (COUNT, 6, 5, 3)) / np.float32(255)).astype(np.float32)


def explain(
    out: pathlib.Path,
    form: str,
    *,
    share: tuple[int, int] = (0, 1),
    pause: float = 0.0,
    elements: Sequence[Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    at: Callable[[int], None] = lambda i: None,
) -> dict[str, str]:
    """A run of one form: maps in files, maps in a store, or the figures of an evaluation.

    Args:
      out: the folder.
      form: "files", "store" or "figures".
      share: number of the share, and the number of shares.
      pause: seconds that loading an image takes.
      elements: what `load` takes, and else the images.
      load: from an element to the image.
      at: called with the number of each image when it is loaded.

    Returns:
      Why images failed.
    """
    _zarr.MOST_MAPS = IN_SHARD
    cut, images = network_and_images()

    def load_number(i):
        at(i)
        time.sleep(pause)
        return images[i]

    if form == "figures":
        examples: Any = range(COUNT)
        return jaxcam.evaluate(
            cut, examples, [jaxcam.grad_cam], ["drop"], out=out, share=share, target=1,
            load=lambda i: jaxcam.Example(load_number(i), name=NAMES[i]),
        ).failed  # fmt: skip
    return jaxcam.explain_batch(
        jaxcam.grad_cam, cut, range(COUNT) if elements is None else elements, 1, names=NAMES, out=out, share=share,
        load=load or load_number, batch_size=4,
    ).failed  # fmt: skip


def in_process(report: str, out: str, form: str, share: tuple[int, int], pause: float, dies_at: int | None) -> None:
    """What a process runs: it writes what failed, or the error that ended it, into a file.

    Args:
      report: the file.
      out: the folder of the results.
      form: of the results.
      share: number of the share, and the number of shares.
      pause: seconds that loading an image takes.
      dies_at: the rename that copies half of the file and kills the process; None for none.
    """
    logging.getLogger("jaxcam").setLevel(logging.ERROR)
    if dies_at is not None:
        os.replace = torn_replace(dies_at, lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[assignment]
    try:
        content: dict[str, Any] = {"failed": explain(pathlib.Path(out), form, share=share, pause=pause)}
    except Exception as error:
        content = {"error": described(error)}
    pathlib.Path(report).write_text(json.dumps(content))


def torn_replace(number: int, then: Callable[[], None]) -> Callable[[Any, Any], None]:
    """`os.replace`, which copies half of a file at a call of that number, and then does something that ends it."""
    replace, left = os.replace, [number]

    def torn(source, target, **options):
        left[0] -= 1
        if left[0] != -1:
            return replace(source, target, **options)
        content = pathlib.Path(source).read_bytes()
        with open(target, "wb") as file:
            file.write(content[: len(content) // 2])
        then()

    return torn


def described(error: BaseException) -> dict[str, Any]:
    """An error, and whether a user reads it as one clear line: it is an error of input or output, and not a bug's."""
    text = str(error)
    is_clear = isinstance(error, ValueError | OSError) and type(error).__module__ == "builtins" and "\n" not in text
    return {
        "text": f"{type(error).__name__}: {text}",
        "clear": bool(is_clear and 20 < len(text) < 600),
        "trace": "".join(traceback.format_exception(error)[-4:]),
    }


def load_or_die(path: str) -> np.ndarray:
    """An image from a file; a file that is poison kills the process."""
    content = pathlib.Path(path).read_bytes()
    if content == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.frombuffer(content, np.float32).reshape(6, 5, 3)


def results(out: pathlib.Path, form: str) -> dict[str, Any]:
    """By name the results of a folder: arrays, or an exception in the place of one that cannot be read."""
    if form == "figures":
        return {file.stem: _record(file) for file in sorted((out / "images").glob("[!.]*.json"))}
    found: dict[str, Any] = {}
    maps = jaxcam.runtime.open_maps(out)
    for name in maps:
        try:
            found[name] = maps[name]
        except Exception as error:
            found[name] = error
    return found


def _record(file):
    try:
        return np.array(list(_numbers(json.loads(file.read_text())["rows"])))
    except ValueError as error:
        return ValueError(f"{file} is damaged ({error}): remove it")


def _numbers(value):
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _numbers(value[name])
    else:
        yield np.nan if value is None else float(value)


def repeated(out: pathlib.Path) -> int:
    """The names that the index of a store has more than once."""
    names = [
        name
        for file in (out / "index").glob("*.json")
        if file.stat().st_size
        for name in json.loads(file.read_text())["names"]
    ]
    return len(names) - len(set(names))


def copy_of(out: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A copy of a folder of results."""
    shutil.copytree(out, target)
    return target
