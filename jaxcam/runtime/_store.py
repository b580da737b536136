"""The folder of a run: a map a file, each whole or not there, and what tells the run from another.

What is written is written beside its place and renamed, so that whatever stops a run leaves whole files and no others.
"""

import contextlib
import io
import json
import os
import pathlib
import platform
import secrets
import time
from typing import Any

import numpy as np

from jaxcam.runtime._fingerprint import differences

PARTIAL = ".partial"
DAY = 24 * 60 * 60
HOST = platform.node().replace(".", "-")


def path(out: pathlib.Path, name: str) -> pathlib.Path:
    """Where the map of that name is."""
    return out / f"{name}.npy"


def open_folder(out: pathlib.Path, settings: dict[str, Any]) -> None:
    """The folder, made where it is not there, without what a killed run left; a ValueError where it is another's.

    An image that has no map yet may have been mended since. Where nothing depends on an image's place in the list, no
    key and one class or none for all, images may be more or fewer, too.
    """
    sweep(out)
    file = out / "run.json"
    maps = any(out.glob("*.npy"))
    if any((out / "images").glob("*.json")):
        raise ValueError(f"{out} holds an evaluation: choose another folder")
    if not file.exists() or not maps:
        if maps:
            raise ValueError(f"{out} has maps but no run.json that says of which run: choose another folder")
        replace(file, json.dumps(settings, indent=1).encode())
        return
    try:
        there = dict(json.loads(file.read_text()))
        known = dict(there["images"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} does not describe a run: choose another folder") from error
    here = json.loads(json.dumps(settings))
    images = here["images"]
    differs = differences({**there, "images": images}, here)
    by_place = here["key"] is not None or isinstance(here["targets"], str)
    changed = [name for name in images if known.get(name) != images[name] and path(out, name).exists()]
    if changed or (by_place and list(known) != list(images)):
        differs.append(f"other images ({changed[0]!r} for one)" if changed else "other images")
    if differs:
        what = "; ".join(differs)
        raise ValueError(f"{out} holds another run, with {what}: choose another folder, or the same settings")
    if images != known:
        replace(file, json.dumps(settings, indent=1).encode())


def sweep(out: pathlib.Path) -> None:
    """The folder, made where it is not there, and without what a killed run left half-written."""
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f".*{PARTIAL}"):
        if _is_left(left):
            left.unlink(missing_ok=True)


def _is_left(partial):
    """Whether what a file was written by is no more: a process here that ended; or anything of yesterday."""
    parts = partial.name.rsplit(".", 4)
    if os.name == "posix" and len(parts) == 5 and parts[1] == HOST and parts[2].isdecimal():
        return int(parts[2]) == os.getpid() or not _runs(int(parts[2]))
    try:
        return time.time() - partial.stat().st_mtime > DAY
    except OSError:  # it is gone
        return False


def _runs(process):
    try:
        os.kill(process, 0)  # asks, and does nothing
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def write(path: pathlib.Path, image_map: np.ndarray, finished: int) -> pathlib.Path:
    """The path, with the map in it; an OSError that says how many maps are finished."""
    buffer = io.BytesIO()
    # NumPy would write a type that is not its own, such as bfloat16, as bytes without a meaning.
    np.save(buffer, image_map.astype(np.float32) if image_map.dtype.kind == "V" else image_map)
    try:
        replace(path, buffer.getvalue())
    except OSError as error:
        reason = f"{error.strerror or error}; {finished} maps are finished, and the same call goes on from there"
        raise OSError(error.errno, reason, str(path)) from error
    return path


def replace(path: pathlib.Path, content: bytes) -> None:
    """Written beside and renamed: there is the whole file, or none."""
    # A name of its own for each writer: two runs in one folder write the same maps, and must not share a file.
    beside = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
