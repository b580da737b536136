"""Shares, threads, figures and locks of a run, in folders of files."""

import contextlib
import gc
import json
import os
import platform
import signal
import sys
import threading
import time

import filelock
import numpy as np
import pytest

import jaxcam
from jaxcam.runtime import _lock
from tests.runtime.specimen import KEY, SMALL, check, weighted


def run(tiny, images=SMALL, **options):
    return jaxcam.explain_batch(weighted, tiny, images, None, KEY, **options)


def test_shares_make_the_maps_of_one_run(tiny, tmp_path):
    parts = [run(tiny, share=(i, 3)).maps for i in range(3)]
    assert [sorted(part) for part in parts] == [list("0369"), list("147"), list("258")]
    whole = {name: saliency for part in parts for name, saliency in part.items()}
    check(jaxcam.runtime.Explained({name: whole[name] for name in sorted(whole)}, {}), tiny, SMALL)
    run(tiny, out=tmp_path, share=(2, 4))
    assert sorted(jaxcam.runtime.open_maps(tmp_path)) == ["2", "6"]
    check(run(tiny, out=tmp_path), tiny, SMALL)
    for share in [(2, 2), (-1, 2), (0, 0), [0, 1], (0.0, 1)]:
        with pytest.raises(ValueError, match="expected share=.number, shares."):
            run(tiny, share=share)


def test_an_iterable_without_a_folder(tiny):
    check(run(tiny, (image for image in SMALL)), tiny, SMALL)
    assert run(tiny, iter([])).maps == {}
    with pytest.raises(TypeError, match="got a tuple of 2: give images="):
        run(tiny, ((image, 1) for image in SMALL))
    with pytest.raises(ValueError, match="got a sequence of arrays .* while the model takes an image"):
        run(tiny, iter(np.split(SMALL, 5)))


def test_threads_load_ahead_and_fail_alone(tiny):
    threads, lock = set(), threading.Lock()

    def load(i):
        with lock:
            threads.add(threading.get_ident())
        time.sleep(0.01)
        if i == 3:
            raise OSError("the third is gone")
        return SMALL[i]

    explained = run(tiny, range(10), load=load, workers=3, batch_size=4)
    assert len(threads) == 3 and threading.get_ident() not in threads
    assert explained.failed == {"3": "the third is gone"} and list(explained.maps) == list("012456789")
    np.testing.assert_allclose(explained.maps["7"], run(tiny).maps["7"], atol=1e-6)


def test_threads_read_few_elements_of_an_endless_iterable(tiny):
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield SMALL[0]

    def load(image):
        if len(read) > 40:
            raise KeyboardInterrupt
        return image

    with pytest.raises(KeyboardInterrupt):
        run(tiny, endless(), load=load, workers=2, batch_size=2)
    assert len(read) < 80


def test_figures_of_a_run(tiny, tmp_path, monkeypatch):
    from jaxcam.runtime import _figures

    monkeypatch.setattr(_figures, "INTERVAL", 0)
    images = [*SMALL[:4], SMALL[4, ..., :2], tmp_path / "none.png", tmp_path / "missing.png"]
    log = tmp_path / "logs" / "run.jsonl"
    run(tiny, images, names=list("abcdefg"), log=log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["finished"] + line["failed"] for line in lines] == [*range(1, 8), 7]
    last = lines[-1]
    assert last["total"] == 7 and last["finished"] == 4 and last["failed"] == 3 and last["seconds_left"] == 0
    assert sorted(last["reasons"].values()) == [1, 2], "two files that do not exist are one reason"
    assert last["images_per_second"] == pytest.approx(7 / last["seconds"], rel=0.02)


def test_a_log_that_cannot_be_written_is_an_error_before_anything_is_computed(tiny, tmp_path):
    with pytest.raises(IsADirectoryError):
        run(tiny, range(3), load=lambda i: pytest.fail("an image is loaded"), log=tmp_path)


def test_a_folder_in_use_is_refused_and_a_dead_process_keeps_no_lock(tmp_path):
    with _lock.lock_share(tmp_path, (0, 1)):
        with pytest.raises(
            ValueError, match=f"in use by another run, process {os.getpid()} on {platform.node()}: wait"
        ):
            with _lock.lock_share(tmp_path, (0, 1)):
                pass
        with pytest.raises(ValueError, match="another number of processes than this one, 2"):
            with _lock.lock_share(tmp_path, (1, 2)):
                pass
    assert not list(tmp_path.iterdir()), "nothing is left"
    (tmp_path / ".locks").mkdir()
    owner = tmp_path / ".locks/1-of-3.json"  # as a killed process leaves it
    owner.write_text(json.dumps({"host": platform.node(), "process": 1, "started": 0}))
    with _lock.lock_share(tmp_path, (0, 1)):
        pass
    assert not list(tmp_path.iterdir())


def test_processes_that_look_at_a_dead_one_at_the_same_moment_do_not_refuse_each_other(tmp_path):
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks/0-of-2.json").write_text(json.dumps({"host": platform.node(), "process": 1, "started": 0}))
    looking = filelock.FileLock(tmp_path / ".locks/0-of-2.lock", thread_local=False)
    looking.acquire()
    threading.Timer(0.2, looking.release).start()
    with _lock.lock_share(tmp_path, (0, 1)):
        assert [file.name for file in (tmp_path / ".locks").glob("*.json")] == ["0-of-1.json"]


def test_a_share_has_one_holder_at_any_moment(tmp_path):
    """Of threads that take it and leave it again: what one leaves, two others may take at the same instant."""
    holders, most, counting = set(), [], threading.Lock()

    def take_often(number):
        for _ in range(60):
            with contextlib.suppress(ValueError), _lock.lock_share(tmp_path, (0, 1)):
                with counting:
                    holders.add(number)
                    most.append(len(holders))
                with counting:
                    holders.discard(number)

    threads = [threading.Thread(target=take_often, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


@pytest.mark.parametrize("clock", [-10 * 365 * 86400, 0, 86400], ids=["slow", "equal", "fast"])
def test_a_lock_of_another_machine_is_taken_over_if_nobody_touches_it(tmp_path, caplog, monkeypatch, clock):
    monkeypatch.setattr(_lock, "WATCHED", 0.3)
    monkeypatch.setattr(_lock, "PAUSE", 0.01)
    (tmp_path / ".locks").mkdir()
    owner = tmp_path / ".locks/0-of-1.json"
    owner.write_text(json.dumps({"host": "another", "process": 7, "started": 0}))

    def touch():
        while not ended.wait(0.02):
            now = time.time() + clock
            os.utime(owner, (now, now))

    ended, living = threading.Event(), threading.Thread(target=touch)
    living.start()
    for share in [(0, 1), (0, 2)]:
        with pytest.raises(ValueError, match="in use by another run, process 7 on another"):
            with _lock.lock_share(tmp_path, share):
                pass
    ended.set()
    living.join()
    with _lock.lock_share(tmp_path, (0, 1)):
        assert json.loads(owner.read_text())["process"] == os.getpid()
    assert "the lock of process 7 on another is stale, and is taken over" in caplog.text
    assert not list(tmp_path.iterdir())


def test_sigterm_writes_the_maps_that_wait_and_releases_the_lock(tiny, tmp_path):
    pytest.importorskip("zarr", reason="the extra zarr is not installed")

    def load(i):
        if i == 7:
            signal.raise_signal(signal.SIGTERM)
        return SMALL[i]

    with pytest.raises(SystemExit) as raised:
        run(tiny, range(10), load=load, batch_size=2, out=tmp_path / "a.zarr")
    assert raised.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert sorted(jaxcam.runtime.open_maps(tmp_path / "a.zarr")) == list("0123"), (
        "a chunk that is being computed is not kept"
    )
    assert not (tmp_path / "a.zarr/.locks").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_in_a_callback_of_the_garbage_collector_ends_the_run_too(tiny, tmp_path):
    loaded = []

    def collected(phase, info):
        gc.callbacks.remove(collected)
        signal.raise_signal(signal.SIGTERM)

    def load(i):
        if i == 3 and 3 not in loaded:
            gc.callbacks.append(collected)
            gc.collect()  # Python prints what a callback raises, and goes on
        loaded.append(i)
        return SMALL[i]

    with pytest.raises(SystemExit) as raised:
        run(tiny, range(10), load=load, batch_size=2, out=tmp_path)
    assert raised.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert loaded[-1] == 3 and not (tmp_path / ".locks").exists()
    assert len(run(tiny, range(10), load=load, batch_size=2, out=tmp_path).maps) == 10


def test_a_living_owner_touches_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "HEARTBEAT", 0.01)
    with _lock.lock_share(tmp_path, (0, 1)):
        owner = tmp_path / ".locks/0-of-1.json"
        os.utime(owner, (0, 0))
        time.sleep(0.2)
        assert owner.stat().st_mtime > 0


def test_a_store_without_zarr_is_one_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ValueError, match=r"need Zarr: pip install 'jaxcam-saliency\[zarr\]'"):
        run(tiny, out=tmp_path / "maps.zarr")
    with pytest.raises(FileNotFoundError, match="is no folder of maps"):
        jaxcam.runtime.open_maps(tmp_path / "none")
    with pytest.raises(ValueError, match="no run.json: expected a folder that explain_batch wrote"):
        jaxcam.runtime.open_maps(tmp_path)
