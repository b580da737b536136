"""TODO."""

import io
import math
import mmap
import pickletools
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

# Where training scripts put the state dict, and what wrappers put before its names.
NESTED, PREFIXES = ("state_dict", "model_state_dict", "model"), ("module.", "model.")


LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# PyTorch. A tensor is described in the pickle and its values lie outside, in a storage that several may share.
STORAGES = {
    "torch.FloatStorage": "f4", "torch.DoubleStorage": "f8", "torch.HalfStorage": "f2", "torch.LongStorage": "i8",
    "torch.IntStorage": "i4", "torch.ShortStorage": "i2", "torch.CharStorage": "i1", "torch.ByteStorage": "u1",
    "torch.BoolStorage": "b1", "torch.BFloat16Storage": "bfloat2",
}  # fmt: skip
DTYPES = {f"torch.{name}" for name in "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()}
CALLED = {
    "collections.OrderedDict", "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
}  # fmt: skip


class _Global(NamedTuple):
    """A name that the file mentions. It stays a name."""

    name: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _read_torch(archive, root):
    members = {info.filename: info for info in archive.infolist()}
    # PyTorch never compresses: what is refused here is a small file that unpacks to a huge one.
    packed = [name for name, info in members.items() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"{packed[0]} is compressed, which PyTorch does not do")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are not little-endian")
    content, _ = _unpickle(io.BytesIO(archive.read(f"{root}data.pkl")))
    tensors = _state_dict(content)
    storages = {
        storage.key: _values(archive.read(f"{root}data/{storage.key}"), storage)
        for storage in {tensor.storage for tensor in tensors.values()}
    }
    limit = sum(info.file_size for info in members.values())
    return {name: _array(name, tensor, storages, limit) for name, tensor in tensors.items()}


def _read_legacy_torch(file):
    # Mapped, not read: no length that the file claims can ask for more than the file has.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        (magic, _), (protocol, _), (system, _) = _unpickle(stream), _unpickle(stream), _unpickle(stream)
        if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
            raise ValueError("a pickle, but not one of PyTorch's")
        if not system["little_endian"]:
            raise ValueError("its numbers are not little-endian")
        content, announced = _unpickle(stream)
        tensors = _state_dict(content)
        wanted = {tensor.storage.key for tensor in tensors.values()}
        keys, _ = _unpickle(stream)
        storages = {}
        for key in keys:
            storage = announced[key]
            (count,) = struct.unpack("<q", stream.read(8))
            if count != storage.length:
                raise ValueError(f"storage {key} has {count} values: {storage.length} were announced")
            data = stream.read(_size(storage))
            if key in wanted:
                storages[key] = _values(data, storage)
        return {name: _array(name, tensor, storages, len(stream)) for name, tensor in tensors.items()}


def _state_dict(content) -> dict[str, _Tensor]:
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__.strip('_').lower()}: a state dict is wanted")
    tensors = {name: value for name, value in content.items() if isinstance(value, _Tensor)}
    if not tensors:
        some = ", ".join(repr(name) for name in list(content)[:5])
        raise ValueError(f"no tensors among {some}: a state dict is wanted, alone or under one of {', '.join(NESTED)}")
    return tensors


def _size(storage):
    return storage.length * int(storage.dtype[-1])


def _values(data, storage):
    """The values `[count]` of a storage, half precision as float32."""
    if len(data) < _size(storage):
        raise ValueError(f"storage {storage.key} is cut short: {len(data)} of {_size(storage)} bytes")
    data = data[: _size(storage)]
    if storage.dtype == "bfloat2":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return _float32(np.frombuffer(data, f"<{storage.dtype}"))


def _array(name, tensor, storages, limit):
    """The view of a storage that a tensor is; `limit` is the most values that the file may ask for."""
    storage, offset, size, stride = tensor
    values = storages[storage.key]
    empty = 0 in size
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if not empty and last >= len(values):
        raise ValueError(f"{name} reaches to value {last} of a storage of {len(values)}")
    # A stride of 0 repeats a value, as often as the file likes.
    if math.prod(size) > limit:
        raise ValueError(f"{name} of {size} is larger than the file")
    if empty:
        return np.zeros(size, values.dtype)
    strides = [step * values.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)


def _unpickle(stream) -> tuple[Any, dict[str, _Storage]]:
    """The value of one pickle, and the storages that it mentions by their keys."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    storages: dict[str, _Storage] = {}
    argument: Any

    def since_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop(), storages
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[opcode.name]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if opcode.name == "APPEND" else since_mark()
                _of(stack[-1], list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [(key, value)])
            case "SETITEMS":
                items = since_mark()
                _set(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(f"{module}.{name}"))
            case "BINPERSID":
                storage, start = _storage(stack.pop())
                if storages.setdefault(storage.key, storage) != storage:
                    raise ValueError(f"storage {storage.key} is announced twice, differently")
                stack.append((storage, start))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_reduce(called, _of(arguments, tuple)))
            case "BUILD":
                # The `_metadata` of a state dict, an attribute: not needed, so not set.
                stack.pop()
                _of(stack[-1], dict)
            case other:
                raise ValueError(f"it wants the pickle instruction {other}, which no state dict needs")
    raise ValueError("a pickle without an end")


def _of(value, kind):
    if not isinstance(value, kind):
        raise ValueError(f"a pickle with a {type(value).__name__} where a {kind.__name__} is wanted")
    return value


def _set(target, items):
    for key, value in items:
        # Nothing else is hashed: the hash of a nested tuple can take for ever.
        if not isinstance(key, str | int):
            raise ValueError(f"a pickle with a {type(key).__name__} for a name")
        _of(target, dict)[key] = value


def _natural(value):
    if type(value) is not int or value < 0:
        raise ValueError(f"a tensor with {value!r:.40} for a size, a stride or an offset")
    return value


def _global(name):
    if name not in CALLED | DTYPES | STORAGES.keys():
        raise ValueError(f"it wants to run {name!r}, and nothing in a file is run: save model.state_dict() alone")
    return _Global(name)


def _storage(identity):
    """The storage that a persistent id means, and where in it a view begins, which oldest files may have."""
    what, kind, key, _, count, *view = _of(identity, tuple)
    if what != "storage" or not isinstance(kind, _Global) or kind.name not in STORAGES:
        raise ValueError("it refers to something that is not a storage of numbers: save model.state_dict() alone")
    start = _natural(view[0][1]) if view and view[0] is not None else 0
    return _Storage(_of(key, str), STORAGES[kind.name], _natural(count)), start


def _reduce(called, arguments):
    match called, arguments:
        case _Global("collections.OrderedDict"), ():
            return {}
        case _Global("collections.OrderedDict"), (list(pairs),):
            made: dict[str | int, Any] = {}
            _set(made, pairs)
            return made
        case _Global("torch._utils._rebuild_parameter"), (_Tensor() as tensor, *_):
            return tensor
        case (
            _Global("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2"),
            ((_Storage() as storage, int(start)), offset, tuple(size), tuple(stride), *_),
        ) if len(size) == len(stride) <= 32:
            shape = tuple(_natural(n) for n in size), tuple(_natural(n) for n in stride)
            return _Tensor(storage, start + _natural(offset), *shape)
    name = called.name if isinstance(called, _Global) else type(called).__name__
    raise ValueError(f"it wants to run {name!r} in a way that PyTorch's own files do not")


def _float32(array):
    """Half precision, of either kind, as float32."""
    return array.astype(np.float32) if array.dtype == np.float16 or array.dtype.name == "bfloat16" else array
