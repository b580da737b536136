"""PyTorch's two file formats, zip and the older one, read without PyTorch."""

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from jaxcam._base import limits
from jaxcam.pretrained._arrays import half_as_float32
from jaxcam.pretrained._state_dict_pickle import _Storage, _Tensor, read_pickle

# Where training scripts put the state dict.
STATE_DICT_NAMES = ("state_dict", "model_state_dict", "model")
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_torch_zip(archive: zipfile.ZipFile, root: str) -> dict[str, np.ndarray]:
    """The arrays of a zip file of PyTorch.

    Args:
      archive: the open file.
      root: the folder of "data.pkl" in it, with a slash.

    Raises:
      ValueError: the file is damaged, or holds more than a state dict.
    """
    members = {info.filename: info for info in archive.infolist()}
    # PyTorch never compresses: what is refused here is a small file that unpacks to a huge one.
    compressed = [name for name, info in members.items() if info.compress_type != zipfile.ZIP_STORED]
    if compressed:
        raise ValueError(f"{compressed[0]} is compressed, which PyTorch does not do")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are not little-endian")
    content, _ = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")))
    tensors = _state_dict(content)
    values = {
        storage.key: _storage_values(archive.read(f"{root}data/{storage.key}"), storage)
        for storage in {tensor.storage for tensor in tensors.values()}
    }
    return _arrays(tensors, values, size=sum(info.file_size for info in members.values()))


def read_torch_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of a file of PyTorch's older format, which is several pickles and then the storages.

    Raises:
      ValueError: the file is damaged, or holds more than a state dict.
    """
    # Mapped, not read: no length that the file claims can ask for more than the file has.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        (magic, _), (protocol, _), (system, _) = read_pickle(stream), read_pickle(stream), read_pickle(stream)
        if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
            raise ValueError("a pickle, but not one of PyTorch's")
        if not system["little_endian"]:
            raise ValueError("its numbers are not little-endian")
        content, announced = read_pickle(stream)
        tensors = _state_dict(content)
        needed = {tensor.storage.key for tensor in tensors.values()}
        keys, _ = read_pickle(stream)
        values = {}
        for key in keys:
            storage = announced[key]
            (count,) = struct.unpack("<q", stream.read(8))
            if count != storage.length:
                raise ValueError(f"storage {key} has {count} values: {storage.length} were announced")
            data = stream.read(storage.nbytes)
            if key in needed:
                values[key] = _storage_values(data, storage)
        return _arrays(tensors, values, size=len(stream))


def _state_dict(content) -> dict[str, _Tensor]:
    """The tensors of a state dict, alone or under one of its usual names."""
    for name in STATE_DICT_NAMES:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise ValueError(f"expected a state dict, got a {type(content).__name__.strip('_').lower()}")
    tensors = {name: value for name, value in content.items() if isinstance(value, _Tensor)}
    if not tensors:
        some = ", ".join(repr(name) for name in list(content)[:5])
        names = ", ".join(STATE_DICT_NAMES)
        raise ValueError(f"expected a state dict, alone or under one of {names}, got no tensors among {some}")
    return tensors


def _storage_values(data: bytes, storage: _Storage) -> np.ndarray:
    """The values `[length]` of a storage, half precision as float32."""
    if len(data) < storage.nbytes:
        raise ValueError(f"storage {storage.key} is cut short: {len(data)} of {storage.nbytes} bytes")
    data = data[: storage.nbytes]
    if storage.dtype == "bfloat2":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return half_as_float32(np.frombuffer(data, f"<{storage.dtype}"))


def _arrays(tensors: Mapping[str, _Tensor], values: Mapping[str, np.ndarray], *, size: int) -> dict[str, np.ndarray]:
    """The views of the storages' values that the tensors of a file of so many bytes are."""
    most = limits.current()
    if len(tensors) > most.arrays:
        raise ValueError(f"it has {len(tensors)} arrays, more than {most.arrays} (jaxcam.limits: arrays)")
    # A stride of 0 repeats a value, and a storage may be used by many tensors, as often as the file likes.
    left = most.unpacked_bytes(size)
    for name, tensor in tensors.items():
        left -= math.prod(tensor.size) * values[tensor.storage.key].itemsize
        if left < 0:
            raise ValueError(
                f"{name} of {tensor.size} is larger than the file may be, {most.unpacked_bytes(size)} bytes with "
                "the arrays before it (jaxcam.limits: expansion)"
            )
    return {name: _view(name, tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(name: str, tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    """The view of a storage's values that a tensor is."""
    _, offset, size, stride = tensor
    empty = 0 in size
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if not empty and last >= len(values):
        raise ValueError(f"{name} reaches to value {last} of a storage of {len(values)}")
    if empty:
        return np.zeros(size, values.dtype)
    strides = [step * values.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
