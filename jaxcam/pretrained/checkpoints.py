"""Named arrays out of a file of weights, of whichever format the file's content shows it to be.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "weights.npz"
    ...     np.savez(path, **{"fc1/kernel": np.zeros([4, 2]), "fc1/bias": np.ones(2, np.float16)})
    ...     arrays = read(path)
    >>> {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    {'fc1/kernel': ((4, 2), 'float64'), 'fc1/bias': ((2,), 'float32')}

Nothing in a file is executed. PyTorch's files are pickles, which are programs: they are not run but read, by
`jaxcam.pretrained._state_dict_pickle`. HDF5 files are read in a process of their own, because the HDF5 library does not
return from some damaged files. What a file may unpack to, and how many arrays it may have, is limited by
`jaxcam.limits`.
"""

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from jaxcam._base import limits
from jaxcam.pretrained._arrays import half_as_float32
from jaxcam.pretrained._hdf5 import hdf5_arrays, hdf5_text
from jaxcam.pretrained._torch_files import read_torch_legacy, read_torch_zip
from jaxcam.pretrained._zip_files import opened_archive, read_npz

# What files of these formats begin with.
HDF5, ZIP, PICKLE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80"
# What wrappers of a model put before every name.
PREFIXES = ("module.", "model.")
KERAS_WEIGHTS = "model.weights.h5"
BYTES_OF_A_NAME = 256  # in the header of a safetensors file, for a name, a type, a shape and offsets
FORMATS = "safetensors, HDF5 (.h5), .keras, .npz and PyTorch (.pth)"
Reader = Callable[[BinaryIO], dict[str, np.ndarray]]


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The named arrays of a file of weights.

    The format is found from the content, never from the file's name: safetensors; HDF5, where a name is the path of a
    dataset; `.keras`, which holds HDF5; `.npz`; and PyTorch's two formats, zip and the older one, where a state dict
    may lie under "state_dict", "model_state_dict" or "model". A "module." or "model." before every name is taken off.

    Args:
      path: the file.

    Returns:
      The arrays in the file's order, as the file has them, but float16 and bfloat16 as float32.

    Raises:
      OSError: there is no such file, it cannot be read, or it is a folder.
      ValueError: in one line that begins with the path: the file is empty, cut short, damaged or of another format; it
        holds something that is not an array of weights; it wants to run something; it exceeds one of `jaxcam.limits`.
    """
    with open(path, "rb") as file:
        start = file.read(16)
        kind, reader = _format(start, path)
        file.seek(0)
        try:
            arrays = reader(file)
        except Exception as error:
            # What parsers raise on a damaged file is theirs to choose: it becomes one line, with the path.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{os.fspath(path)}: cannot be read as {kind}: {reason:.300}") from error
    for prefix in PREFIXES:
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    if not arrays:
        raise ValueError(f"{os.fspath(path)}: a {kind} file without arrays")
    return arrays


def hdf5_attribute(path: str | os.PathLike, name: str) -> str | None:
    """A text that an HDF5 file has as an attribute, such as the description of a Keras model; None if it has none.

    Raises:
      OSError: there is no such file, or it cannot be read.
      ValueError: the file is of another format, or damaged.
    """
    with open(path, "rb") as file:
        start = file.read(len(HDF5))
    if start != HDF5:
        raise ValueError(f"{os.fspath(path)}: not an HDF5 file: it begins with {start!r}")
    try:
        return hdf5_text(path, name)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{os.fspath(path)}: cannot be read as HDF5: {reason:.300}") from error


def _format(start: bytes, path: str | os.PathLike) -> tuple[str, Reader]:
    """The name of a file's format, from the bytes that it begins with, and the function that reads it."""
    if start.startswith(HDF5):
        return "HDF5", _read_hdf5
    if start.startswith(ZIP):
        return "zip", _read_zip
    # Before PyTorch: a header may be so long that its length begins as a pickle does. The pickle with which a file of
    # PyTorch begins has no "{" there.
    if start[8:9] == b"{":  # after the header's length; the header is JSON
        return "safetensors", _read_safetensors
    if start.startswith(PICKLE):
        return "PyTorch", read_torch_legacy
    found = f"it begins with {start[:8]!r}" if start else "it is empty"
    raise ValueError(f"{os.fspath(path)}: not a file of weights: {found}; formats known: {FORMATS}")


def _read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    import ml_dtypes  # noqa: F401  # gives numpy its bfloat16
    import safetensors

    (length,) = struct.unpack("<Q", file.read(8))
    most = limits.current().arrays
    if length > BYTES_OF_A_NAME * most:
        raise ValueError(f"its header has {length} bytes, enough for more than {most} arrays (jaxcam.limits: arrays)")
    try:
        with safetensors.safe_open(file.name, framework="np") as tensors:
            names = list(tensors.keys())
            if len(names) > most:
                raise ValueError(f"it has {len(names)} arrays, more than {most} (jaxcam.limits: arrays)")
            return {name: half_as_float32(tensors.get_tensor(name)) for name in names}
    except (safetensors.SafetensorError, AttributeError) as error:  # AttributeError: a type that numpy does not have
        raise ValueError(error) from error


def _read_hdf5(file: BinaryIO) -> dict[str, np.ndarray]:
    return hdf5_arrays(file.name, os.fstat(file.fileno()).st_size)


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of a zip file: Keras's, PyTorch's or NumPy's."""
    size = os.fstat(file.fileno()).st_size
    with opened_archive(file, limits.current().unpacked_bytes(size)) as archive:
        names = archive.namelist()
        if KERAS_WEIGHTS in names:
            return hdf5_arrays(file.name, size, member=KERAS_WEIGHTS)
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if pickles:
            return read_torch_zip(archive, pickles[0].removesuffix("data.pkl"))
        if not all(name.endswith(".npy") for name in names):
            some = ", ".join(names[:3])
            raise ValueError(f"it holds {some}, ...: neither model.weights.h5, nor data.pkl, nor .npy alone")
        return read_npz(archive)
