"""The pickle of a PyTorch state dict, read without running anything: the wall between a file and the program.

A pickle is a program. `read_pickle` knows the few instructions that a state dict is made of, and makes plain Python
values of them, and descriptions of tensors. It calls nothing, imports nothing and sets no attribute. A file that asks
for anything else is refused, and the message names what it asked for.

    >>> import io, pickle
    >>> read_pickle(io.BytesIO(pickle.dumps({"epoch": 3, "sizes": (4, 5)})))
    ({'epoch': 3, 'sizes': (4, 5)}, {})
    >>> read_pickle(io.BytesIO(b"\\x80\\x02cos\\nsystem\\n."))
    Traceback (most recent call last):
      ...
    ValueError: it wants to run 'os.system', and nothing in a file is run: save model.state_dict() alone
"""

# Why this is not a pickle.Unpickler whose find_class and persistent_load allow only some names. These two methods
# decide which names a file may mention. All the rest is done by the standard library, as the file says, before they
# are asked or without asking them (tried on CPython 3.11):
# - REDUCE, NEWOBJ and OBJ call whatever was found, with any arguments, and BUILD sets attributes of it. Functions that
#   stand in for PyTorch's would be called with what the file likes, and the file could set attributes on them that
#   outlive the reading.
# - LONG_BINPUT with the number 2**31 - 1, in a file of ten bytes, asks for a memo of tens of gigabytes.
# - SETITEMS hashes any key. A tuple of tuples, each of which holds the one before twice, takes a time that doubles with
#   each level: seconds for 60 bytes, years for 150.
# - REDUCE with OrderedDict makes a dict of one list again and again: a million names, a million times.
# - EXT1 to EXT4 look names up in the program's copyreg registry, and NEXT_BUFFER, PERSID, INST and what later protocols
#   add are all accepted. There is no list of the instructions that are allowed.
# Here an instruction that is not in the list below does not exist, a memo is a dict, keys are text or integers, and
# lengths and offsets are checked against the file before memory is taken, and the steps are counted.

import mmap
import pickletools
from typing import Any, BinaryIO, NamedTuple

from jaxcam._base import limits

# A tensor is described in the pickle, and its values lie outside, in a storage that several tensors may share.
# The dtypes are NumPy's, with the bytes of a value at the end; NumPy has no bfloat16.
STORAGES = {
    "torch.FloatStorage": "f4", "torch.DoubleStorage": "f8", "torch.HalfStorage": "f2", "torch.LongStorage": "i8",
    "torch.IntStorage": "i4", "torch.ShortStorage": "i2", "torch.CharStorage": "i1", "torch.ByteStorage": "u1",
    "torch.BoolStorage": "b1", "torch.BFloat16Storage": "bfloat2",
}  # fmt: skip
STEPS_OF_AN_ARRAY = 64  # instructions and set items; PyTorch needs about 40
DTYPES = {f"torch.{name}" for name in "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()}
CALLED = {
    "collections.OrderedDict", "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
}  # fmt: skip


class _Global(NamedTuple):
    """A name that the file mentions. It stays a name."""

    name: str


class _Storage(NamedTuple):
    """Values that lie outside the pickle: the name they lie under, their dtype in `STORAGES`, and how many they are."""

    key: str
    dtype: str
    length: int

    @property
    def nbytes(self) -> int:
        """The storage's size in bytes."""
        return self.length * int(self.dtype[-1])


class _Tensor(NamedTuple):
    """A view of a storage, with its offset and strides in values."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(stream: BinaryIO | mmap.mmap) -> tuple[Any, dict[str, _Storage]]:
    """The value of one pickle, and the storages that it mentions by their keys. The stream is left behind the pickle.

    Raises:
      ValueError: an instruction that no state dict needs, a value where another kind is needed, or too many of them.
      IndexError, KeyError, TypeError: a damaged pickle.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    storages: dict[str, _Storage] = {}
    argument: Any
    steps = _Steps()

    def since_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]  # a memory map reads too
        steps.take(1)
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
                _expect(stack[-1], list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [(key, value)])
            case "SETITEMS":
                items = since_mark()
                _set_items(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_allowed_global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
                stack.append(_allowed_global(f"{module}.{name}"))
            case "BINPERSID":
                storage, start = _announced_storage(stack.pop())
                if storages.setdefault(storage.key, storage) != storage:
                    raise ValueError(f"storage {storage.key} is announced twice, differently")
                stack.append((storage, start))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_call_result(called, _expect(arguments, tuple), steps))
            case "BUILD":
                # The `_metadata` of a state dict, an attribute: not needed, so not set.
                stack.pop()
                _expect(stack[-1], dict)
            case other:
                raise ValueError(f"it wants the pickle instruction {other}, which no state dict needs")
    raise ValueError("a pickle without an end")


class _Steps:
    """Counts what a pickle does, up to the limit."""

    def __init__(self):
        self.most = STEPS_OF_AN_ARRAY * limits.current().arrays
        self.left = self.most

    def take(self, count):
        """Raises a ValueError if the pickle takes more steps than it may."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"a pickle of more than {self.most} instructions (jaxcam.limits: arrays)")


def _expect(value, kind):
    """The value.

    Raises:
      ValueError: the value is of another kind.
    """
    if not isinstance(value, kind):
        raise ValueError(f"a pickle: expected a {kind.__name__}, got a {type(value).__name__}")
    return value


def _set_items(target, items):
    """Sets items of a dict, whose keys must be text or integers."""
    for key, value in items:
        # Nothing else is hashed: the hash of a nested tuple can take for ever.
        if not isinstance(key, str | int):
            raise ValueError(f"a pickle with a {type(key).__name__} for a name")
        _expect(target, dict)[key] = value


def _shown(value):
    """A value in a message. The text of a tuple that holds another one twice, and so on, can take for ever."""
    is_short = isinstance(value, int | float) or (isinstance(value, str) and len(value) < 40)
    return f"{value!r:.40}" if is_short else f"a {type(value).__name__}"


def _natural_number(value):
    """The value, which must be an integer of at least 0."""
    if type(value) is not int or value < 0:
        raise ValueError(f"a tensor with {_shown(value)} for a size, a stride or an offset")
    return value


def _allowed_global(name):
    """A name that a state dict may mention. It stays a name."""
    if name not in CALLED | DTYPES | STORAGES.keys():
        raise ValueError(f"it wants to run {name!r}, and nothing in a file is run: save model.state_dict() alone")
    return _Global(name)


def _announced_storage(identity):
    """The storage that a persistent id stands for, and where in it a view begins, which the oldest files may say."""
    what, kind, key, _, count, *view = _expect(identity, tuple)
    if what != "storage" or not isinstance(kind, _Global) or kind.name not in STORAGES:
        raise ValueError("it refers to something that is not a storage of numbers: save model.state_dict() alone")
    start = _natural_number(view[0][1]) if view and view[0] is not None else 0
    return _Storage(_expect(key, str), STORAGES[kind.name], _natural_number(count)), start


def _call_result(called, arguments, steps):
    """What a call makes: a dict, or the description of a tensor. There are no other calls."""
    match called, arguments:
        case _Global("collections.OrderedDict"), ():
            return {}
        case _Global("collections.OrderedDict"), (list(pairs),):
            made: dict[str | int, Any] = {}
            steps.take(len(pairs))
            _set_items(made, pairs)
            return made
        case _Global("torch._utils._rebuild_parameter"), (_Tensor() as tensor, *_):
            return tensor
        case (
            _Global("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2"),
            ((_Storage() as storage, int(start)), offset, tuple(size), tuple(stride), *_),
        ) if len(size) == len(stride) <= 32:
            shape = tuple(_natural_number(n) for n in size), tuple(_natural_number(n) for n in stride)
            return _Tensor(storage, start + _natural_number(offset), *shape)
    name = called.name if isinstance(called, _Global) else type(called).__name__
    raise ValueError(f"it wants to run {name!r} in a way that PyTorch's own files do not")
