"""A folder of results: each file is whole or absent, and `run.json` says which run wrote them.

A file is written under another name and renamed, so that a run stopped at any moment leaves whole files only.
"""

import contextlib
import io
import json
import math
import os
import pathlib
import platform
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcam.runtime._earlier import in_todays_names
from jaxcam.runtime._fingerprint import describe_differences

PARTIAL = ".partial"
DAY = 24 * 60 * 60
HOST = platform.node().replace(".", "-")


class MapFolder:
    """The folder of `explain_batch`: a map a file, `NAME.npy`."""

    def __init__(self, out: pathlib.Path):
        self.out = out

    def path(self, name: str) -> pathlib.Path:
        """The file of the map of that name."""
        return self.out / f"{name}.npy"

    def has_map(self, name: str) -> bool:
        """Whether the map of that name is there and whole: a file is as long as its header says.

        A rename is not atomic on every network file system, and files written just before a power failure may be short.
        """
        try:
            with open(self.path(name), "rb") as file:
                version = np.lib.format.read_magic(file)
                readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = readers[version](file)
                return os.fstat(file.fileno()).st_size == file.tell() + math.prod(shape) * dtype.itemsize
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, EOFError, SyntaxError):  # not a map; it is written again
            return False

    def open(self, run: Mapping[str, Any]) -> None:
        """Makes the folder, or goes on with it.

        Images without a map may have changed since the last run. If results do not depend on an image's place in the
        list (no key, and one target or none), images may also be added or removed.

        Raises:
          ValueError: the folder holds the results of another run.
        """
        prepare_folder(self.out)
        if not self.records(run):
            write_run(self.out / "run.json", json.loads(json.dumps(run)))

    def records(self, run: Mapping[str, Any]) -> bool:
        """Whether the folder records just this run; a ValueError if it holds the results of another. Writes nothing."""
        has_maps = any(self.out.glob("*.npy"))
        if any((self.out / "images").glob("*.json")):
            raise ValueError(f"{self.out} holds an evaluation: choose another folder")
        if (self.out / "zarr.json").exists():
            raise ValueError(
                f"{self.out} holds a Zarr store: give it a name that ends in .zarr, or choose another folder"
            )
        file = self.out / "run.json"
        if has_maps and not file.exists():
            raise ValueError(f"{self.out} has maps but no run.json that says of which run: choose another folder")
        run = json.loads(json.dumps(run))
        return has_maps and self._images_of_same_run(file, run) == run["images"]

    def _images_of_same_run(self, file, run):
        """The images that run.json records; a ValueError if it records another run."""
        try:
            recorded = read_run(file)
            recorded_images = dict(recorded["images"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{file} does not describe a run: choose another folder") from error
        images = run["images"]
        differences = describe_differences({**recorded, "images": images}, run)
        depends_on_place = run["key"] is not None or isinstance(run["targets"], str)
        changed = [name for name in images if recorded_images.get(name) != images[name] and self.path(name).exists()]
        if changed:
            differences.append(f"other images ({changed[0]!r} for one)")
        elif depends_on_place and list(recorded_images) != list(images):
            differences.append("other images")
        refuse_if_any(differences, self.out)
        return recorded_images

    def write(self, name: str, saliency: np.ndarray, finished: int) -> pathlib.Path:
        """The path, with the map in it; an OSError says how many maps are finished."""
        buffer = io.BytesIO()
        # NumPy would write a type that is not its own, such as bfloat16, as bytes without a meaning.
        np.save(buffer, saliency.astype(np.float32) if saliency.dtype.kind == "V" else saliency)
        with saying_how_many(finished, "maps", self.path(name)):
            replace(self.path(name), buffer.getvalue())
        return self.path(name)


def read_run(file: pathlib.Path) -> dict[str, Any]:
    """What a `run.json` records, functions of jaxcam by the names that they have now."""
    try:
        return in_todays_names(dict(json.loads(file.read_text())))
    except RecursionError as error:
        raise ValueError(f"{file} is nested too deep") from error


def write_run(file: pathlib.Path, run: Mapping[str, Any]) -> None:
    """Records a run, unless it is recorded: results without this file belong to no run."""
    content = json.dumps(run, indent=1).encode()
    if not file.exists() or file.read_bytes() != content:
        replace(file, content)


def refuse_if_any(differences: Sequence[str], out: pathlib.Path) -> None:
    """Raises a ValueError if a folder's run differs from the current one."""
    if differences:
        what = "; ".join(differences)
        raise ValueError(f"{out} holds another run, with {what}: choose another folder, or the same settings")


@contextlib.contextmanager
def saying_how_many(finished: int, things: str, path: pathlib.Path) -> Iterator[None]:
    """Adds to an OSError how many results are finished."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}; {finished} {things} are finished, and the same call goes on from there"
        raise OSError(error.errno, reason, str(path)) from error


def prepare_folder(out: pathlib.Path) -> None:
    """Makes the folder if it does not exist, and removes the half-written files of runs that were killed."""
    out.mkdir(parents=True, exist_ok=True)
    for partial in out.glob(f".*{PARTIAL}"):
        if _is_abandoned(partial):
            partial.unlink(missing_ok=True)


def _is_abandoned(partial):
    """Whether no process writes the file any more: its process on this machine has ended, or it is a day old."""
    parts = partial.name.rsplit(".", 4)
    if os.name == "posix" and len(parts) == 5 and parts[1] == HOST and parts[2].isdecimal():
        return int(parts[2]) == os.getpid() or not _is_running(int(parts[2]))
    try:
        return time.time() - partial.stat().st_mtime > DAY
    except OSError:  # another process has removed it
        return False


def _is_running(process):
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except OSError:  # the process is another user's
        return True
    return True


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file in one step: a reader finds the new content, the old content or no file, and never a part."""
    # Every writer has a file of its own, because two runs may write the same file at once.
    partial = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
