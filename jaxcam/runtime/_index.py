"""The index of a Zarr store of maps: which names are in which shard.

A shard has one file in `index/`, which is written after the shard and never changed: a shard without it does not exist.
The file has a checksum of itself and one of each map. The names of a million maps take 16 MB, because only their
digests stay in memory.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = Index(pathlib.Path(folder))
    ...     number = index.claim("2x2.float32")
    ...     index.commit(Segment("2x2.float32", number, ("cat", "dog"), ("", ""), 120, None))
    ...     index.refresh()
    ...     index.find("dog").row, len(index), list(index)
    (1, 2, ['cat', 'dog'])
"""

import bisect
import functools
import hashlib
import json
import os
import pathlib
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxcam.runtime._store import replace

SEGMENTS_IN_MEMORY = 64
NAMES_WAITING = 2**16


class Segment(NamedTuple):
    """A shard of an array, as the index describes it.

    Attributes:
      array: the name of the array.
      shard: its number in the array.
      names: of the maps, in the order of the rows.
      digests: of their images; empty text for an image without one.
      bytes: the size of the shard's file; 0 if Zarr writes none, because all values are the fill value.
      scales: for each map the scale and the offset of its stored values; None if they are stored as they are.
      sums: for each map the CRC-32 of its stored values; None in stores of earlier versions.
    """

    array: str
    shard: int
    names: tuple[str, ...]
    digests: tuple[str, ...]
    bytes: int
    scales: tuple[tuple[float, float], ...] | None
    sums: tuple[int, ...] | None = None


class Place(NamedTuple):
    """Where a map is: its segment, and its row in it."""

    segment: Segment
    row: int


class Index:
    """The index in a folder; empty if there is none."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.files: list[str] = []
        self._known: set[str] = set()
        self._digests, self._places = np.zeros(0, np.uint64), np.zeros((0, 2), np.int32)
        self._segment = functools.lru_cache(SEGMENTS_IN_MEMORY)(self._read)

    def refresh(self) -> None:
        """Reads the files that were written since."""
        if not self.folder.is_dir():
            return
        digests, places = [self._digests], [self._places]
        with os.scandir(self.folder) as entries:
            new = sorted(e.name for e in entries if e.name.endswith(".json") and e.name not in self._known)
        for file in new:
            if file.startswith(".") or not (self.folder / file).stat().st_size:  # claimed, and not written yet
                continue
            names = self._read(file).names
            digests.append(name_digests(names))
            places.append(np.stack([np.full(len(names), len(self.files)), np.arange(len(names))], 1).astype(np.int32))
            self.files.append(file)
            self._known.add(file)
        if len(digests) > 1:
            self._digests, first = np.unique(np.concatenate(digests), return_index=True)
            self._places = np.concatenate(places)[first]

    def find(self, name: str) -> Place | None:
        """Where the map of a name is; None if the files that were read do not have it."""
        digest, digests = _digest_of(name), self._digests.data  # a view's elements are plain integers, which are faster
        i = bisect.bisect_left(digests, digest)  # type: ignore[type-var]
        if i == len(digests) or digests[i] != digest:
            return None
        file, row = self._places[i].tolist()
        segment = self._segment(self.files[file])
        return Place(segment, row) if segment.names[row] == name else None

    @property
    def digests(self) -> np.ndarray:
        """The digests of all names by `name_digests`, uint64, sorted."""
        return self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def __iter__(self) -> Iterator[str]:
        files, rows = self._places.T
        for place in np.lexsort((rows, files)):
            yield self._segment(self.files[files[place]]).names[rows[place]]

    def claim(self, array: str) -> int:
        """The number of a new shard of an array, which no other process gets."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max(self.numbers(array), default=-1)
        while True:
            try:
                os.close(os.open(self.folder / _file_of(array, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                return number
            except FileExistsError:
                number += 1

    def arrays(self) -> list[str]:
        """The names of the arrays that have shards."""
        return sorted({file.rsplit(".", 2)[0] for file in self.files})

    def numbers(self, array: str) -> list[int]:
        """The numbers of all shards of an array, written or claimed."""
        return [int(f.name.split(".")[-2]) for f in self.folder.glob(f"{array}.*.json") if f.name[0] != "."]

    def commit(self, segment: Segment) -> None:
        """Adds a shard, whose file is written."""
        record = segment._asdict()
        content = json.dumps({**record, "checksum": _checksum(record)}).encode()
        replace(self.folder / _file_of(segment.array, segment.shard), content)

    def file_of(self, segment: Segment) -> pathlib.Path:
        """The file that describes a shard."""
        return self.folder / _file_of(segment.array, segment.shard)

    def _read(self, file: str) -> Segment:
        path = self.folder / file
        try:
            record = json.loads(path.read_text())
            if "checksum" in record and record.pop("checksum") != _checksum(record):
                raise ValueError("another checksum")
            return _segment_of(record)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: remove it, and the same call computes its maps again") from error


def _segment_of(record):
    lists = {
        name: record[name] and tuple(record[name]) for name in ("names", "digests", "scales", "sums") if name in record
    }
    segment = Segment(**{**record, **lists, "scales": lists["scales"] and tuple(map(tuple, lists["scales"]))})
    if any(
        len(part or segment.names) != len(segment.names) for part in (segment.digests, segment.scales, segment.sums)
    ):
        raise ValueError("as many names as digests")
    return segment


def _checksum(record):
    return zlib.crc32(json.dumps(record).encode())


def _file_of(array, number):
    return f"{array}.{number:06d}.json"


def name_digests(names: Iterable[str]) -> np.ndarray:
    """Digests of names, uint64."""
    return np.fromiter(map(_digest_of, names), np.uint64)


def _digest_of(name):
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), sys.byteorder)


class SeenNames:
    """A set of names that only grows, 8 bytes each.

    Example:
      >>> seen = SeenNames()
      >>> seen.add("cat"), seen.add("dog"), seen.add("cat")
      (True, True, False)
    """

    def __init__(self) -> None:
        self._sorted, self._waiting = np.zeros(0, np.uint64), set[int]()

    def add(self, name: str) -> bool:
        """Adds a name; whether it is new."""
        digest, known = _digest_of(name), self._sorted.data
        i = bisect.bisect_left(known, digest)  # type: ignore[type-var]
        if digest in self._waiting or (i < len(known) and known[i] == digest):
            return False
        self._waiting.add(digest)
        if len(self._waiting) >= NAMES_WAITING:
            waiting = np.fromiter(self._waiting, np.uint64, len(self._waiting))
            self._sorted = np.sort(np.concatenate([self._sorted, waiting]))
            self._waiting = set()
        return True
