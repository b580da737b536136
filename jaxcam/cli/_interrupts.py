"""Ctrl-C inside a compiled program: Python's handler runs between two steps of Python, and a program is one step."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

GRACE = 1.0  # seconds in which Python's handler may take over
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


@contextlib.contextmanager
def ended_by_ctrl_c(exit_code: int, message: str | None) -> Iterator[None]:
    """Ends the process on Ctrl-C if the main thread does not come back from a compiled program to be interrupted.

    The interpreter notes the signal in a socket, even while the main thread waits for XLA, and a thread reads it there.
    If the main thread raises `KeyboardInterrupt` in time, the thread leaves it alone: files are closed as they should
    be. Otherwise it ends the process without unwinding, which costs what `kill -9` costs: the work in progress. Nothing
    is changed where SIGINT is ignored, as a shell does for what it runs in the background.

    Args:
      exit_code: of the process that is ended so.
      message: a line for stderr.

    Raises:
      KeyboardInterrupt: on Ctrl-C, also if something between has made another exception of it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    noticed, interrupted = threading.Event(), threading.Event()

    def interrupt(number, frame):
        noticed.set()
        interrupted.set()
        signal.default_int_handler(number, frame)

    def watch():
        with reader:
            while number := reader.recv(1):
                if number[0] == signal.SIGINT and not noticed.wait(GRACE):
                    sys.stderr.write(SHOW_CURSOR if sys.stderr.isatty() else "")
                    sys.stderr.write(f"{message}\n" if message else "")
                    sys.stderr.flush()
                    os._exit(exit_code)
                noticed.clear()

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handler = signal.signal(signal.SIGINT, interrupt)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if interrupted.is_set():  # in a callback from a program, such as a progress bar's, for which JAX raises its own
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, handler)
        writer.close()  # the watcher reads an empty message and ends
        watcher.join()
