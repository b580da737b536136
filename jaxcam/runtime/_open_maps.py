"""Maps that a run wrote, by name, whatever their form on disk."""

import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxcam.runtime._index import Index
from jaxcam.runtime._zarr import checksum, import_zarr, is_zarr, shard_file, unscaled

TRIES = 20
PAUSE = 0.05  # seconds


def open_maps(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """The maps that `explain_batch(out=path)` wrote, as a read-only mapping from names to arrays.

    Nothing is read before it is asked for. The mapping may be opened while a run writes: names that the run adds appear
    when they are asked for, or after the mapping is opened again.

    Args:
      path: a folder of `NAME.npy` files, or a store `NAME.zarr`.

    Returns:
      A mapping. Maps of a store of "float16" or "uint8" come back as float32.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: a folder that `explain_batch` did not write; a store without Zarr; on reading, a damaged file.

    Example:
      >>> import tempfile, jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> canvases = {name: jaxcam.pretrained.digits_canvas(i)[0] for i, name in enumerate(["a", "b"])}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = jaxcam.explain_batch(jaxcam.grad_cam, cut, canvases, out=folder)
      ...     maps = open_maps(folder)
      ...     sorted(maps), maps["b"].shape
      (['a', 'b'], (16, 16))
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder of maps")
    if not (path / "run.json").exists():
        raise ValueError(f"{path} has no run.json: expected a folder that explain_batch wrote")
    if (path / "images").is_dir():
        raise ValueError(f"{path} holds an evaluation: expected a folder that explain_batch wrote")
    is_store = is_zarr(path) or (path / "zarr.json").exists()  # it may have been renamed
    return ZarrReader(path) if is_store else FolderReader(path)


class FolderReader(Mapping[str, np.ndarray]):
    """The maps in a folder of `NAME.npy` files."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __getitem__(self, name: str) -> np.ndarray:
        file = self.path / f"{name}.npy"
        if name not in self:
            raise KeyError(name)
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} is damaged: remove it, and the same call computes it again") from error

    def __contains__(self, name: object) -> bool:
        is_name = isinstance(name, str) and os.path.basename(name) == name
        return is_name and (self.path / f"{name}.npy").is_file()

    def __iter__(self) -> Iterator[str]:
        with os.scandir(self.path) as entries:
            yield from (e.name.removesuffix(".npy") for e in entries if e.name.endswith(".npy"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<maps in {self.path}>"


class ZarrReader(Mapping[str, np.ndarray]):
    """The maps in a Zarr store."""

    def __init__(self, path: pathlib.Path):
        self.path, self.zarr, self.index = path, import_zarr(), Index(path / "index")
        self._arrays: dict[str, Any] = {}
        self.index.refresh()

    def __getitem__(self, name: str) -> np.ndarray:
        place = self._find(name)
        if place is None:
            raise KeyError(name)
        segment, array = place.segment, self._array(place.segment)
        try:
            values = self._values(array, segment, place.row)
        except Exception as error:  # Zarr and its codecs raise many kinds for damaged files
            raise ValueError(
                f"shard {segment.shard} of {self.path / segment.array} is damaged ({_shortened(error)}): remove "
                f"{self.index.file_of(segment)}, and the same call computes its maps again"
            ) from error
        return unscaled(values, segment.scales and segment.scales[place.row])

    def _values(self, array, segment, row):
        """The stored values of a map; any exception if they are damaged."""
        file, size = shard_file(self.path, segment.array, segment.shard, array.ndim - 1), array.shards[0]
        if (file.stat().st_size if file.exists() else 0) != segment.bytes:
            raise ValueError("it has another size")
        values = np.asarray(array[segment.shard * size + row])
        if segment.sums and checksum(values) != segment.sums[row]:
            raise ValueError("the map has another checksum")
        return values

    def _find(self, name):
        if not isinstance(name, str):
            return None
        place = self.index.find(name)
        if place is None:  # a run may have written it since
            self.index.refresh()
            place = self.index.find(name)
        return place

    def _array(self, segment):
        """The array, as long as the segment needs: processes that write may make it shorter for a moment."""
        file = self.path / segment.array / "zarr.json"
        for _ in range(TRIES):
            array = self._arrays.get(segment.array)
            if array is not None and segment.shard < array.shape[0] // array.shards[0]:
                return array
            try:
                array = self._arrays[segment.array] = self.zarr.open_array(file.parent, mode="r")
                if segment.shard < array.shape[0] // array.shards[0]:
                    return array
            except Exception as error:  # as above
                raise ValueError(
                    f"{file} is damaged ({_shortened(error)}): start the same call again, which writes it again"
                ) from error
            time.sleep(PAUSE)
        raise ValueError(f"{file} says fewer maps than the index: start the same call again, which writes it again")

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.index)

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"<{len(self)} maps in {self.path}>"


def _shortened(error):
    return " ".join(str(error).split())[:80]
