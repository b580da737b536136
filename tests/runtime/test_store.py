"""Folders of maps: refused to another run, killed, full, and gone on with."""

import dataclasses
import errno
import functools
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.runtime import _store
from tests.runtime.specimen import KEY, SMALL, check, weighted


def test_a_folder_of_another_run_is_refused(tiny, tmp_path):
    method = functools.partial(weighted, std=0.1)
    explain = functools.partial(jaxcam.explain_batch, out=tmp_path)
    found = explain(method, tiny, SMALL, None, KEY)
    check(found, tiny, SMALL)
    assert sorted(file.name for file in tmp_path.iterdir()) == [*(f"{i}.npy" for i in range(10)), "run.json"]
    before = [path.stat().st_mtime_ns for path in found.maps.values()]
    # Chunks and devices are not what a run is.
    assert explain(functools.partial(weighted, std=0.1), tiny, SMALL, None, KEY, batch_size=3).maps == found.maps
    assert [path.stat().st_mtime_ns for path in found.maps.values()] == before, "nothing is done twice"
    changed = jaxcam.Cut(tiny.params | {"dense": 2 * tiny.params["dense"]}, tiny.features, tiny.head, "hidden")
    moved = jaxcam.Cut(tiny.params, tiny.features, tiny.head, "another")
    channels_first = dataclasses.replace(tiny, image_channel_axis=0)
    for says, call in {
        "method .*0.1.*, not .*0.2": (functools.partial(weighted, std=0.2), tiny, SMALL, None, KEY),
        "targets null": (method, tiny, SMALL, 1, KEY),
        r"key .*\[0, 2\].*, not .*\[0, 3\]": (method, tiny, SMALL, None, jax.random.key(3)),
        "other params": (method, changed, SMALL, None, KEY),
        "image_channel_axis null, not 0": (method, channels_first, SMALL, None, KEY),
        'layer "hidden", not "another"': (method, moved, SMALL, None, KEY),
        "other images:": (method, tiny, SMALL[:9], None, KEY),
        "other images .'0' for one": (method, tiny, SMALL + 1, None, KEY),
    }.items():
        with pytest.raises(ValueError, match=f"holds another run, with {says}"):
            explain(*call)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="no run.json"):
        explain(method, tiny, SMALL, None, KEY)


def test_other_images_are_another_run(tiny, tmp_path):
    """In an array, in a list, and in files that were written anew."""
    run = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny, targets=1)
    run(list(SMALL), out=tmp_path / "list")
    with pytest.raises(ValueError, match="holds another run, with other images .'0' for one.: choose another folder"):
        run([*SMALL[1:], SMALL[0]], out=tmp_path / "list")
    files = [tmp_path / f"{i}.txt" for i in range(2)]
    for file in files:
        file.write_text("0")
    load = lambda path: SMALL[int(path.read_text())]
    run(files, load=load, out=tmp_path / "files")
    run(files, load=load, out=tmp_path / "files")
    more = [*files, tmp_path / "2.txt"]
    more[2].write_text("2")
    assert len(run(more, load=load, out=tmp_path / "files").maps) == 3
    files[1].write_text(" 1")
    with pytest.raises(ValueError, match="holds another run, with other images"):
        run(files, load=load, out=tmp_path / "files")


def test_another_model_with_the_same_parameters_is_another_run(tmp_path, image):
    cuts = [jaxcam.cut(jaxcam.digits(activation=f), "block3_conv2") for f in (jax.nn.relu, jax.nn.gelu)]
    jaxcam.explain_batch(jaxcam.grad_cam, cuts[0], [image], 3, out=tmp_path)
    with pytest.raises(ValueError, match="holds another run, with other model"):
        jaxcam.explain_batch(jaxcam.grad_cam, cuts[1], [image], 3, out=tmp_path)


def test_a_rule_of_ones_own_that_changed_is_another_run(tiny, tmp_path):
    of = lambda weigh: functools.partial(jaxcam.gradient_cam, weigh=weigh, order=1)
    run = functools.partial(jaxcam.explain_batch, cut=tiny, images=SMALL, targets=1)
    run(of(lambda A, Y1: Y1.max((0, 1))), out=tmp_path / "a")
    with pytest.raises(ValueError, match="holds another run, with method"):
        run(of(lambda A, Y1: Y1.min((0, 1))), out=tmp_path / "a")


def test_a_call_that_was_wrong_does_not_lock_the_folder(tiny, tmp_path):
    with pytest.raises(ValueError, match="CAM needs a head"):
        jaxcam.explain_batch(jaxcam.cam, jaxcam.Cut(
            tiny.params, tiny.features, lambda p, A, x: jnp.tanh(tiny.head(p, A, x)), "hidden"
        ), SMALL, 1, out=tmp_path)  # fmt: skip
    assert len(jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL, 1, out=tmp_path).maps) == 10


def test_a_full_disk_stops_the_run_and_loses_nothing(tiny, tmp_path, monkeypatch):
    replace, left = os.replace, [5]  # the lock, run.json and three maps

    def until_full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", until_full)
    run = functools.partial(jaxcam.explain_batch, weighted, tiny, SMALL, None, KEY, out=tmp_path, batch_size=2)
    with pytest.raises(OSError, match="No space left on device; 3 maps are finished, and the same call goes on"):
        run()
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.npy", "1.npy", "2.npy", "run.json"]
    check(run(), tiny, SMALL)
    with pytest.raises(FileExistsError):
        jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, out=tmp_path / "run.json")


def test_interrupted_while_writing(tiny, tmp_path, monkeypatch):
    """Half a file is never seen under a map's name, nor left."""
    write, left = pathlib.Path.write_bytes, [6]  # the lock, run.json and four maps

    def until_interrupted(path, content):
        left[0] -= 1
        if left[0] < 0:
            write(path, content[: len(content) // 2])
            assert sorted(file.name for file in tmp_path.glob("[!.]*")) == [*(f"{i}.npy" for i in range(4)), "run.json"]
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", until_interrupted)
    run = functools.partial(jaxcam.explain_batch, weighted, tiny, SMALL, None, KEY, out=tmp_path, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == [*(f"{i}.npy" for i in range(4)), "run.json"]
    check(run(), tiny, SMALL)


def test_two_writers_of_one_folder_share_no_file(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda one, other: seen.append(str(one)) or replace(one, other))
    for _ in range(2):
        _store.MapFolder(tmp_path).write("x", np.ones(3), 0)
    assert len(set(seen)) == 2 and np.load(tmp_path / "x.npy").shape == (3,)
    theirs = tmp_path / f".y.npy.{_store.HOST}.{os.getppid()}.0123abcd.partial"
    theirs.write_bytes(b"half")
    jaxcam.explain_batch(jaxcam.grad_cam, jaxcam.Cut((), lambda p, x: x, lambda p, A, x: A.mean((0, 1))), SMALL, 1,
                         out=tmp_path / "run")  # fmt: skip
    assert theirs.exists(), "a living process may still write it"


# Forked for each run, before JAX has a thread, from a process that has imported all.
RUNS = """
import os, sys, time, warnings
import jax, jax.numpy as jnp, numpy as np
import jaxcam
warnings.simplefilter("ignore")  # of os.fork

def run(folder):
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)}
    cut = jaxcam.Cut(params, lambda p, x: jnp.maximum(x @ p["kernel"], 0), lambda p, A, x: A.mean((0, 1)), "hidden")
    images = rng.uniform(0, 1, (200, 6, 5, 3)).astype(np.float32)
    def load(i):
        time.sleep(pause)
        return images[i]
    found = jaxcam.explain_batch(jaxcam.grad_cam, cut, range(200), out=folder, load=load, batch_size=8)
    assert len(found.maps) == 200 and not found.failed

for line in sys.stdin:
    folder, pause = line.rsplit(" ", 1)
    pause = float(pause)
    child = os.fork()
    if child == 0:
        run(folder)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.long
def test_killed_at_random_and_gone_on_with(tmp_path):
    """SIGKILL five times: all maps, none torn, and nothing that was finished is touched again."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def start(folder, pause):
        print(folder, pause, file=runs.stdin, flush=True)
        return int(runs.stdout.readline())

    def status():
        return int(runs.stdout.readline())

    def finished():
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}

    folder, before, seed = tmp_path / "killed", {}, random.Random(4)
    with subprocess.Popen([sys.executable, "-c", RUNS], env=environment, **pipe) as runs:
        start(tmp_path / "whole", 0)
        assert status() == 0
        for _ in range(5):
            process = start(folder, 0.002)
            enough = len(before) + seed.randint(1, 37)
            while len(finished()) < enough:
                time.sleep(0.0005)
            os.kill(process, signal.SIGKILL)
            assert status() == signal.SIGKILL, "it was killed before its end"
            there = finished()
            assert enough <= len(there) < 200
            assert {name: there[name] for name in before} == before, "nothing is done twice"
            for name in there:
                assert np.load(folder / name).shape == (6, 5), "nothing is torn"
            before = there
        (folder / f".007.npy.{_store.HOST}.{process}.0123abcd.partial").write_bytes(b"torn")
        start(folder, 0)
        assert status() == 0
        runs.stdin.close()
    names = sorted(file.name for file in folder.iterdir())
    assert names == [*(f"{i:03}.npy" for i in range(200)), "run.json"]
    assert {name: mtime for name, mtime in finished().items() if name in before} == before
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
