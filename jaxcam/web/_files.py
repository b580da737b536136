"""The files that the page offers for download: written to a folder of the server, and removed after a while."""

import pathlib
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_FOLDERS = 16


class WrittenFiles:
    """Folders for the files of one request each, of which the last ones stay. All are removed with the object.

    The page's library copies a file as soon as a request is answered, so a folder is needed for as long as an answer
    takes.

    Example:
      >>> files = WrittenFiles(most=2)
      >>> first, second, third = (files.folder() for _ in range(3))
      >>> first.exists(), second.exists(), third.exists()
      (False, True, True)
      >>> files.close()
    """

    def __init__(self, most: int = MOST_FOLDERS):
        self._root = tempfile.TemporaryDirectory(prefix="jaxcam-")
        self._folders: deque[pathlib.Path] = deque()
        self._most = most
        self._lock = threading.Lock()

    def folder(self) -> pathlib.Path:
        """An empty folder; the oldest one is removed."""
        with self._lock:
            folder = pathlib.Path(tempfile.mkdtemp(dir=self._root.name))
            self._folders.append(folder)
            while len(self._folders) > self._most:
                shutil.rmtree(self._folders.popleft())
        return folder

    def close(self) -> None:
        """Removes all folders."""
        self._root.cleanup()


def write_maps(folder: pathlib.Path, stem: str, saliency: Mapping[str, np.ndarray]) -> pathlib.Path:
    """Writes one map as `STEM.METHOD.npy`, and several as `STEM.npz` with an array for each method.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = write_maps(pathlib.Path(folder), "cat", {"grad_cam": np.ones([2, 2])})
      ...     path.name, np.load(path).shape
      ('cat.grad_cam.npy', (2, 2))
    """
    if len(saliency) == 1:
        [(method, array)] = saliency.items()
        path = folder / f"{stem}.{method}.npy"
        np.save(path, array)
    else:
        path = folder / f"{stem}.npz"
        np.savez(path, **dict[str, Any](saliency))
    return path
