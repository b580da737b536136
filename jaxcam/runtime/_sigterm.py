"""SIGTERM, by which machines are taken away, ends a run as Ctrl-C does: a `SystemExit` in the main thread.

Python prints and forgets an exception that is raised in a callback of its garbage collector, and XLA makes another one
of an exception in a callback of a program. So the loops of a run also ask, between two images, whether to end.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax

_received: list[int] = []  # the signal, until the run has ended


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM raises SystemExit, if this is the main thread and nobody else handles the signal."""

    def end(number, frame):
        signal.signal(number, signal.SIG_IGN)  # what waits is being written
        _received.append(number)
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or _jax_handles_sigterm() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        _received.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_if_terminated() -> None:
    """Raises the SystemExit of a SIGTERM again, which something between may have lost."""
    if _received and threading.current_thread() is threading.main_thread():
        raise SystemExit(128 + _received[0])


def _jax_handles_sigterm():
    """Whether `jax.distributed` notes SIGTERM. Its handler, which Python does not see, could not be put back."""
    return jax.distributed.is_initialized() and getattr(jax.config, "jax_enable_preemption_service", True)
