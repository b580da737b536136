"""Rows that come from the actors of a Ray cluster, and the store that their maps are written to.

A row has the image's name and digest, and the bytes of its map, or an error. A row of a finished image has neither. The
first row of a batch also has the description of the run.

>>> from_bytes(as_bytes(np.eye(2))).tolist()
[[1.0, 0.0], [0.0, 1.0]]
"""

import contextlib
import io
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxcam.runtime._figures import Figures
from jaxcam.runtime._index import SeenNames
from jaxcam.runtime._names import check_name
from jaxcam.runtime._sigterm import end_if_terminated
from jaxcam.runtime._zarr import ZarrMaps

COLUMNS = ("name", "digest", "map", "error", "run")
RAISE_AFTER = 64  # failures from the start: the call is taken to be wrong
log = logging.getLogger("jaxcam")


def write_batches(store: ZarrMaps, batches: Iterable[Mapping[str, Any]], figures: Figures) -> dict[str, str]:
    """Writes the maps of all batches to a store, each once; returns why the other images have none, by name."""
    run, failed, seen = None, {}, SeenNames()
    try:
        for batch in batches:
            end_if_terminated()
            for name, digest, content, error, described in zip(*map(batch.get, COLUMNS), strict=True):
                if described and run is None:
                    run = described
                    store.open(json.loads(run))
                elif described and described != run:
                    raise ValueError("two actors have different cuts: expected make_cut to return the same one anew")
                check_name(name)
                if not seen.add(name):
                    raise ValueError(f"two rows are called {name!r}: expected names that differ")
                if error:
                    failed[name] = error
                    log.warning("%s: %s", name, error)
                    figures.fail(ValueError(error))
                elif store.recorded(name, digest):
                    figures.skip()
                else:
                    store.write(name, digest, from_bytes(content))
                    figures.finish()
            if len(failed) >= RAISE_AFTER and not figures.finished + figures.earlier:
                break
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is what matters
            store.close()
        raise
    store.close()
    figures.close()
    if failed and not figures.finished + figures.earlier:
        raise ValueError(f"no image can be explained: {next(iter(failed.values()))}")
    return failed


def as_bytes(saliency: np.ndarray) -> bytes:
    """A map with its shape and type."""
    buffer = io.BytesIO()
    np.save(buffer, saliency.astype(np.float32) if saliency.dtype.kind == "V" else saliency, allow_pickle=False)
    return buffer.getvalue()


def from_bytes(content: bytes) -> np.ndarray:
    """The map of `as_bytes`."""
    return np.load(io.BytesIO(content), allow_pickle=False)


def error_text(error: Exception) -> str:
    """The message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
