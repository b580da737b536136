"""Digit canvases in two and three processes of jax.distributed, one killed: all maps, none twice, equal to 1e-6.

The canvases are the embedded ones, shifted and dimmed, no two the same. One process is killed (kill -9) at a random
moment after the first maps; the others get SIGTERM, as a scheduler ends a job that lost a process; and the job is
started again. The processes share the cores of this machine, so the rate shows what dividing and the death cost.
`JAXCAM_CANVASES` names another number of canvases than 20,000.
"""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

import jaxcam
from benchmarks import faulted, peers
from benchmarks.many_canvases import canvas, make_cut

COUNTS = (2, 3)
ENDING = 30.0  # seconds between SIGTERM and SIGKILL


def measure(*, small: bool = False) -> dict:
    """Rates, and what is lost; small takes 60 canvases, and two processes."""
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise peers.Missing("it writes a Zarr store: install the extra zarr") from error
    count = 60 if small else int(os.environ.get("JAXCAM_CANVASES", 20_000))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        seconds_alone, _ = _seconds_of_job(folder / "alone.zarr", 1, count)
        alone = jaxcam.runtime.open_maps(folder / "alone.zarr")
        ratios: dict[str, float] = {}
        rates, ends = {"one process": count / seconds_alone}, {}
        for processes in COUNTS[: 1 if small else None]:
            out = folder / f"{processes}.zarr"
            killed_after, codes = _killed_job(out, processes, count, seconds_alone)
            seconds, _ = _seconds_of_job(out, processes, count)
            maps = jaxcam.runtime.open_maps(out)
            what = f"{processes} processes: "
            ratios |= {
                what + "maps lost": count - len(maps),
                what + "maps written twice": faulted.repeated(out),
                what + "largest difference of a map": max(
                    float(np.abs(maps[name] - alone[name]).max()) for name in maps
                ),
                what + "images per second / one process": seconds_alone / (killed_after + seconds),
            }
            rates[f"{processes} processes, with the death"] = count / (killed_after + seconds)
            ends[f"{processes} processes"] = codes
    return {
        "ratios": ratios,
        "bounds": {"maps lost": 0, "written twice": 0, "largest difference of a map": 1e-6},
        "canvases": count,
        "images per second": rates,
        "exit codes of the job that lost a process": ends,
    }


def _job(out, processes, count):
    """Starts a job of so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "benchmarks.processes_lose_nothing",
        str(out),
        str(processes),
        str(count),
        str(port),
    ]
    log = open(out.with_suffix(".log"), "a")
    return [subprocess.Popen([*command, str(i)], stderr=log) for i in range(processes)]


def _seconds_of_job(out, processes, count):
    started = time.perf_counter()
    codes = [process.wait() for process in _job(out, processes, count)]
    if any(codes):
        raise RuntimeError(f"a process ended with {codes}: {out.with_suffix('.log').read_text()[-2000:]}")
    return time.perf_counter() - started, codes


def _killed_job(out, processes, count, seconds_alone):
    """A job that loses a process; its seconds, and how its processes ended."""
    chosen = random.Random(processes)
    started = time.perf_counter()
    job = _job(out, processes, count)
    while not any((out / "index").glob("*.json")) and any(process.poll() is None for process in job):
        time.sleep(0.05)
    time.sleep(chosen.uniform(0, seconds_alone / 2 / processes))
    killed = chosen.choice(job)
    killed.kill()
    killed.wait()
    for process in job:
        process.send_signal(signal.SIGTERM)
    ends = time.monotonic() + ENDING
    while time.monotonic() < ends and any(process.poll() is None for process in job):
        time.sleep(0.05)
    for process in job:
        process.kill()
    return time.perf_counter() - started, [process.wait() for process in job]


def main() -> None:
    """A process of a job: OUT PROCESSES COUNT PORT NUMBER."""
    import jax

    from jaxcam.runtime import _zarr

    out, processes, count, port, number = sys.argv[1:]
    _zarr.SECONDS = 2.0  # so that shards are written before a process is killed, however few canvases there are
    if int(processes) > 1:
        jax.config.update("jax_enable_preemption_service", False)  # SIGTERM ends the process, and is not only noted
        jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(number))
    explained = jaxcam.explain_batch(
        jaxcam.grad_cam, make_cut(), range(int(count)), load=canvas, names=[str(i) for i in range(int(count))], out=out
    )
    print(json.dumps(explained.failed), file=sys.stderr)


if __name__ == "__main__":
    main()
