"""A Zarr store of a million maps opens in seconds and reads one map by its name in milliseconds.

Maps of 7 x 7 go through the store's writer without a network; the same maps are written one file each. Then the store
is opened anew, as a run that goes on opens it, and maps are read by name, at random.
"""

import pathlib
import random
import resource
import tempfile
import time

import numpy as np

from benchmarks import peers
from jaxcam.runtime import open_maps
from jaxcam.runtime._store import MapFolder
from jaxcam.runtime._zarr import ZarrMaps

READ = 200


def measure(*, small: bool = False) -> dict:
    """Rates, times and memory; small takes 3,000 maps, and a tenth of them one file each."""
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise peers.Missing("it writes a Zarr store: install the extra zarr") from error
    count = 3_000 if small else 1_000_000
    files = count // 10 if small else 20_000
    saliency = np.random.default_rng(0).uniform(size=(1000, 7, 7)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "maps.zarr"
        store = ZarrMaps(out)
        store.open({"images": {}})
        started = time.perf_counter()
        for i in range(count):
            store.write(f"picture {i}", "", saliency[i % 1000])
        store.close()
        written = time.perf_counter() - started
        folder_of_files = MapFolder(pathlib.Path(folder))
        one_each = _seconds(lambda: [folder_of_files.write(f"{i}", saliency[i % 1000], i) for i in range(files)])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        maps = open_maps(out)
        opened = time.perf_counter() - started
        assert len(maps) == count
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        chosen = random.Random(0).sample(range(count), READ)
        times = [_seconds(lambda i=i: np.testing.assert_array_equal(maps[f"picture {i}"], saliency[i % 1000]))
                 for i in chosen]  # fmt: skip
    return {
        "ratios": {
            "maps written a second, Zarr / one file each": (count / written) / (files / one_each),
            "milliseconds to read one map by its name, median": 1e3 * float(np.median(times)),
            "milliseconds to read one map by its name, longest": 1e3 * max(times),
            "seconds to open the store": opened,
        },
        "bounds": {"seconds to open the store": 10, "by its name, median": 10},
        "maps": count,
        "maps a second": {"Zarr": count / written, "one file each": files / one_each},
        "MiB more at the peak after opening": memory / 1024,
    }


def _seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
