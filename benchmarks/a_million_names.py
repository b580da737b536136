"""A million names that nobody lists: memory stays level, and a finished million is resumed in seconds.

An iterable yields names, and images of one pixel are made when they are loaded; the method is one product. Each run is
a process of its own, which reports its largest memory so far as it goes.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from unittest import mock

import numpy as np

from benchmarks import peers

MARKS = 10  # reports of memory in a run


def measure(*, small: bool = False) -> dict:
    """Seconds, rates and memory; small takes 2,000 names."""
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise peers.Missing("it writes a Zarr store: install the extra zarr") from error
    count = 2_000 if small else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        out = str(pathlib.Path(folder) / "maps.zarr")
        first, again = _run(out, count), _run(out, count)
    return {
        "ratios": {
            "memory at the end / after a tenth of the names": first["MiB"][-1] / first["MiB"][0],
            "seconds to the first map": first["first"][0],
            "seconds to resume all, finished": again["seconds"],
        },
        "bounds": {"after a tenth of the names": 1.25, "seconds to the first map": 10, "finished": 30},
        "names": count,
        "MiB after each tenth": first["MiB"],
        "seconds after each tenth": first["times"],
        "images a second": count / first["seconds"],
        "names a second when resumed": count / again["seconds"],
        "MiB after each tenth when resumed": again["MiB"],
    }


def _run(out, count):
    command = [sys.executable, "-m", "benchmarks.a_million_names", out, str(count)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def product(cut, image, target):
    """A method that takes no time: the weighted channels of a pixel."""
    return cut.features(cut.params, image) @ cut.params


def explain_all(out: str, count: int) -> dict:
    """Explains images of so many names, and returns what it took: seconds, and MiB after each tenth of the names."""
    started = time.perf_counter()
    import jaxcam
    from jaxcam.runtime import _zarr

    memory: list[float] = []
    times: list[float] = []
    first: list[float] = []

    def note():
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        times.append(round(time.perf_counter() - started, 2))

    def numbers():
        for i in range(count):
            if i and i % (count // MARKS) == 0:
                note()
            yield i

    def load(i):
        return np.full((1, 1, 3), i % 1000 / 1000, np.float32)

    write = _zarr.ZarrMaps.write

    def noted_write(self, *arguments):
        if not first:
            first.append(time.perf_counter() - started)
        write(self, *arguments)

    cut = jaxcam.Cut(np.ones(3, np.float32), lambda p, x: x, lambda p, A, x: A.mean((0, 1)), "pixels")
    with mock.patch.object(_zarr.ZarrMaps, "write", noted_write):
        explained = jaxcam.explain_batch(
            product, cut, numbers(), load=load, names=lambda i: f"train n{i:08}", target=1, out=out
        )  # fmt: skip
    note()
    assert len(explained.maps) == count and not explained.failed
    return {"seconds": times[-1], "times": times, "MiB": memory, "first": first}


if __name__ == "__main__":
    print(json.dumps(explain_all(sys.argv[1], int(sys.argv[2]))))
