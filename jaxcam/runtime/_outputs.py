"""Where the maps of a call go: kept in memory, a file each, or a Zarr store."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxcam.runtime._lock import lock_share
from jaxcam.runtime._open_maps import open_maps
from jaxcam.runtime._sources import Item, Source
from jaxcam.runtime._store import MapFolder
from jaxcam.runtime._zarr import STORED, ZarrMaps, is_zarr

MANY = 2**20  # images in an iterable, whose number is not known


class InMemory:
    """Keeps the maps."""

    keeps = True

    def prepared(self, source: Source) -> tuple[Iterable[tuple[str, Item]], int]:
        """The items in the order in which they are taken, and the most that lack a map."""
        return source.items(), MANY if source.count is None else source.count

    def recorded(self, name: str, item: Item) -> Any:
        """None: no map is there before."""
        return None

    def write(self, name: str, item: Item, saliency: np.ndarray, finished: int) -> Any:
        """The map itself."""
        return saliency

    def maps(self, results: dict[str, Any]) -> Mapping[str, Any]:
        """By name."""
        return results


class InFiles(InMemory):
    """A file for each map, in a folder that is open."""

    def __init__(self, folder: MapFolder):
        self.folder = folder

    def prepared(self, source: Source) -> tuple[Iterable[tuple[str, Item]], int]:
        """Finished maps go first, so that the number of finished maps in a message counts them."""
        items = [(self.recorded(name, item) is None, (name, item)) for name, item in source.items()]
        ordered = [pair for lacks, pair in items if not lacks] + [pair for lacks, pair in items if lacks]
        return ordered, sum(lacks for lacks, _ in items)

    def recorded(self, name: str, item: Item) -> Any:
        """The file, if it is there and whole."""
        return self.folder.path(name) if self.folder.has_map(name) else None

    def write(self, name: str, item: Item, saliency: np.ndarray, finished: int) -> Any:
        """The file of the map."""
        return self.folder.write(name, saliency, finished)


class InZarr(InMemory):
    """A Zarr store, which is open."""

    keeps = False

    def __init__(self, store: ZarrMaps, *, with_place: bool):
        self.store, self.with_place = store, with_place

    def prepared(self, source: Source) -> tuple[Iterable[tuple[str, Item]], int]:
        """The items with their digests, taken before a loader may change an element."""
        items, lacking = super().prepared(source)
        with_place = self.with_place
        return (
            (name, item._replace(digest=source.digest(item, with_place=with_place))) for name, item in items
        ), lacking

    def recorded(self, name: str, item: Item) -> Any:
        """Whether the map is there; a ValueError if it is of another image."""
        return self.store.recorded(name, item.digest) or None

    def write(self, name: str, item: Item, saliency: np.ndarray, finished: int) -> Any:
        """Hands the map to the store."""
        self.store.write(name, item.digest, saliency)
        return True

    def maps(self, results: dict[str, Any]) -> Mapping[str, Any]:
        """All maps of the store."""
        return open_maps(self.store.out)


@contextlib.contextmanager
def opened_output(
    out: str | os.PathLike | None,
    stored: str | None,
    source: Source,
    describe: Callable[[bool], dict[str, Any]],
    *,
    with_place: bool,
) -> Iterator[Any]:
    """Where maps go, locked for this process's share while it is open.

    Args:
      out: None, a folder, or a store `NAME.zarr`.
      stored: the type of the stored values, or None.
      source: of the images.
      describe: from whether the images are part of it to the description of the run.
      with_place: whether maps depend on the numbers of their images.

    Raises:
      ValueError: the folder is in use, or holds another run; images of an iterable, and a folder of files.
    """
    _check_form(out, stored, source)
    if out is None:
        yield InMemory()
        return
    path, share = pathlib.Path(out), source.share
    if not is_zarr(path):
        path.mkdir(parents=True, exist_ok=True)
        with lock_share(path, share):
            folder = MapFolder(path)
            folder.open(describe(True))
            yield InFiles(folder)
        return
    store = ZarrMaps(path, stored)
    path.mkdir(parents=True, exist_ok=True)
    with lock_share(path, share):
        store.open(describe(False))
        try:
            yield InZarr(store, with_place=with_place)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is what matters
                store.close()
            raise
        store.close()


def inspected_output(
    out: str | os.PathLike | None,
    stored: str | None,
    source: Source,
    describe: Callable[[bool], dict[str, Any]],
    *,
    with_place: bool,
) -> Any:
    """The output of `opened_output` to look at: nothing is locked, made or written."""
    _check_form(out, stored, source)
    if out is None:
        return InMemory()
    path = pathlib.Path(out)
    if is_zarr(path):
        store = ZarrMaps(path, stored)
        store.records(describe(False))
        return InZarr(store, with_place=with_place)
    folder = MapFolder(path)
    folder.records(describe(True))
    return InFiles(folder)


def _check_form(out, stored, source):
    """Raises a ValueError if the form of the output does not go with the other arguments."""
    if stored is not None and stored not in STORED:
        raise ValueError(f"expected stored=None, {' or '.join(map(repr, STORED))}, got {stored!r}")
    if stored is not None and (out is None or not is_zarr(out)):
        raise ValueError(f"stored={stored!r} keeps a scale beside each map: expected out='NAME.zarr', got {out!r}")
    if out is not None and not is_zarr(out) and not source.is_sequence:
        raise ValueError(f"expected out='NAME.zarr' for an iterable, whose images are not listed, got {str(out)!r}")
