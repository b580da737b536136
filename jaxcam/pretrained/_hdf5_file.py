"""What an HDF5 file holds, read within limits. It runs in a process of its own, and imports nothing of jaxcam.

The HDF5 library does not return from some damaged files, and its filters unpack whatever they are given. Before a
dataset is read, what its chunks unpack to is counted, and nothing is followed that leads to another file.
"""

import contextlib
import io
import math
import zipfile
import zlib
from typing import Any

import h5py
import numpy as np

MOST_DEPTH = 100
DEFLATE = 1
# Filters whose output is bounded by a chunk's size: shuffle, fletcher32, szip, nbit, scaleoffset, and h5py's LZF.
BOUNDED = {2, 3, 4, 5, 6, 32000}
PIECE = 2**20


def read(path, member, most_arrays, most_bytes):
    """The arrays of numbers by their paths.

    Args:
      path: of the file.
      member: the name of the file's part that is HDF5, if the file is a zip archive; None if it is HDF5.
      most_arrays: how many arrays and groups there may be.
      most_bytes: that the arrays may take together.
    """
    arrays, left = {}, most_bytes
    with _opened(path, member) as content:
        for name, dataset in _datasets(content, most_arrays):
            if dataset.dtype.kind not in "fiub":
                continue
            # Such a dataset's values lie in any file that it cares to name.
            if dataset.external or dataset.is_virtual:
                raise ValueError(f"{name} takes its values from another file")
            size = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
            if size > left:
                raise ValueError(
                    f"{name} of {dataset.shape} takes more than {most_bytes} bytes (jaxcam.limits: expansion)"
                )
            left -= size
            _check_chunks(name, dataset, most_bytes)
            if dataset.shape is not None:
                arrays[name] = np.asarray(dataset[()])
    return arrays


def attribute(path, name, most_bytes):
    """A text that the file has as an attribute; None if it has none."""
    with _opened(path, None) as content:
        if name not in content.attrs:
            return None
        stored = content.attrs.get_id(name)
        if stored.shape not in ((), None) or stored.get_storage_size() > most_bytes:
            raise ValueError(
                f"its attribute {name} is no text of at most {most_bytes} bytes (jaxcam.limits: json_bytes)"
            )
        value = content.attrs[name]
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise ValueError(f"its attribute {name} is no text")
    return text


@contextlib.contextmanager
def _opened(path, member):
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb"))
        if member is not None:
            file = io.BytesIO(stack.enter_context(zipfile.ZipFile(file)).read(member))
        yield stack.enter_context(h5py.File(file, "r"))


def _datasets(content, most):
    """The datasets with their paths, once each, in the order of their paths. Links to other places are not followed."""
    waiting, visited = [("", content)], set()
    while waiting:
        name, item = waiting.pop()
        info = h5py.h5o.get_info(item.id)
        if (info.fileno, info.addr) in visited:
            continue
        visited.add((info.fileno, info.addr))
        if len(visited) > most:
            raise ValueError(f"it has more than {most} arrays and groups (jaxcam.limits: arrays)")
        if isinstance(item, h5py.Dataset):
            yield name, item
        elif isinstance(item, h5py.Group):
            if name.count("/") >= MOST_DEPTH:
                raise ValueError(f"its groups are nested more than {MOST_DEPTH} deep")
            children = _children(item, most)
            waiting += [(f"{name}/{child}" if name else child, part) for child, part in reversed(children)]


def _children(group, most):
    if len(group) > most:
        raise ValueError(f"it has more than {most} arrays and groups (jaxcam.limits: arrays)")
    children = []
    for child in group.id:
        if group.id.links.get_info(child).type != h5py.h5l.TYPE_HARD:
            continue
        try:
            name = child.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{child!r:.40} is not text") from error
        children.append((name, group[name]))
    return children


def _check_chunks(name, dataset, most):
    """Raises a ValueError if a chunk unpacks to more than a chunk's size."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if not filters:
        return
    chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if chunk > most:
        raise ValueError(f"{name} has chunks of {chunk} bytes, more than {most} (jaxcam.limits: expansion)")
    if filters.count(DEFLATE) > 1 or set(filters) - BOUNDED - {DEFLATE}:
        raise ValueError(f"{name} has filters {filters}: only HDF5's own are read, deflate once")
    if DEFLATE not in filters:
        return
    after = len(filters) - 1 - filters.index(DEFLATE)
    for i in range(dataset.id.get_num_chunks()):
        stored = dataset.id.get_chunk_info(i)
        if stored.filter_mask & 1 << filters.index(DEFLATE):
            continue
        if after:  # what deflate made was filtered again: only a checksum may be
            if set(filters[filters.index(DEFLATE) + 1 :]) != {3}:
                raise ValueError(f"{name} has filters {filters} after deflate")
        _, data = dataset.id.read_direct_chunk(stored.chunk_offset)
        if _unpacked_size(data, chunk + 64) > chunk + 64:
            raise ValueError(f"{name} has a chunk that unpacks to more than its {chunk} bytes")


def _unpacked_size(data, most):
    """How many bytes a deflated chunk unpacks to, counted up to more than `most`."""
    unpacking, size, left = zlib.decompressobj(), 0, data
    while left and not unpacking.eof and size <= most:
        size += len(unpacking.decompress(left, PIECE))
        left = unpacking.unconsumed_tail
    return size
