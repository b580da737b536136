"""Zip archives that are opened within limits, and NumPy's arrays in them."""

import contextlib
import math
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from jaxcam._base import limits
from jaxcam.pretrained._arrays import half_as_float32

END, END_64 = b"PK\5\6", b"PK\6\6"  # the signatures of the records at an archive's end
LONGEST_END = 2**16 + 200  # bytes of these records, with the longest comment
BYTES_OF_AN_ENTRY = 1024  # in the table of contents; names may be long


@contextlib.contextmanager
def opened_archive(file: BinaryIO, most_bytes: int) -> Iterator[zipfile.ZipFile]:
    """The archive in a file, whose members unpack to no more bytes than `most_bytes`.

    Raises:
      ValueError: the archive is cut short, or exceeds a limit.
    """
    if not zipfile.is_zipfile(file):  # its table of contents is at the end
        raise ValueError("the archive is cut short")
    _check_contents_size(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        most = limits.current().arrays
        if len(members) > 4 * most:
            raise ValueError(f"it has {len(members)} members, more than {4 * most} (jaxcam.limits: arrays)")
        stored = file.seek(0, 2)
        for member in members:
            if member.compress_size > stored:  # Python takes memory for as much
                raise ValueError(f"{member.filename:.80} has more bytes than the archive")
        size = sum(member.file_size for member in members)
        if size > most_bytes:
            raise ValueError(f"it unpacks to {size} bytes, more than {most_bytes} (jaxcam.limits: expansion)")
        yield archive


def _check_contents_size(file):
    """Raises a ValueError for a table of contents that is larger than the limit: Python reads it whole."""
    size = file.seek(0, 2)
    file.seek(max(0, size - LONGEST_END))
    end = file.read()
    lengths = []
    for signature, code, offset in ((END, "<I", 12), (END_64, "<Q", 40)):
        at = end.rfind(signature)
        if 0 <= at <= len(end) - offset - 8:
            lengths.append(struct.unpack_from(code, end, at + offset)[0])
    # A value of 2**32 - 1 says that the other record has the length.
    length = max((length for length in lengths if length != 2**32 - 1), default=0)
    most = BYTES_OF_AN_ENTRY * limits.current().arrays
    if min(length, size) > most:
        raise ValueError(f"its table of contents has more than {most} bytes (jaxcam.limits: arrays)")
    file.seek(0)


def read_npz(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """NumPy's arrays of numbers, by their names without ".npy"."""
    return {
        member.filename.removesuffix(".npy"): half_as_float32(_array(archive, member)) for member in archive.infolist()
    }


def _array(archive, member):
    """One array. Its header is not trusted: memory is taken for what the member has."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"{member.filename} has version {version} of NumPy's format, which numbers do not need")
        shape, in_columns, dtype = readers[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds pickled objects, which are not loaded (allow_pickle=False)")
        if dtype.kind not in "fiub":
            raise ValueError(f"{member.filename} holds {dtype}: expected numbers")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > member.file_size:
            raise ValueError(f"{member.filename} of {shape} is larger than what is stored of it")
        data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{member.filename} is cut short")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C")
