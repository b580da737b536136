"""What a run will take: counts and sizes are those of the run, nothing is written, and wrong calls are refused."""

import functools
import json
import time

import numpy as np
import pytest

import jaxcam
from jaxcam.runtime import Plan, measured_plan, plan_batch
from tests.runtime.specimen import KEY, SMALL, weighted


def everything_in(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("out", ["maps", "maps.zarr"])
def test_a_plan_counts_what_the_run_finds_and_writes_nothing(tiny, tmp_path, out):
    if out.endswith(".zarr"):
        pytest.importorskip("zarr", reason="the extra zarr is not installed")
    call = {"out": tmp_path / out, "batch_size": 4, "names": list("abcdefghij")}
    plan = plan_batch(weighted, tiny, SMALL, None, KEY, **call)
    assert (plan.inputs, plan.finished, plan.lacking, plan.batch) == (10, 0, 10, 4)
    assert not list(tmp_path.iterdir())
    jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, **call, share=(0, 2))
    before = everything_in(tmp_path)
    plan = plan_batch(weighted, tiny, SMALL, None, KEY, **call)
    assert (plan.inputs, plan.finished, plan.lacking) == (10, 5, 5)
    of_share = plan_batch(weighted, tiny, SMALL, None, KEY, **call, share=(0, 2))
    assert (of_share.inputs, of_share.lacking, of_share.batch, of_share.seconds_left) == (5, 0, None, 0)
    if out == "maps":
        assert plan.bytes_of_result == (tmp_path / "maps/a.npy").stat().st_size
    else:
        assert plan.bytes_of_result == 4 * 6 * 5, "values of float32"
    with pytest.raises(ValueError, match="holds another run, with method"):
        plan_batch(functools.partial(weighted, std=0.2), tiny, SMALL, None, KEY, **call)
    assert everything_in(tmp_path) == before


def test_a_plan_refuses_what_the_run_refuses(tiny, tmp_path):
    with pytest.raises(ValueError, match="batch_size"):
        plan_batch(weighted, tiny, SMALL, None, KEY, batch_size=0)
    with pytest.raises(ValueError, match="expected out='NAME.zarr'"):
        plan_batch(weighted, tiny, SMALL, None, KEY, out=tmp_path / "maps", stored="uint8")
    with pytest.raises(TypeError, match="expected a sequence of images for a plan"):
        plan_batch(weighted, tiny, iter(SMALL), None, KEY)
    with pytest.raises(ValueError, match="the map is not finite"):
        plan_batch(lambda cut, image, target: image[..., 0] / 0, tiny, SMALL)
    with pytest.raises(OSError, match="gone"):
        plan_batch(weighted, tiny, range(3), None, KEY, load=gone)


def gone(i):
    raise OSError("the picture is gone")


def test_times_are_those_of_one_batch():
    """A fake run: 10 ms to load, 200 ms to compile, 50 ms a batch of two; 9 of 13 are missing, one cannot be loaded."""
    compiled = []

    def load(i):
        time.sleep(0.01)
        if i == 4:
            raise OSError("torn")
        return (np.zeros(3),)

    def compute(examples, items):
        time.sleep(0.05 if compiled else 0.25)
        compiled.append(items)
        return [f"{i}" for i in items]

    plan = measured_plan(
        [(str(i), i) for i in range(13)], recorded=lambda name, i: "done" if i < 4 else None, load=load,
        chunk_size=lambda example: 2, compute=compute, bytes_of=len, out=None,
    )  # fmt: skip
    assert compiled == [[5, 6], [5, 6]]
    assert (plan.inputs, plan.finished, plan.batch, plan.disk_bytes, plan.disk_free) == (13, 4, 2, 9, None)
    assert 0.02 <= plan.seconds_to_load < 0.1 and 0.05 <= plan.seconds_of_batch < 0.15
    assert 0.1 < plan.seconds_to_compile < 0.3
    assert plan.seconds_left == pytest.approx(plan.seconds_to_compile + 5 * plan.seconds_of_batch)


def test_the_text_of_a_plan():
    plan = Plan(
        inputs=1_281_167, finished=1_000_000, batch=64, seconds_to_compile=12.3, seconds_to_load=0.31,
        seconds_of_batch=0.5, seconds_left=8000.0, bytes_of_result=196, disk_free=3 * 2**30, peak_memory=2**30,
        peak_device_memory=None,
    )  # fmt: skip
    assert str(plan).splitlines() == [
        "inputs      1,281,167",
        "finished    1,000,000",
        "to compute  281,167",
        "compiling   12 s",
        "one batch   64 in 0.5 s, measured once after compiling; loading them takes 0.31 s",
        "time left   about 2 h 13 min",
        "disk        52.6 MiB before compression, 3 GiB free",
        "memory      1 GiB at the peak so far",
    ]
    assert json.loads(json.dumps(plan.as_json()))["disk_bytes"] == 281_167 * 196
