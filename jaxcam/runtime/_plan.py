"""What a run will take, measured on one batch of what it lacks, without writing anything.

>>> plan = Plan(inputs=1000, finished=200, batch=8, seconds_to_compile=2.0, seconds_to_load=0.1, seconds_of_batch=0.4,
...             seconds_left=42.0, bytes_of_result=1152, disk_free=10**9, peak_memory=None, peak_device_memory=None)
>>> plan.lacking, plan.disk_bytes
(800, 921600)
"""

import itertools
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from jaxcam.runtime._runner import Example, group_by_shape

MOST_TRIED = 256  # items that are loaded until a batch of one shape is complete


class Plan(NamedTuple):
    """What a run will take; `print(plan)` shows it.

    Attributes:
      inputs: the number of images of the run, or of its share.
      finished: how many of them are finished in the folder.
      batch: images that are computed together; None if nothing is missing, as for the figures below.
      seconds_to_compile: what the first batch took more than the second.
      seconds_to_load: to load the images of a batch.
      seconds_of_batch: to compute a batch, measured once after compilation.
      seconds_left: an estimate for all that is missing, with the time to compile.
      bytes_of_result: what the result of an image takes in the folder, before compression.
      disk_free: bytes that are free on the folder's disk.
      peak_memory: the most memory that this process has had so far, in bytes; None if the system does not say.
      peak_device_memory: the same of the first accelerator; None if it does not say.
    """

    inputs: int
    finished: int
    batch: int | None
    seconds_to_compile: float | None
    seconds_to_load: float | None
    seconds_of_batch: float | None
    seconds_left: float
    bytes_of_result: int | None
    disk_free: int | None
    peak_memory: int | None
    peak_device_memory: int | None

    @property
    def lacking(self) -> int:
        """The number of images that have no result yet."""
        return self.inputs - self.finished

    @property
    def disk_bytes(self) -> int:
        """What the missing results take on disk, before compression."""
        return self.lacking * (self.bytes_of_result or 0)

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {**self._asdict(), "lacking": self.lacking, "disk_bytes": self.disk_bytes}

    def __str__(self) -> str:
        lines = {"inputs": f"{self.inputs:,}", "finished": f"{self.finished:,}", "to compute": f"{self.lacking:,}"}
        if self.batch is not None:
            lines["compiling"] = _duration(self.seconds_to_compile)
            lines["one batch"] = (
                f"{self.batch} in {_duration(self.seconds_of_batch)}, measured once after compiling; loading them "
                f"takes {_duration(self.seconds_to_load)}"
            )
            lines["time left"] = f"about {_duration(self.seconds_left)}"
            free = "" if self.disk_free is None else f", {_size(self.disk_free)} free"
            lines["disk"] = f"{_size(self.disk_bytes)} before compression{free}"
        if self.peak_memory is not None:
            lines["memory"] = f"{_size(self.peak_memory)} at the peak so far"
        if self.peak_device_memory is not None:
            lines["accelerator"] = f"{_size(self.peak_device_memory)} at the peak so far"
        return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


def measured_plan(
    items: Iterable[tuple[str, Any]],
    *,
    recorded: Callable[[str, Any], Any],
    load: Callable[[Any], Example],
    chunk_size: Callable[[Example], int],
    compute: Callable[[list[Example], list[Any]], Iterable[Any]],
    bytes_of: Callable[[Any], int],
    out: str | os.PathLike | None,
    workers: int | None = None,
) -> Plan:
    """The plan of a run whose steps are those of `for_each`.

    Args:
      items: names and items.
      recorded: from a name and an item to its earlier result, or None.
      load: from an item to its example.
      chunk_size: the number of examples of a shape that are computed together.
      compute: from examples and their items to their results; an exception stands for a result that failed.
      bytes_of: what a result takes on disk.
      out: the folder; None for results that stay in memory.
      workers: threads that load.

    Raises:
      Exception: what loading or computing raises, if none of the images that are tried has a result.
    """
    items = list(items)
    lacking = [(name, item) for name, item in items if recorded(name, item) is None]
    figures: tuple = (None, None, None, None)
    size, seconds_left = None, 0.0
    if lacking:
        started = time.perf_counter()
        examples, chosen, loading = _first_chunk(lacking, load, chunk_size)
        results = _results(compute, examples, chosen)
        compiled = time.perf_counter()
        _results(compute, examples, chosen)
        second = time.perf_counter() - compiled
        finished = [result for result in results if not isinstance(result, Exception)]
        if not finished:
            raise results[0]
        compiling = max(0.0, compiled - started - loading - second)
        chunk = max(loading / (workers or 1), second)  # the next batch is loaded while one is computed
        size = len(examples)
        seconds_left = compiling + chunk * -(-len(lacking) // size)
        figures = (compiling, loading, second, max(map(bytes_of, finished)))
    compiling, loading, second, bytes_of_result = figures
    return Plan(
        inputs=len(items), finished=len(items) - len(lacking), batch=size, seconds_to_compile=compiling,
        seconds_to_load=loading, seconds_of_batch=second, seconds_left=seconds_left, bytes_of_result=bytes_of_result,
        disk_free=_free_on_disk(out), peak_memory=_peak_memory(), peak_device_memory=_peak_device_memory(),
    )  # fmt: skip


def _first_chunk(lacking, load, chunk_size):
    """The first examples of one shape that make a chunk, their items, and the seconds to load them.

    Images that cannot be loaded are left out.
    """
    errors: list[Exception] = []

    def loaded():
        for _, item in itertools.islice(lacking, MOST_TRIED):
            started = time.perf_counter()
            try:
                example = load(item)
            except Exception as error:  # as in `for_each`, a failure of the item
                errors.append(error)
                continue
            yield example, (item, time.perf_counter() - started)

    for examples, pairs in group_by_shape(loaded(), chunk_size):
        return examples, [item for item, _ in pairs], sum(seconds for _, seconds in pairs)
    raise errors[0]


def _results(compute, examples, items):
    return list(compute(examples, items))[: len(items)]


def _free_on_disk(out):
    """Bytes that are free where the folder is, or will be."""
    if out is None:
        return None
    path = pathlib.Path(out).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _peak_memory():
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else 1024 * peak


def _peak_device_memory():
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _duration(seconds):
    """A duration for a reader: 0.12 s, 4 min, 3 h 20 min, 2 days 4 h."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def _size(count):
    """A number of bytes for a reader."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} TiB"
