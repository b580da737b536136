"""Faults at random moments make a run lose no map, tear none and write no wrong one.

Small runs (maps in files, maps in a Zarr store, figures of an evaluation) are disturbed, started again as a user would
do it, and compared with an undisturbed run. Each kind of fault is tried 20 times if it starts processes, and 100 times
otherwise. In parts, which go on where they stopped:

    python -m benchmarks.faults --state build/faults.json --kinds kill_share sigterm
"""

import argparse
import collections
import importlib.util
import json
import logging
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from benchmarks import fault_kinds, faulted, peers

BAD = ("lost", "torn", "wrong", "twice", "hangs", "unclear")


def measure(*, small: bool = False) -> dict:
    """Counts over all kinds; small tries a run of a few kinds."""
    kinds = ["kill_all", "full_disk", "damaged_file"] if small else list(fault_kinds.BY_NAME)
    counts = run(kinds, runs=1 if small else None)
    bad = {verdict: sum(count.get(verdict, 0) for count in counts.values()) for verdict in BAD}
    return {"ratios": bad, "bound": 0, "table": table(counts), "counts": counts}


def run(kinds: list[str], *, runs: int | None = None, state: pathlib.Path | None = None) -> dict[str, dict[str, int]]:
    """What went wrong, by kind of fault.

    Args:
      kinds: names of `fault_kinds.BY_NAME`.
      runs: of each kind; its own number by default.
      state: a file that holds the counts of earlier calls, which this one goes on with, and gets those of this one.
    """
    if importlib.util.find_spec("zarr") is None:
        raise peers.Missing("it writes Zarr stores: install the extra zarr")
    counts: dict[str, dict[str, Any]] = json.loads(state.read_text()) if state is not None and state.exists() else {}
    logging.getLogger("jaxcam").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="faults") as temporary:
        folder = pathlib.Path(temporary)
        # Of its own, because a process that is killed may leave half a program in it.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        fault_kinds.PROCESSES.set_forkserver_preload(["benchmarks.faulted"])
        undisturbed = {form: _undisturbed(folder, form) for form in fault_kinds.ALL}
        for name in kinds:
            number_of_runs, forms = fault_kinds.KINDS[fault_kinds.BY_NAME[name]]
            count = collections.Counter(counts.get(name, {}))
            while count["runs"] < (number_of_runs if runs is None else runs):
                number = count["runs"]
                form = forms[number % len(forms)]
                found = _one_run(name, number, form, folder / f"{name}{number}", *undisturbed[form])
                count.update(found)
                count["runs"] += 1
                counts[name] = dict(count)
                if any(found.get(verdict) for verdict in BAD):
                    print(f"{name} {number} ({form}): {found}", file=sys.stderr, flush=True)
                if state is not None:
                    _save(state, counts)
    return counts


def _undisturbed(folder, form):
    """The results of a run that nothing disturbs, and its folder."""
    out = folder / f"undisturbed.{form}{'.zarr' if form == 'store' else ''}"
    assert not faulted.explain(out, form)
    results = faulted.results(out, form)
    assert len(results) == faulted.COUNT
    return results, out


def _one_run(name, number, form, folder, expected, out) -> dict[str, float]:
    folder.mkdir()
    scene = fault_kinds.Scene(folder, form, expected, out, f"{name} {number}")
    started = time.perf_counter()
    fault_kinds.BY_NAME[name](scene)
    scene.examine()
    for error in dict.fromkeys(scene.errors):
        print(f"{name} {number} ({form}): {error}", file=sys.stderr, flush=True)
    fault_kinds.remove(folder)
    return {**scene.counts, "seconds": round(time.perf_counter() - started, 1)}


def _save(state, counts):
    state.parent.mkdir(parents=True, exist_ok=True)
    beside = state.with_name(f".{state.name}")
    beside.write_text(json.dumps(counts, indent=1) + "\n")
    beside.replace(state)


def table(counts: Mapping[str, Mapping[str, float]]) -> str:
    """The counts as Markdown."""
    columns = ("runs", *BAD, "reported")
    lines = [f"| fault | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, count in counts.items():
        what = (fault_kinds.BY_NAME[name].__doc__ or name).strip().rstrip(".")
        lines.append(f"| {what} | {' | '.join(str(count.get(column, 0)) for column in columns)} |")
    return "\n".join(lines)


def main() -> int:
    """Runs kinds of faults in parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=pathlib.Path, metavar="FILE", help="counts that this call goes on with")
    parser.add_argument("--kinds", nargs="+", choices=list(fault_kinds.BY_NAME), default=list(fault_kinds.BY_NAME))
    parser.add_argument("--runs", type=int, help="of each kind; by default 20 or 100")
    arguments = parser.parse_args()
    try:
        counts = run(arguments.kinds, runs=arguments.runs, state=arguments.state)
    except peers.Missing as error:
        sys.exit(str(error))
    print(table(counts))
    return any(count.get(verdict) for count in counts.values() for verdict in BAD)


if __name__ == "__main__":
    sys.exit(main())
