"""Kinds of faults, each a function that disturbs a run at a random moment and starts it again as a user would do it."""

import collections
import contextlib
import errno
import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks import faulted
from jaxcam.datasets import images
from jaxcam.runtime import _lock, isolated

LIMIT = 120.0  # seconds after which a process hangs
PREEMPTED = 30.0  # seconds between SIGTERM and SIGKILL
TOLERANCE = 1e-6
PAUSE = 0.01  # seconds that loading takes, so that a moment can be hit
READING = 4.0  # seconds after which a read hangs
CLOCKS_OFF = 10 * 365 * 24 * 3600.0  # how far clocks are off
REMOVE = re.compile(r"(?P<it>/\S+) is .*remove it\b|remove (?P<file>/\S+?),? and")
OTHER_FOLDER = "choose another folder"


class Scene:
    """One run that is disturbed: its folder, what it should have in the end, and what went wrong.

    Args:
      folder: for its files.
      form: of the results, as in `faulted.explain`.
      expected: by name the results of an undisturbed run.
      undisturbed: the folder of that run.
      seed: of the moment, the place and the size of the fault.
    """

    def __init__(
        self, folder: pathlib.Path, form: str, expected: dict[str, np.ndarray], undisturbed: pathlib.Path, seed: str
    ):
        self.folder, self.form, self.expected, self.undisturbed = folder, form, expected, undisturbed
        self.out = folder / ("maps.zarr" if form == "store" else "maps")
        self.random = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.errors: list[str] = []
        self._started = 0

    def call(self, **options: Any) -> dict[str, Any]:
        """Runs in this process; what failed, or the error."""
        try:
            return {"failed": faulted.explain(self.out, self.form, **options)}
        except Exception as error:
            return {"error": self.noted(faulted.described(error))}

    def noted(self, error: dict[str, Any]) -> str:
        """The text of an error, which is counted if it is not clear."""
        self.errors.append(error["text"])
        if not error["clear"]:
            self.counts["unclear"] += 1
            print(error["trace"], file=sys.stderr)
        return error["text"]

    def start(self, share: tuple[int, int], *, pause: float = PAUSE, dies_at: int | None = None) -> Any:
        """Starts a process of a share."""
        self._started += 1
        report = str(self.folder / f"report{self._started}.json")
        process = PROCESSES.Process(
            target=faulted.in_process, args=(report, str(self.out), self.form, share, pause, dies_at), name=report
        )
        process.start()
        return process

    def finish(self, processes: Iterable[Any], seconds: float = LIMIT) -> list[dict[str, Any]]:
        """Waits for processes; what failed, the error, or nothing of one that was killed."""
        ends, outcomes = time.monotonic() + seconds, []
        for process in processes:
            process.join(max(0.0, ends - time.monotonic()))
            if process.is_alive():
                self.counts["hangs"] += 1
                process.kill()
                process.join()
            report = pathlib.Path(process.name)
            outcome = json.loads(report.read_text()) if report.exists() else {}
            if "error" in outcome:
                outcome["error"] = self.noted(outcome["error"])
            outcomes.append(outcome)
        return outcomes

    def wait_for_a_moment(self, seconds: float = faulted.COUNT * PAUSE) -> None:
        """Until a random moment: of the start in a quarter of the runs, and else while results are written."""
        if self.random.random() < 0.25:
            time.sleep(self.random.uniform(0, 1))
            return
        ends = time.monotonic() + LIMIT / 2
        while time.monotonic() < ends and not any(self._files()):
            time.sleep(0.002)
        time.sleep(self.random.uniform(0, seconds))

    def _files(self):
        pattern = {"files": "*.npy", "store": "index/*.json", "figures": "images/*.json"}[self.form]
        return self.out.glob(pattern)

    def go_on(self, shares: int | None = None, **options: Any) -> None:
        """Starts the run again, in this process or in so many, and does what the line of an error says."""
        for _ in range(5):
            if shares is None:
                outcomes = [self.call(**options)]
            else:
                outcomes = self.finish([self.start((i, shares), pause=0.0) for i in range(shares)])
            errors = [outcome["error"] for outcome in outcomes if "error" in outcome]
            if not errors:
                return
            for error in errors:
                self.follow(error)

    def follow(self, error: str) -> None:
        """Does what a line says."""
        self.counts["reported"] += 1
        if file := REMOVE.search(error):
            pathlib.Path(file["it"] or file["file"]).unlink(missing_ok=True)
        elif OTHER_FOLDER in error:
            self.out = self.out.with_name(f"other.{self.counts['reported']}{self.out.suffix}")

    def read(self) -> dict[str, Any]:
        """The results that can be read; wrong ones are counted, and errors are noted."""
        results, readable = faulted.results(self.out, self.form), {}
        for name, result in results.items():
            if isinstance(result, Exception):
                self.noted(faulted.described(result))
                continue
            expected = self.expected.get(name)
            if expected is None or np.shape(result) != expected.shape:
                self.counts["wrong"] += 1
            elif not np.allclose(result, expected, rtol=0, atol=TOLERANCE, equal_nan=True):
                self.counts["wrong"] += 1
            readable[name] = result
        return readable

    def examine(self) -> None:
        """Counts what is lost, torn, wrong or there twice."""
        results = faulted.results(self.out, self.form)
        self.counts["torn"] += sum(isinstance(result, Exception) for result in results.values())
        self.counts["lost"] += len(self.expected.keys() - results.keys())
        self.read()
        if self.form == "store":
            self.counts["twice"] += faulted.repeated(self.out)


def kill_share(scene: Scene) -> None:
    """kill -9 of one of two processes."""
    processes = [scene.start((i, 2)) for i in range(2)]
    scene.wait_for_a_moment()
    scene.random.choice(processes).kill()
    scene.finish(processes)
    scene.go_on(2)


def kill_all(scene: Scene) -> None:
    """kill -9 of all processes, two times, and another number of them afterwards."""
    for count in scene.random.sample([1, 2, 3], 2):
        processes = [scene.start((i, count)) for i in range(count)]
        scene.wait_for_a_moment()
        for process in processes:
            process.kill()
        scene.finish(processes)
    scene.go_on(scene.random.choice([1, 2, 3, 4]))


def sigterm(scene: Scene) -> None:
    """SIGTERM to all processes, which have half a minute."""
    processes = [scene.start((i, 2)) for i in range(2)]
    scene.wait_for_a_moment()
    for process in processes:
        process.terminate()
    scene.finish(processes, PREEMPTED)
    if all(process.exitcode == 128 + signal.SIGTERM for process in processes) and (scene.out / ".locks").exists():
        scene.counts["unclear"] += 1
    scene.go_on(scene.random.choice([1, 2, 3]))


def _send(process: Any, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended before the moment came
        os.kill(process.pid, number)


def stopped_process(scene: Scene) -> None:
    """A process that stands still for a while (SIGSTOP), and a second one that wants its share."""
    processes = [scene.start((i, 2)) for i in range(2)]
    scene.wait_for_a_moment()
    _send(processes[0], signal.SIGSTOP)
    scene.finish([processes[1], scene.start((0, 2))])
    _send(processes[0], signal.SIGCONT)
    scene.finish(processes[:1])
    scene.go_on(2)


def two_runs(scene: Scene) -> None:
    """Two runs in one folder, at once or one after the other, of as many processes or of another number."""
    first = scene.start((0, 1))
    if scene.random.random() < 0.7:
        scene.wait_for_a_moment()
    scene.finish([first, scene.start((0, scene.random.choice([1, 2])))])
    scene.go_on(1)


def rename_dies(scene: Scene) -> None:
    """A rename that copies half of a file and dies with its process."""
    scene.finish([scene.start((0, 1), dies_at=scene.random.randrange(faulted.COUNT + 4))])
    scene.go_on(1)


def rename_fails(scene: Scene) -> None:
    """A rename that copies half of a file and fails."""

    def fail():
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(scene.out))

    number = scene.random.randrange(faulted.COUNT + 4 if scene.form == "files" else 16)
    with mock.patch("os.replace", faulted.torn_replace(number, fail)):
        scene.call()
    scene.go_on()


def full_disk(scene: Scene) -> None:
    """A disk that is full: a small tmpfs if this process may mount one, and else a writer that fails."""
    mounted = scene.folder / "disk"
    mounted.mkdir()
    pages = scene.random.randrange(3, 60 if scene.form != "store" else 24)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * pages}k", "tmpfs", str(mounted)]
    if scene.random.random() < 0.5 or subprocess.run(mount, capture_output=True).returncode:
        with _failing_writer(4096 * pages // 12):
            scene.call()
        scene.go_on()
        scene.examine()
        return
    try:
        scene.out = mounted / scene.out.name
        scene.call()
        subprocess.run(["mount", "-o", "remount,size=16m", str(mounted)], check=True)
        scene.go_on()
        scene.examine()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    scene.out = scene.undisturbed  # the results were examined before the disk went


@contextlib.contextmanager
def _failing_writer(left: int) -> Iterator[None]:
    write = pathlib.Path.write_bytes

    def until_full(path, content):
        nonlocal left
        left -= len(content)
        if left < 0:
            write(path, content[: max(0, len(content) + left)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content)

    with mock.patch.object(pathlib.Path, "write_bytes", until_full):
        yield


def clock_skew(scene: Scene) -> None:
    """Files with times of other decades, also the lock of a machine that died, in a run whose own clock is wrong."""
    last = scene.random.randrange(faulted.COUNT)

    def stop(i):
        if i == last:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        faulted.explain(scene.out, scene.form, at=stop)
    locks = scene.out / ".locks"
    locks.mkdir(exist_ok=True)
    (locks / "0-of-1.json").write_text(json.dumps({"host": "another", "process": 7, "started": 0}))
    (scene.out / ".00.npy.another.7.0123abcd.partial").write_bytes(b"half a map")
    now, off = time.time(), lambda: scene.random.uniform(-CLOCKS_OFF, CLOCKS_OFF)
    for file in scene.out.rglob("*"):
        moment = now + off()
        os.utime(file, (moment, moment))
    own = off()
    clock = time.time
    with mock.patch("time.time", lambda: clock() + own), mock.patch.multiple(_lock, WATCHED=0.05, PAUSE=0.01):
        scene.go_on()


def damaged_file(scene: Scene) -> None:
    """Flipped bytes in a store, or a file that is cut."""  # a flipped byte of a .npy file cannot be noticed
    scene.out = faulted.copy_of(scene.undisturbed, scene.out)
    files = sorted(file for file in scene.out.rglob("*") if file.is_file())
    file = scene.random.choice(files)
    content = bytearray(file.read_bytes())
    if not content:
        return
    if scene.form != "store" or scene.random.random() < 0.25:
        del content[scene.random.randrange(len(content)) :]
    else:
        for _ in range(scene.random.randint(1, 8)):
            content[scene.random.randrange(len(content))] ^= scene.random.randint(1, 255)
    file.write_bytes(content)
    for _ in range(3):  # a line that says no more than to start again leads to others
        before = len(scene.errors)
        try:
            scene.read()
        except ValueError as error:
            scene.noted(faulted.described(error))
        for text in dict.fromkeys(scene.errors[before:]):
            scene.follow(text)
        scene.go_on()


def hanging_read(scene: Scene) -> None:
    """A picture that is a pipe nobody writes to, read by a loader in a process of its own."""
    _, pixels = faulted.network_and_images()
    files = [scene.folder / f"{name}.png" for name in faulted.NAMES]
    hanging = scene.random.randrange(len(files))
    for i, file in enumerate(files):
        Image.fromarray(np.round(255 * pixels[i]).astype(np.uint8)).save(file) if i != hanging else os.mkfifo(file)
    load = _shared_loader(images.read)
    _only_failure(scene, scene.call(elements=files, load=load), hanging)
    files[hanging].unlink()
    Image.fromarray(np.round(255 * pixels[hanging]).astype(np.uint8)).save(files[hanging])
    scene.go_on(elements=files, load=load)


def poison_image(scene: Scene) -> None:
    """An image that kills the process that loads it, read by a loader in a process of its own."""
    _, pixels = faulted.network_and_images()
    files = [scene.folder / f"{name}.raw" for name in faulted.NAMES]
    poison = scene.random.randrange(len(files))
    for i, file in enumerate(files):
        file.write_bytes(pixels[i].tobytes() if i != poison else faulted.POISON)
    load = _shared_loader(faulted.load_or_die)
    _only_failure(scene, scene.call(elements=files, load=load), poison)
    files[poison].write_bytes(pixels[poison].tobytes())
    scene.go_on(elements=files, load=load)


LOADERS: dict[Any, Callable[[Any], Any]] = {}


def _shared_loader(load):
    return LOADERS.setdefault(load, isolated(load, seconds=READING))


def _only_failure(scene, outcome, number):
    """Counts what is wrong with a run in which one image fails."""
    scene.counts["lost"] += set(outcome.get("failed", {})) != {faulted.NAMES[number]}


PROCESSES: Any = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
ALL, MAPS = ("files", "store", "figures"), ("files", "store")
# The kinds, with the number of runs and the forms of results that they are tried with.
KINDS: dict[Callable[[Scene], None], tuple[int, tuple[str, ...]]] = {
    kill_share: (20, ALL),
    kill_all: (20, ALL),
    sigterm: (20, ALL),
    stopped_process: (20, ALL),
    two_runs: (20, ALL),
    rename_dies: (20, ALL),
    hanging_read: (20, MAPS),
    poison_image: (20, MAPS),
    rename_fails: (100, ALL),
    full_disk: (100, ALL),
    clock_skew: (100, ALL),
    damaged_file: (100, ALL),
}
BY_NAME = {kind.__name__: kind for kind in KINDS}


def remove(folder: pathlib.Path) -> None:
    """Removes a folder; its pipes, too."""
    shutil.rmtree(folder)
