"""Maps in a Zarr store: one array for the maps of a shape, in shards that are written whole or not at all.

    maps.zarr/run.json                          which run wrote it
    maps.zarr/16x16.float32/zarr.json           an array [rows 16 16]; rows without a map are NaN (uint8: 0)
    maps.zarr/16x16.float32/c/0/0/0             a shard of it
    maps.zarr/index/16x16.float32.000000.json   the names of the shard's maps, written after it

A shard is never changed after it is written, so that many processes can write and others read at the same time.
"""

import json
import pathlib
import time
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcam.runtime._fingerprint import describe_differences
from jaxcam.runtime._index import Index, Segment
from jaxcam.runtime._store import prepare_folder, read_run, refuse_if_any, replace, saying_how_many, write_run

SUFFIX = ".zarr"
STORED = ("float16", "uint8")
MOST_MAPS = 1024  # in a shard
SHARD_BYTES = 2**24
CHUNK_BYTES = 2**16  # what is read for one map, at least
SECONDS = 60.0  # a shard that is not full is written after this time, so that a killed run loses no more
GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def is_zarr(out: Any) -> bool:
    """Whether a path is that of a Zarr store, by its suffix."""
    return pathlib.Path(out).suffix == SUFFIX


def import_zarr() -> Any:
    """The library; one line if it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise ValueError("maps in a .zarr store need Zarr: pip install 'jaxcam-saliency[zarr]'") from error
    if int(zarr.__version__.split(".")[0]) < 3:
        raise ValueError(f"maps in a .zarr store need Zarr 3, got {zarr.__version__}: pip install 'zarr>=3'")
    return zarr


class ZarrMaps:
    """The store of `explain_batch` in a folder `NAME.zarr`, for one writer of perhaps several.

    Args:
      out: the folder.
      stored: None for the values as they are, "float16" or "uint8" with a scale for each map.
    """

    def __init__(self, out: pathlib.Path, stored: str | None = None):
        self.zarr = import_zarr()
        self.out, self.stored = out, stored
        self.index = Index(out / "index")
        self._waiting: dict[str, list[tuple[str, str, np.ndarray, tuple[float, float]]]] = {}
        self._since: dict[str, float] = {}  # when an array's first waiting map came; the oldest is first
        self._written = 0

    def open(self, run: Mapping[str, Any]) -> None:
        """Makes the store, or goes on with it; a ValueError if it holds another run."""
        has_maps = self.records(run)
        prepare_folder(self.out)
        for folder in self.out.rglob("*/"):
            prepare_folder(folder)
        if has_maps:
            for array in self.index.arrays():
                self._describe(array, self._encode(_one_map(array))[0])
        else:
            # First: it says that the folder is ours.
            write_run(self.out / "run.json", json.loads(json.dumps({**run, "stored": self.stored})))
            replace(self.out / "zarr.json", json.dumps(GROUP).encode())

    def records(self, run: Mapping[str, Any]) -> bool:
        """Whether the store has maps of this run; a ValueError if it holds those of another. Writes nothing."""
        file = self.out / "run.json"
        # Listed before run.json is looked for, which another process of the run writes before anything else.
        entries = [entry.name for entry in self.out.glob("*") if entry.name[0] != "."]
        if entries and not file.exists():
            raise ValueError(f"{self.out} holds other data, and no run.json: choose another folder")
        self.index.refresh()
        run = json.loads(json.dumps({**run, "stored": self.stored}))
        if len(self.index):
            try:
                recorded = read_run(file)
            except (OSError, ValueError, TypeError) as error:
                raise ValueError(f"{file} does not describe the run of its maps: choose another folder") from error
            refuse_if_any(describe_differences(recorded, run), self.out)
        elif any(self.out.glob("*.npy")) or any((self.out / "images").glob("*.json")):
            raise ValueError(f"{self.out} holds other results: choose another folder")
        return len(self.index) > 0

    def recorded(self, name: str, digest: str) -> bool:
        """Whether the map of that name is there; a ValueError if it is another image's."""
        place = self.index.find(name)
        if place is not None and place.segment.digests[place.row] != digest:
            refuse_if_any([f"other images ({name!r} for one)"], self.out)
        return place is not None

    def write(self, name: str, digest: str, saliency: np.ndarray) -> None:
        """Takes a map, and writes the shards that are full, or whose first map waits for a minute."""
        saliency = saliency.astype(np.float32) if saliency.dtype.kind == "V" else saliency
        values, scale = _scaled(saliency, self.stored)
        array = _array_of(values)
        waiting = self._waiting.setdefault(array, [])
        waiting.append((name, digest, values, scale))
        self._since.setdefault(array, time.monotonic())
        if len(waiting) == maps_in_shard(values):
            self._write_shard(array)
        while self._since and time.monotonic() - next(iter(self._since.values())) > SECONDS:
            self._write_shard(next(iter(self._since)))

    def close(self) -> None:
        """Writes what is not written."""
        for array in list(self._waiting):
            self._write_shard(array)

    def _write_shard(self, array):
        rows = self._waiting[array]
        values = np.stack([values for _, _, values, _ in rows])
        with saying_how_many(len(self.index) + self._written, "maps", self.out / array):
            number = self.index.claim(array)
            metadata, shard = self._encode(values)
            if shard:
                file = shard_file(self.out, array, number, values.ndim - 1)
                file.parent.mkdir(parents=True, exist_ok=True)
                replace(file, shard)
            self._describe(array, metadata)
            scales = None if self.stored is None else tuple(scale for *_, scale in rows)
            names, digests = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
            sums = tuple(map(checksum, values))
            del self._waiting[array], self._since[array]  # an error before this line leaves them for `close`
            self.index.commit(Segment(array, number, names, digests, len(shard), scales, sums))
        self._written += len(rows)

    def _encode(self, values):
        """The metadata of an array of one shard, and the shard's bytes; none if all values are the fill value."""
        size, shape = maps_in_shard(values[0]), values.shape[1:]
        content: dict[str, Any] = {}
        array = self.zarr.create_array(
            self.zarr.storage.MemoryStore(content),
            shape=(size, *shape),
            shards=(size, *shape),
            chunks=(min(size, _power_of_two(CHUNK_BYTES, values[0].nbytes)), *shape),
            dtype=values.dtype,
            compressors=[self.zarr.codecs.ZstdCodec(level=3, checksum=True)],
            fill_value=0 if values.dtype == np.uint8 else float("nan"),
        )
        array[: len(values)] = values
        key = "/".join(["c", *"0" * values.ndim])
        return json.loads(content["zarr.json"].to_bytes()), content[key].to_bytes() if key in content else b""

    def _describe(self, array, metadata):
        """Writes the description of an array, long enough for all claimed shards, unless it is there and whole.

        Another process may do the same at the same time, and write a smaller length after a larger one: each reads the
        length again after it has written it, so that the last one to write corrects it.
        """
        file, size = self.out / array / "zarr.json", metadata["shape"][0]
        file.parent.mkdir(exist_ok=True)
        while True:
            rows = size * (1 + max(self.index.numbers(array)))
            if _is_description(file, metadata, rows):
                return
            metadata["shape"][0] = rows
            replace(file, json.dumps(metadata).encode())


def _array_of(values):
    """The name of the array for maps of this shape and type."""
    return f"{'x'.join(map(str, values.shape)) or 'scalar'}.{values.dtype}"


def _one_map(array):
    """Zeros of the shape and type of an array's maps."""
    shape, dtype = array.split(".")
    return np.zeros((1, *([] if shape == "scalar" else map(int, shape.split("x")))), dtype)


def maps_in_shard(saliency: np.ndarray) -> int:
    """The number of maps in a shard, a power of two."""
    return _power_of_two(SHARD_BYTES, saliency.nbytes)


def _power_of_two(most_bytes, map_bytes):
    return min(MOST_MAPS, 1 << max(0, (most_bytes // max(1, map_bytes)).bit_length() - 1))


def _is_description(file, metadata, rows):
    """Whether a file describes an array of at least so many rows; not if it is missing, torn or changed."""
    try:
        recorded = json.loads(file.read_text())
        length = int(recorded["shape"][0])
    except (FileNotFoundError, ValueError, TypeError, KeyError, IndexError):
        return False
    return length >= rows and recorded == {**metadata, "shape": [length, *metadata["shape"][1:]]}


def checksum(values: np.ndarray) -> int:
    """The CRC-32 of a map's stored values."""
    return zlib.crc32(np.ascontiguousarray(values).tobytes())


def shard_file(out: pathlib.Path, array: str, number: int, axes: int) -> pathlib.Path:
    """The file of a shard of maps with so many axes."""
    return out.joinpath(array, "c", str(number), *"0" * axes)


def _scaled(saliency, stored):
    """Values of a type of fewer bytes, with the scale and the offset that turn them into the map."""
    if stored is None:
        return saliency, (1.0, 0.0)
    largest = float(np.abs(saliency).max(initial=0))
    if stored == "float16":
        scale = float(2.0 ** np.ceil(np.log2(largest))) if largest > 0 else 1.0
        return (saliency.astype(np.float64) / scale).astype(np.float16), (scale, 0.0)
    low, high = min(0.0, float(saliency.min(initial=0))), float(saliency.max(initial=0))
    scale = (high - low) / 255 if high > low else 1.0
    return np.round((saliency.astype(np.float64) - low) / scale).astype(np.uint8), (scale, low)


def unscaled(values: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    """The map, float32 if it was stored with a scale."""
    return values if scale is None else (values.astype(np.float64) * scale[0] + scale[1]).astype(np.float32)
