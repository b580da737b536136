"""A function that runs in a process of its own, which may crash, hang or run out of memory without harm to this one.

The process is started at the first call and serves further calls. Calls from several threads at once have a process
each. What the process returns is not unpickled: it is arrays, text, numbers, and lists, tuples and dicts of these, so
that a file which takes the process over does not take this one over.

>>> import math
>>> root = Isolated(math.sqrt)
>>> root(2.25, seconds=60.0)
1.5
>>> root(-1.0, seconds=60.0)
Traceback (most recent call last):
  ...
ValueError: math domain error
>>> root.close()
"""

import builtins
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from jaxcam._base import _isolated_process

STARTING = 300.0  # seconds until the process has imported the function
# Exceptions that are raised again as they are; others become a ValueError with their name.
SAME = {"OSError", "FileNotFoundError", "PermissionError", "IsADirectoryError", "NotADirectoryError", "ValueError",
        "TypeError", "KeyError"}  # fmt: skip


class Isolated:
    """A function in a process of its own.

    Args:
      function: what another process can import: not a lambda, nor a function of `__main__`. Or the path of a Python
        file and the name of a function in it, which is imported alone.
      memory: the most bytes that the process may take beyond what it has at its start; not limited by default, nor on
        systems without resource limits.

    Raises:
      TypeError: another process cannot import the function.
    """

    def __init__(self, function: Callable[..., Any] | tuple[str, str], *, memory: float | None = None):
        self.what = function if isinstance(function, tuple) else _pickled(function)
        self.memory, self.lock = memory, threading.Lock()
        self.idle: list[_Child] = []
        weakref.finalize(self, _kill_all, self.idle)  # at the end of the program, too

    def __call__(self, *arguments: Any, seconds: float | None = None) -> Any:
        """What the function returns.

        Args:
          *arguments: those of the function.
          seconds: after which the process is killed; not limited by default.

        Raises:
          TimeoutError: the function took longer.
          ValueError: the process crashed or ran out of memory, or the function raised another exception than below.
          OSError, TypeError, KeyError, ValueError: as the function does.
        """
        child = self._idle_child() or _Child(self.what, self.memory)
        value = child.call(arguments, seconds)  # if it raises, the process has ended
        with self.lock:
            self.idle.append(child)
        if isinstance(value, _Raised):
            raise value.as_exception(self.memory)
        return value

    def _idle_child(self):
        """A process that waits, if there is one. The system may have ended one meanwhile, such as for its memory."""
        with self.lock:
            while self.idle:
                child = self.idle.pop()
                if child.process.poll() is None:
                    return child
                child.kill()
        return None

    def close(self) -> None:
        """Ends the processes that are idle."""
        with self.lock:
            _kill_all(self.idle)


def _kill_all(children):
    while children:
        children.pop().kill()


class _Raised:
    """An exception of the function."""

    def __init__(self, name: str, message: str):
        self.name, self.message = name, message

    def as_exception(self, memory):
        if self.name == "MemoryError":
            limit = "the memory" if memory is None else f"{memory / 2**20:.0f} MiB"
            return ValueError(f"reading it takes more than {limit}")
        if self.name in SAME:
            return getattr(builtins, self.name)(self.message)
        return ValueError(f"{self.name}: {self.message}")


class _Child:
    """A process with the function."""

    def __init__(self, what, memory):
        command = [sys.executable, "-P", _isolated_process.__file__]  # -P: without the folder of the file in sys.path
        # A process of its own group: Ctrl-C is for this process, which then ends the other one.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=os.name == "posix"
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        started = self.call((what, memory, sys.path), STARTING)
        if isinstance(started, _Raised):
            self.kill()
            raise started.as_exception(memory)

    def call(self, request, seconds):
        is_late = threading.Event()

        def stop():
            is_late.set()
            self.process.kill()

        timer = threading.Timer(seconds, stop) if seconds is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            _isolated_process.send(self.input, pickle.dumps((seconds, request)))
            value = _decoded(self.output)
        except (OSError, EOFError) as error:
            self.kill()
            if is_late.is_set():
                raise TimeoutError(f"it takes more than {seconds:g} seconds") from error
            raise ValueError(f"its reader crashed: {_ending(self.process.returncode)}") from error
        except BaseException:  # an interrupt: the answer would be taken for that of the next call
            self.kill()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return value

    def kill(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.input, self.output):
            try:
                pipe.close()
            except OSError:  # what was not written yet cannot be written
                pass


def _pickled(function):
    try:
        data = pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(f"expected a function that another process can import, got {function!r}: {error}") from error
    if b"__main__" in data:
        raise TypeError(
            f"expected a function that another process can import, got {function!r} of the main program: move it to a "
            "module"
        )
    return data


def _decoded(stream: IO[bytes]) -> Any:
    """The value that a process sends: JSON, and the bytes of the arrays in it."""
    value, sizes = json.loads(_isolated_process.receive(stream))
    arrays = [_isolated_process.receive(stream) for _ in range(sizes)]
    return _value(value, iter(arrays))


def _value(coded, arrays):
    kind, content = coded
    if kind == "array":
        dtype, shape = content
        if np.dtype(dtype).hasobject:
            raise ValueError("the process returned an array of objects")
        return np.frombuffer(bytearray(next(arrays)), np.dtype(dtype)).reshape(shape)
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(_value(part, arrays) for part in content)
    if kind == "dict":
        return {key: _value(part, arrays) for key, part in content}
    if kind == "error":
        return _Raised(*content)
    return content


def _ending(code):
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return f"it was ended by {name}"
    return f"it ended with {code}"
