"""Reads many mutated files in child processes, counts what became of them, and goes on where it stopped."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from tests.hostile.mutations import mutated

IN_ONE_PROCESS = 5000
SECONDS = 90.0  # that one file may take before its process is killed
BAD = ("crash", "executed", "memory", "slow", "wrong")


def new_counts() -> dict[str, Any]:
    return {
        "files": 0, "read": 0, "refused": 0, "wrong": 0, "crash": 0, "executed": 0, "memory": 0, "slow": 0,
        "seconds at worst": 0.0, "slowest": None, "seconds": 0.0, "peak MiB": 0.0, "bad": [],
    }  # fmt: skip


def run(files: int, *, seed: int, state: pathlib.Path, progress=lambda counts: None) -> dict[str, Any]:
    """The counts of so many files.

    Args:
      files: how many mutated files, from number 0.
      seed: of the draws.
      state: the file that has the counts so far; a run goes on with those of the same seed.
      progress: called with the counts after each child process.
    """
    counts = new_counts()
    if state.exists():
        stored = json.loads(state.read_text())
        counts = stored["counts"] if stored["seed"] == seed else counts
    with tempfile.TemporaryDirectory(prefix="hostile") as folder:
        while counts["files"] < files:
            stop = min(files, counts["files"] + IN_ONE_PROCESS)
            _read_in_child(counts, seed, stop, pathlib.Path(folder))
            state.parent.mkdir(parents=True, exist_ok=True)
            partial = state.with_suffix(".partial")
            partial.write_text(json.dumps({"seed": seed, "counts": counts}, indent=1))
            os.replace(partial, state)
            progress(counts)
    return counts


def _read_in_child(counts, seed, stop, folder):
    """Reads files until `stop`, or until a file ends the process."""
    first = counts["files"]
    (folder / "progress").write_text(f"{first:20d}")
    with open(folder / "lines", "w") as lines, open(folder / "errors", "w") as errors:
        command = [sys.executable, "-W", "ignore", "-m", "tests.hostile.child", str(seed), str(first), str(stop)]
        child = subprocess.Popen([*command, str(folder)], stdout=lines, stderr=errors)
        is_slow = _wait(child, folder / "progress")
    results = []
    for line in (folder / "lines").read_text().splitlines():
        try:
            results.append(json.loads(line))
        except ValueError:  # the last line of a process that was killed
            break
    if results and results[-1][0] == "peak":
        counts["peak MiB"] = max(counts["peak MiB"], results.pop()[1])
    reached = int((folder / "progress").read_text())
    if child.returncode != 0:
        # Lines that were not flushed are of files that were read: they are read again, up to the one that ended it.
        if len(results) < reached - first:
            results += _again(seed, first + len(results), reached, folder)
        kind = "slow" if is_slow else "crash"
        reason = (folder / "errors").read_text()[-2000:]
        results.append([reached, mutated(reached, seed)[0], kind, SECONDS if is_slow else 0.0, reason])
    for number, name, verdict, seconds, why in results:
        counts["files"] += 1
        counts[verdict] += 1
        counts["seconds"] += seconds
        if seconds > counts["seconds at worst"]:
            counts["seconds at worst"], counts["slowest"] = seconds, [number, name]
        if verdict in BAD:
            counts["bad"].append([number, name, verdict, why[-1500:]])


def _again(seed, first, stop, folder):
    with open(folder / "lines", "w") as lines:
        command = [sys.executable, "-W", "ignore", "-m", "tests.hostile.child", str(seed), str(first), str(stop)]
        subprocess.run([*command, str(folder)], stdout=lines, stderr=subprocess.DEVNULL, check=True)
    return [json.loads(line) for line in (folder / "lines").read_text().splitlines()[:-1]]


def _wait(child, progress) -> bool:
    """Waits for the end of a child; True if it was killed because one file took too long."""
    seen, since = None, time.monotonic()
    while child.poll() is None:
        time.sleep(0.05)
        now = progress.read_text()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > SECONDS:
            child.kill()
            child.wait()
            return True
    return False
