"""The web page answers requests at once and in a row as the Python API does, keeps its memory, and refuses mistakes.

`jaxcam serve` in a process of its own, whose endpoint is called by gradio_client and by plain HTTP: 50 requests at
once; 500 in a row, with the server's memory after 100 and after 500; a picture of 40 megapixels; a broken file, a zip
that is called .png, ../../etc/passwd in every text field and as a file, an upload of 300 MB; clients that close the
connection in the middle of a request. Maps are compared with those of the Python API, and the seconds of a map are
those of the endpoint over those of `jaxcam.explain`, in turn. Needs Gradio.
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import jaxcam
from benchmarks import peers, timing
from jaxcam import web

PASSWORDS = "../../etc/passwd"
FIELDS = ("model", "layer", "target", "method", "filters", "subset")
METHODS = ("grad_cam", "layer_cam", "hires_cam", "xgrad_cam")
PICTURES = {"efficientnet_lite0": web.SAMPLES["cat"].path, "digits": web.SAMPLES["digits 1"].path}
PATIENCE = 600  # seconds for one answer
TOLERANCE = 1e-5  # of the map's maximum: two programs round differently


class Job(NamedTuple):
    """What one request asks for."""

    model: str
    method: str
    target: int


class Server(NamedTuple):
    """A server that runs.

    Attributes:
      process: of `jaxcam serve`.
      address: of the page, which ends with a slash.
      temporary: the folder of its temporary files.
      client: of gradio_client.
    """

    process: subprocess.Popen
    address: str
    temporary: pathlib.Path
    client: Any


def measure(*, small: bool = False) -> dict:
    """Ratios, counts and memory; small sends few requests, 2.5 megapixels and 40 MB."""
    if importlib.util.find_spec("gradio") is None:
        raise peers.Missing("runs the page, which needs Gradio: install the group web")
    at_once, marks, leaving, megabytes = (6, (4, 8), 2, 40) if small else (50, (100, 500), 10, 300)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with _served(folder) as server:
            jobs = _jobs(max(at_once, marks[-1]), 1 if small else 10)
            expected = _expected(jobs)
            for method in METHODS:  # the server compiles
                _ask(server, Job("digits", method, 0))
            opened = _open_files(server)
            refused = _refused(server, folder)
            upload, upload_memory = _upload_is_refused(server, megabytes)
            _leave(server, leaving)
            goes_on = _is_right(_ask(server, jobs[0]), expected[jobs[0]])
            large = _large(server, folder, (1800, 1400) if small else (7200, 5600))
            over_python = _over_python(server, repeats=2 if small else 20)
            right_at_once, seconds_at_once = _at_once(server, expected, jobs[:at_once])
            right_in_a_row, seconds, memory = _in_a_row(server, expected, jobs[: marks[-1]], marks)
            counts = {"before": opened, "after": _open_files(server)}
            peak = _memory(server, "VmHWM")
        left = [str(path) for path in server.temporary.rglob("*") if path.is_file()]
    refused[f"an upload of {megabytes} MB"] = upload
    first, last = (f"after {mark} in a row" for mark in marks)
    return {
        "ratios": {
            f"{at_once} requests at once: answered rightly": right_at_once / at_once,
            f"{marks[-1]} requests in a row: answered rightly": right_in_a_row / marks[-1],
            f"memory of the server, {last} / {first}": memory[last] / memory[first],
            **{f"seconds of a map, {model}: endpoint / jaxcam.explain": r for model, r in over_python.ratios.items()},
            "mistakes: refused": sum(refused.values()) / len(refused),
            f"after {leaving} clients that left: answered rightly": float(goes_on),
            "after all of it: open files / before": counts["after"] / counts["before"],
            "after the server's end: files left": float(len(left)),
        },
        "at least": {"answered rightly": 1, "refused": 1},
        "bounds": {first: 1.05, "open files / before": 1.1, "files left": 0},
        "seconds": {
            f"{at_once} at once, all of them": seconds_at_once,
            "one in a row": seconds,
            **over_python.seconds,
            **large,
        },
        "memory in MiB": {**memory, f"more at the peak, {megabytes} MB upload": upload_memory, "peak over all": peak},
        "refused": refused,
        "open files": counts,
    }


@contextlib.contextmanager
def _served(folder: pathlib.Path) -> Iterator[Server]:
    """`jaxcam serve` in a process whose temporary files are in a folder of its own."""
    from gradio_client import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary, log = folder / "temporary", folder / "server.log"
    temporary.mkdir()
    words = [sys.executable, "-m", "jaxcam", "serve", "--port", str(port)]
    with log.open("w") as output:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
    address = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(address, process, log)
        client = Client(address, verbose=False, httpx_kwargs={"timeout": PATIENCE}, download_files=str(folder))
        yield Server(process, address, temporary, client)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_for(address: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    start = time.monotonic()
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).read()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() - start > PATIENCE:
                raise RuntimeError(f"the page did not start: {log.read_text()}") from None
            time.sleep(0.5)


def _jobs(count: int, n_targets: int) -> list[Job]:
    """Requests whose methods and classes differ, for the network that leaves most of the time to the page."""
    return [Job("digits", METHODS[i % len(METHODS)], i // len(METHODS) % n_targets) for i in range(count)]


def _ask(server: Server, job: Job, picture: pathlib.Path | None = None, **fields: Any) -> np.ndarray:
    """The map of a request by gradio_client, which uploads the picture and downloads the answer."""
    from gradio_client import handle_file

    values = {**job._asdict(), "target": str(job.target), **fields}
    path = PICTURES[job.model] if picture is None else picture
    return np.load(server.client.predict(handle_file(str(path)), **values, api_name="/explain")[2])


def _expected(jobs: list[Job]) -> dict[Job, np.ndarray]:
    """The maps of the Python API."""
    opened, maps = jaxcam.open_model("digits"), {}
    for job in sorted(set(jobs)):
        explanation = jaxcam.explain(opened, PICTURES[job.model], job.target, methods=job.method)
        maps[job] = np.asarray(explanation.maps[job.method])
    return maps


def _is_right(saliency: np.ndarray, expected: np.ndarray) -> bool:
    same_shape = saliency.shape == expected.shape
    return same_shape and bool(np.abs(saliency - expected).max() <= TOLERANCE * max(expected.max(), 1e-9))


def _at_once(server: Server, expected: dict[Job, np.ndarray], jobs: list[Job]) -> tuple[int, float]:
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(lambda job: _ask(server, job), jobs))
    seconds = time.perf_counter() - start
    return sum(_is_right(saliency, expected[job]) for job, saliency in zip(jobs, answers, strict=True)), seconds


def _in_a_row(
    server: Server, expected: dict[Job, np.ndarray], jobs: list[Job], marks: tuple[int, int]
) -> tuple[int, dict[str, float], dict[str, float]]:
    """How many are right, their seconds, and the server's memory after so many."""
    right, memory = 0, {"before those in a row": _memory(server)}
    times: list[float] = []
    for number, job in enumerate(jobs, start=1):
        start = time.perf_counter()
        saliency = _ask(server, job)
        times.append(time.perf_counter() - start)
        right += _is_right(saliency, expected[job])
        if number in marks:
            memory[f"after {number} in a row"] = _memory(server)
    return right, timing.summary({"one": times})["one"], memory


class OverPython(NamedTuple):
    """The seconds of a map by the endpoint over those of the Python API, and both, by network."""

    ratios: dict[str, float]
    seconds: dict[str, dict[str, float]]


def _over_python(server: Server, *, repeats: int) -> OverPython:
    ratios: dict[str, float] = {}
    seconds: dict[str, dict[str, float]] = {}
    for model, path in PICTURES.items():
        rivals: dict[str, Callable[[], object]] = {
            f"{model}: jaxcam.explain": _explainer(model, path),
            f"{model}: endpoint": _asker(server, Job(model, "grad_cam", 3)),
        }
        times = timing.in_turn(rivals, repeats=repeats)
        ratios[model] = timing.median_ratio(times, f"{model}: endpoint", f"{model}: jaxcam.explain")
        seconds |= timing.summary(times)
    return OverPython(ratios, seconds)


def _explainer(model: str, path: pathlib.Path) -> Callable[[], object]:
    opened = jaxcam.open_model(model)
    return lambda: jaxcam.explain(opened, path, 3, methods="grad_cam").maps["grad_cam"]


def _asker(server: Server, job: Job) -> Callable[[], object]:
    return lambda: _ask(server, job)


def _large(server: Server, folder: pathlib.Path, size: tuple[int, int]) -> dict[str, float]:
    """Seconds for a large picture, whose map must be that of the Python API."""
    path, job = folder / "large.jpg", Job("efficientnet_lite0", "grad_cam", 3)
    noise = np.random.default_rng(1).integers(0, 256, (20, 25, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=80)
    expected = jaxcam.explain(jaxcam.open_model(job.model), path, job.target, methods=job.method).maps[job.method]
    start = time.perf_counter()
    saliency = _ask(server, job, path)
    seconds = time.perf_counter() - start
    if not _is_right(saliency, np.asarray(expected)):
        raise RuntimeError("the map of the large picture is not that of the Python API")
    return {f"a picture of {size[0] * size[1] / 1e6:.0f} megapixels": seconds}


def _refused(server: Server, folder: pathlib.Path) -> dict[str, bool]:
    """For each mistake, whether it is refused in one line that shows nothing of the server's files."""
    picture, broken, archive = PICTURES["digits"], folder / "broken.png", folder / "archive.png"
    broken.write_bytes(picture.read_bytes()[:200])
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat.png", b"0" * 1000)
    calls: dict[str, tuple[pathlib.Path, dict[str, str]]] = {
        "a broken file": (broken, {}),
        "a zip that is called .png": (archive, {}),
        **{f"{PASSWORDS} as {field}": (picture, {field: PASSWORDS}) for field in FIELDS},
    }
    refused = {}
    for name, (path, fields) in calls.items():
        try:
            _ask(server, Job("digits", "grad_cam", 3), path, **fields)
            refused[name] = False
        except Exception as error:  # gradio_client has an error of its own for each way to fail
            refused[name] = _is_one_line(str(error))
    for address in (PASSWORDS, "/etc/passwd", "http://127.0.0.1:1/cat.png"):
        answer = _answer(server, _event(server, address, "grad_cam", 0))
        refused[f"{address} as the picture, over HTTP"] = "event: error" in answer and "root:" not in answer
    for address in (PASSWORDS, "/etc/passwd"):
        refused[f"download of {address}"] = not _is_readable(server, address)
    return refused


def _is_one_line(message: str) -> bool:
    return "\n" not in message and not any(word in message for word in ("root:", "Traceback", "/tmp"))


def _is_readable(server: Server, path: str) -> bool:
    try:
        urllib.request.urlopen(f"{server.address}gradio_api/file={path}", timeout=PATIENCE).read()
    except urllib.error.HTTPError:
        return False
    return True


def _event(server: Server, path: str, method: str, target: int) -> str:
    """Asks for a map over plain HTTP, and returns the number of the event."""
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    samples = 25 if method == "smooth_grad_cam_pp" else None
    data = [picture, "digits", "", str(target), method, samples, None, 0, "", "", False]
    asked = urllib.request.Request(
        f"{server.address}gradio_api/call/explain",
        json.dumps({"data": data}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as reply:
        return json.load(reply)["event_id"]


def _answer(server: Server, event: str) -> str:
    with urllib.request.urlopen(f"{server.address}gradio_api/call/explain/{event}", timeout=PATIENCE) as stream:
        return stream.read().decode()


def _upload_is_refused(server: Server, megabytes: int) -> tuple[bool, float]:
    """Whether a large upload is refused, and by how much the peak of the server's memory grew."""
    import httpx

    before = _memory(server, "VmHWM")
    content = b"\x89PNG\r\n\x1a\n" + bytes(megabytes * 10**6)
    try:
        answer = httpx.post(
            f"{server.address}gradio_api/upload", files={"files": ("large.png", content)}, timeout=PATIENCE
        )
        refused = answer.status_code == 413
    except (httpx.WriteError, httpx.RemoteProtocolError):  # the server stopped reading
        refused = True
    return refused, _memory(server, "VmHWM") - before


def _leave(server: Server, count: int) -> None:
    """Clients that ask for a map and close the connection before they have it."""
    import httpx

    content = PICTURES["digits"].read_bytes()
    answer = httpx.post(
        f"{server.address}gradio_api/upload", files={"files": ("picture.png", content)}, timeout=PATIENCE
    )
    [path] = answer.json()
    for number in range(count):
        event = _event(server, path, "smooth_grad_cam_pp", number % 10)
        with (
            contextlib.suppress(httpx.TimeoutException),
            httpx.stream("GET", f"{server.address}gradio_api/call/explain/{event}", timeout=0.1) as stream,
        ):
            next(stream.iter_bytes(), None)


def _memory(server: Server, field: str = "VmRSS") -> float:
    """MiB of the server, as Linux says."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    [kilobytes] = re.findall(rf"^{field}:\s*(\d+) kB", status, flags=re.MULTILINE)
    return int(kilobytes) / 1024


def _open_files(server: Server) -> int:
    """How many files and connections the server has open."""
    return len(list(pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()))
