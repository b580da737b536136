"""The process of `jaxcam._base.isolation`: run as a file, so that jaxcam is imported only if the function needs it.

A message is its length in eight bytes and the content. The first request is the function; after it each is the
arguments of a call. Requests are pickles of the process that started this one. Answers are JSON and raw arrays.
"""

import json
import os
import pickle
import runpy
import signal
import struct
import sys

import numpy as np

MOST = 2**40


def send(stream, content):
    """Writes a message."""
    stream.write(struct.pack("<Q", len(content)))
    stream.write(content)
    stream.flush()


def receive(stream):
    """Reads a message; an EOFError if there is no whole one."""
    header = stream.read(8)
    size = struct.unpack("<Q", header)[0] if len(header) == 8 else MOST
    if size >= MOST:
        raise EOFError("no message")
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("half a message")
    return content


def encoded(value, arrays):
    """The value as JSON values; arrays are appended to `arrays`."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        if array.dtype.kind not in "fiubc":
            raise TypeError(f"expected a function that returns numbers, got an array of {array.dtype}")
        arrays.append(array)
        return ["array", [array.dtype.str, list(np.shape(value))]]
    if isinstance(value, list | tuple):
        return ["list" if isinstance(value, list) else "tuple", [encoded(part, arrays) for part in value]]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return ["dict", [[key, encoded(part, arrays)] for key, part in value.items()]]
    if value is None or isinstance(value, bool | int | float | str):
        return ["value", value]
    raise TypeError(f"expected a function that returns arrays, text or numbers, got {type(value).__name__}")


def imported(what):
    """The function that a file has by a name, or a pickle names."""
    if not isinstance(what, tuple):
        return pickle.loads(what)
    path, name = what
    return runpy.run_path(path)[name]


def limit_memory(size):
    """Bounds what this process may take beyond what it has."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (taken + size, taken + size))


def answer(function, arguments):
    """The messages that answer a call."""
    arrays: list[np.ndarray] = []
    try:
        coded = encoded(function(*arguments), arrays)
    except MemoryError:
        arrays, coded = [], ["error", ["MemoryError", ""]]
    except Exception as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        arrays, coded = [], ["error", [type(error).__name__, " ".join(str(message).split())]]
    return [json.dumps([coded, len(arrays)]).encode(), *(array.reshape(-1).view(np.uint8).data for array in arrays)]


def serve():
    """Answers requests until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints is no answer
    requests = sys.stdin.buffer
    function = None
    while True:
        try:
            seconds, request = pickle.loads(receive(requests))
        except EOFError:
            return
        if hasattr(signal, "SIGALRM") and seconds is not None:
            # If the other process is gone, this one ends all the same: the system does it, whatever code runs.
            signal.setitimer(signal.ITIMER_REAL, seconds + 10)
        if function is None:
            what, memory, sys.path = request

            def start(what=what):
                nonlocal function
                function = imported(what)

            messages = answer(start, ())
            if memory is not None:
                limit_memory(int(memory))
        else:
            messages = answer(function, request)
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for message in messages:
            send(replies, message)


if __name__ == "__main__":
    serve()
