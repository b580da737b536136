"""Times of rivals in one run: taken in turn, so that a machine that slows down slows all of them, and medians."""

import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping

import jax


def in_turn(rivals: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Seconds of each rival, `repeats` of each, A B C A B C ...; the first round compiles and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(repeats + 1):
        for name, call in rivals.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if round_ > 0:
                times[name].append(time.perf_counter() - start)
    return times


def median_ratio(times: Mapping[str, list[float]], above: str, below: str) -> float:
    """The median over rounds of one rival's time over another's."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))


def fastest(times: Mapping[str, list[float]], names: Iterable[str]) -> str:
    """Of several ways to one thing, that of the smallest median: a rival is taken at its best."""
    return min(names, key=lambda name: statistics.median(times[name]))


def summary(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Minimum, median and maximum of each rival, in seconds."""
    return {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name, values in times.items()
    }


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "python": platform.python_version(),
        **(_torch(sys.modules["torch"]) if "torch" in sys.modules else {}),
    }


def _torch(torch):
    """What a rival ran on; a benchmark without rivals has not loaded it."""
    gpu = {"torch device": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"torch": torch.__version__, "torch threads": torch.get_num_threads(), **gpu}
