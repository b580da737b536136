"""PyTorch's files without PyTorch: pickles are put together instruction by instruction."""

import struct
import zipfile
from typing import NamedTuple

import numpy as np


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: object
    arguments: tuple


class Persistent(NamedTuple):
    identity: tuple


class Build(NamedTuple):
    target: object
    state: object


def encode(value) -> bytes:
    match value:
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return encode(function) + encode(arguments) + b"R"
        case Persistent(identity):
            return encode(identity) + b"Q"
        case Build(target, state):
            return encode(target) + encode(state) + b"b"
        case bool():
            return b"\x88" if value else b"\x89"
        case None:
            return b"N"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case dict():
            return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value))


def pickled(value):
    return b"\x80\x02" + encode(value) + b"."


ORDERED = Call(Global("collections", "OrderedDict"), ())


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


KINDS = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "float64": "Double", "int64": "Long"}


def storage(key, array, *extra):
    kind = Global("torch", f"{KINDS[array.dtype.name]}Storage")
    return Persistent(("storage", kind, str(key), "cpu", array.size, *extra))


def tensor(key, array, *extra):
    strides = tuple(step // array.itemsize for step in array.strides)
    return Call(REBUILD, (storage(key, array, *extra), 0, array.shape, strides, False, ORDERED))


def write_zip(path, content, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(content))
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)


def write_legacy(path, content, storages):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as file:
        file.write(pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + pickled(system) + pickled(content))
        file.write(pickled([str(key) for key in storages]))
        for data in storages.values():
            file.write(struct.pack("<q", len(data) // 4) + data)


def write_torch(path, arrays, *, legacy=False, wrap=lambda tensors: tensors, prefix=""):
    arrays = {f"{prefix}{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    extra = (None,) if legacy else ()
    tensors = {name: tensor(i, array, *extra) for i, (name, array) in enumerate(arrays.items())}
    storages = {i: array.tobytes() for i, array in enumerate(arrays.values())}
    (write_legacy if legacy else write_zip)(path, wrap(tensors), storages)
