"""HDF5 files, read in a process of its own with limits: see `_hdf5_file`, which runs there."""

import functools
import os
import pathlib

import numpy as np

from jaxcam._base import limits
from jaxcam._base.isolation import Isolated
from jaxcam.pretrained._arrays import half_as_float32

FILE = pathlib.Path(__file__).with_name("_hdf5_file.py")  # not imported: it imports h5py
SECONDS = 10.0  # that reading may take, and one more for each so many bytes of the file
BYTES_IN_A_SECOND = 10 * 2**20


def hdf5_arrays(path: str | os.PathLike, size: int, *, member: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of numbers in an HDF5 file, by their paths in it.

    Args:
      path: of the file.
      size: of the file in bytes.
      member: the name of the part that is HDF5, if the file is a zip archive.

    Raises:
      ValueError: the file is damaged, exceeds a limit, or takes values from another file.
      TimeoutError: the HDF5 library does not return.
    """
    most = limits.current().unpacked_bytes(size)
    seconds = SECONDS + size / BYTES_IN_A_SECOND
    arrays = _isolated("read")(os.path.abspath(path), member, limits.current().arrays, most, seconds=seconds)
    return {name: half_as_float32(array) for name, array in arrays.items()}


def hdf5_text(path: str | os.PathLike, name: str) -> str | None:
    """The text of an attribute of an HDF5 file; None if it has none. Errors are those of `hdf5_arrays`."""
    return _isolated("attribute")(os.path.abspath(path), name, limits.current().json_bytes, seconds=SECONDS)


@functools.cache
def _isolated(function: str) -> Isolated:
    return Isolated((str(FILE), function))
