"""The web page answers what it is asked at once and in a row, keeps its memory, and refuses what is no picture.

`jaxcam serve --model digits` in a process of its own, asked by its endpoint: 50 requests at once; 500 in a row, with
the memory of the server before and after; the seconds of a map over those of the Python API, in turn; a picture of 40
megapixels; what must be refused while the server goes on: a broken file, a zip that is called .png, a path such as
../../etc/passwd in each field that takes text, an upload of 300 MB; and visitors who leave in the middle of a request.
Needs Gradio.
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

import jaxcam
from benchmarks import peers

PASSWORDS = "../../etc/passwd"
FIELDS = ("model", "layer", "target", "method", "filters", "subset")
METHODS = ("grad_cam", "layer_cam", "hires_cam", "xgrad_cam")
PATIENCE = 600  # seconds for one answer


def measure(*, small: bool = False) -> dict:
    """Ratios, counts and memory; small asks few times and uploads 40 MB."""
    if importlib.util.find_spec("gradio") is None:
        raise peers.Missing("runs the page, which needs Gradio: install the group web")
    at_once, in_a_row, leaving, megabytes = (6, 12, 2, 40) if small else (50, 500, 10, 300)
    with tempfile.TemporaryDirectory() as name, _server(pathlib.Path(name)) as (process, address):
        folder = pathlib.Path(name)
        client = _client(address)
        picture = folder / "picture.png"
        noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC).save(picture)
        ask = _asker(client, picture)
        for method in METHODS:  # compiles
            ask(method, 0)
        expected = _expected(picture)
        right_at_once, seconds_at_once = _at_once(ask, expected, at_once)
        before = _memory(process)
        right_in_a_row, seconds = _in_a_row(ask, expected, in_a_row)
        after = _memory(process)
        over_python = _over_python(ask, picture, 3 if small else 20)
        large = _large(folder, client, small)
        refused = _refused(folder, client, picture, address, megabytes)
        gone = _left(address, folder, leaving)
        goes_on = _is_right(ask("grad_cam", 3), expected["grad_cam", 3])
        peak = _memory(process, "VmHWM")
    return {
        "ratios": {
            "requests at once that were answered rightly": right_at_once / at_once,
            "requests in a row that were answered rightly": right_in_a_row / in_a_row,
            "memory after those in a row / before": after / before,
            "seconds of a map, endpoint / Python": over_python,
            "mistakes that were refused in one line": sum(refused.values()) / len(refused),
            "answered rightly after all of it": float(goes_on),
        },
        "at least": {"answered rightly": 1, "in one line": 1, "answered rightly after all of it": 1},
        "bounds": {"before": 1.05},
        "requests": {"at once": at_once, "in a row": in_a_row, "of visitors who left": gone},
        "seconds": {
            f"{at_once} at once, all": seconds_at_once,
            "one in a row, median": statistics.median(seconds),
            "one in a row, longest": max(seconds),
            **large,
        },
        "memory in MiB": {"before": before, f"after {in_a_row} in a row": after, "at most, over all": peak},
        "refused": refused,
    }


@contextlib.contextmanager
def _server(folder: pathlib.Path) -> Iterator[tuple[subprocess.Popen, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "jaxcam", "serve", "--model", "digits", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/"
    start = time.monotonic()
    try:
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() - start > PATIENCE:
                    raise RuntimeError(f"the page did not start: {(folder / 'server.log').read_text()}") from None
                time.sleep(0.5)
        yield process, address
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _client(address: str) -> Any:
    from gradio_client import Client

    return Client(address, verbose=False, httpx_kwargs={"timeout": PATIENCE})


def _asker(client: Any, picture: pathlib.Path) -> Any:
    from gradio_client import handle_file

    def ask(method: str, target: int) -> np.ndarray:
        file = handle_file(str(picture))
        answer = client.predict(file, model="digits", method=method, target=str(target), api_name="/explain")
        return np.load(answer[2])

    return ask


def _expected(picture: pathlib.Path) -> dict[tuple[str, int], np.ndarray]:
    """The maps of the Python API."""
    opened = jaxcam.open_model("digits")
    explained = {t: jaxcam.explain(opened, picture, t, methods=list(METHODS)).maps for t in range(10)}
    return {(method, target): maps[method] for target, maps in explained.items() for method in METHODS}


def _is_right(saliency: np.ndarray, expected: np.ndarray) -> bool:
    return saliency.shape == expected.shape and bool(
        np.abs(saliency - expected).max() <= 1e-6 * max(expected.max(), 1e-9)
    )


def _at_once(ask: Any, expected: dict, count: int) -> tuple[int, float]:
    jobs = [(METHODS[i % len(METHODS)], i % 10) for i in range(count)]
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda job: ask(*job), jobs))
    seconds = time.perf_counter() - start
    return sum(_is_right(saliency, expected[job]) for job, saliency in zip(jobs, answers, strict=True)), seconds


def _in_a_row(ask: Any, expected: dict, count: int) -> tuple[int, list[float]]:
    right, seconds = 0, []
    for i in range(count):
        job = METHODS[i % len(METHODS)], i % 10
        start = time.perf_counter()
        saliency = ask(*job)
        seconds.append(time.perf_counter() - start)
        right += _is_right(saliency, expected[job])
    return right, seconds


def _over_python(ask: Any, picture: pathlib.Path, repeats: int) -> float:
    """The median over rounds of the endpoint's seconds over those of `jaxcam.explain`, taken in turn."""
    opened, ratios = jaxcam.open_model("digits"), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jaxcam.explain(opened, picture, 3, methods="grad_cam")
        middle = time.perf_counter()
        ask("grad_cam", 3)
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return statistics.median(ratios[1:])


def _large(folder: pathlib.Path, client: Any, small: bool) -> dict[str, float]:
    """Seconds for a picture of 40 megapixels, whose map must be that of the Python API."""
    path = folder / "large.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (20, 25, 3), np.uint8)
    size = (1800, 1400) if small else (7200, 5600)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=80)
    expected = jaxcam.explain(jaxcam.open_model("digits"), path, 3, methods="grad_cam").maps["grad_cam"]
    start = time.perf_counter()
    saliency = _asker(client, path)("grad_cam", 3)
    seconds = time.perf_counter() - start
    if not _is_right(saliency, expected):
        raise RuntimeError("the map of the large picture is not that of the Python API")
    return {f"a picture of {size[0] * size[1] / 1e6:.0f} megapixels": seconds}


def _refused(folder: pathlib.Path, client: Any, picture: pathlib.Path, address: str, megabytes: int) -> dict[str, bool]:
    """For each mistake, whether it was refused in one line that shows no file of the server."""
    from gradio_client import handle_file

    broken, archive = folder / "broken.png", folder / "archive.png"
    broken.write_bytes(picture.read_bytes()[:200])
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat.png", b"0" * 1000)
    calls: dict[str, tuple[pathlib.Path, dict[str, str]]] = {
        "a broken file": (broken, {}),
        "a zip that is called .png": (archive, {}),
    }
    calls |= {f"{PASSWORDS} as {field}": (picture, {field: PASSWORDS}) for field in FIELDS}
    refused = {}
    for name, (path, fields) in calls.items():
        try:
            client.predict(handle_file(str(path)), **{"model": "digits", **fields}, api_name="/explain")
            refused[name] = False
        except Exception as error:  # gradio_client has an error of its own for each way to fail
            message = str(error)
            refused[name] = "\n" not in message and "root:" not in message and "Traceback" not in message
    refused[f"an upload of {megabytes} MB"] = _upload_is_refused(address, megabytes)
    return refused


def _upload_is_refused(address: str, megabytes: int) -> bool:
    """Whether the server refuses a large file, with its status or by closing the connection."""
    import httpx

    content = b"\x89PNG\r\n\x1a\n" + bytes(megabytes * 10**6)
    try:
        answer = httpx.post(f"{address}gradio_api/upload", files={"files": ("large.png", content)}, timeout=PATIENCE)
    except (httpx.WriteError, httpx.RemoteProtocolError):  # it stopped reading
        return True
    return answer.status_code == 413


def _left(address: str, folder: pathlib.Path, count: int) -> int:
    """Visitors who ask for a map and close the connection before they have it."""
    import httpx

    with (folder / "picture.png").open("rb") as file:
        answer = httpx.post(f"{address}gradio_api/upload", files={"files": ("picture.png", file)}, timeout=PATIENCE)
    [path] = answer.json()
    for i in range(count):
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        data = [picture, "digits", "", str(i % 10), "smooth_grad_cam_pp", 50, None, i, "", "", False]
        asked = urllib.request.Request(
            f"{address}gradio_api/call/explain",
            json.dumps({"data": data}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=PATIENCE) as reply:
            event = json.load(reply)["event_id"]
        with (
            contextlib.suppress(httpx.ReadTimeout),
            httpx.stream("GET", f"{address}gradio_api/call/explain/{event}", timeout=0.2) as stream,
        ):
            next(stream.iter_bytes(), None)
    return count


def _memory(process: subprocess.Popen, field: str = "VmRSS") -> float:
    """MiB of a process, as Linux tells."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    [kilobytes] = re.findall(rf"^{field}:\s*(\d+) kB", status, flags=re.MULTILINE)
    return int(kilobytes) / 1024
