"""One run at a time for each share of a folder: a lock that a dead process, or a dead machine, does not keep.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with lock_share(pathlib.Path(folder), (0, 2)), lock_share(pathlib.Path(folder), (1, 2)):
    ...         try:
    ...             with lock_share(pathlib.Path(folder), (1, 2)):
    ...                 pass
    ...         except ValueError as error:
    ...             print("in use by another run" in str(error))
    True

The operating system releases the lock of a process that ends. Between machines it may not hold, so the owner also
touches a file while it runs. A file of another machine is watched: if it is touched, its owner lives, and if it is not
touched for `WATCHED` seconds, its owner is dead. Only this machine's own clock measures that time, so that clocks which
differ do no harm.
"""

import contextlib
import json
import logging
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterator
from typing import Any

import filelock

from jaxcam.runtime._sigterm import ended_by_sigterm
from jaxcam.runtime._store import replace

HEARTBEAT = 15.0  # seconds
WATCHED = 60.0  # seconds
PAUSE = 0.5  # seconds between two looks
LOOKING = 1.0  # seconds after which a lock is held by its owner, and not by others that look
FOLDER = ".locks"
Share = tuple[int, int]  # number of the share, and the number of shares
log = logging.getLogger("jaxcam")


@contextlib.contextmanager
def lock_share(out: pathlib.Path, share: Share) -> Iterator[None]:
    """Holds the lock of a share of a folder.

    SIGTERM, by which machines are taken away, ends the block as Ctrl-C does, unless the program handles it otherwise:
    a `SystemExit` is raised, so that what waits is written and the lock is released.

    Args:
      out: the folder, which exists.
      share: number of the share, and the number of shares of the run.

    Raises:
      ValueError: a living process holds the share, or a share of a run with another number of shares.
    """
    owner = out / FOLDER / f"{share[0]}-of-{share[1]}.json"
    lock = _acquire(out, owner)
    try:
        _check_this_machine(out, owner, share)
        _watch_other_machines(out, [owner, *_other_shares(owner, share)])
        record = {"host": platform.node(), "process": os.getpid(), "started": time.time()}
        replace(owner, json.dumps(record).encode())
        _check_this_machine(out, owner, share)
        for other in _other_shares(owner, share):  # of another machine, which has come while others were watched
            raise _in_use(out, other, share)
        with _touched(owner), ended_by_sigterm():
            yield
    finally:
        with contextlib.suppress(OSError):
            if _is_own(owner):
                owner.unlink()
        _release(lock)
        with contextlib.suppress(OSError):  # others may use it
            owner.parent.rmdir()


def _acquire(out, owner):
    lock = filelock.FileLock(owner.with_suffix(".lock"), timeout=0)
    for _ in range(100):  # the folder is removed by whoever leaves it last, at any moment
        try:
            owner.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            raise _in_use(out, owner) from None
        except (FileNotFoundError, FileExistsError):
            continue
        return lock
    raise OSError(f"{owner.parent} cannot be made")


def _release(lock):
    """Removes the lock's file, and then releases it: whoever has opened that file in between sees that it is gone.

    The other way round, a process that has just locked the file and one that locks a new file would both hold it.
    """
    with contextlib.suppress(OSError):  # Windows keeps a file that is open
        pathlib.Path(lock.lock_file).unlink()
    lock.release()


def _check_this_machine(out, owner, share):
    """Raises a ValueError if a process of this machine has a share of a run that is divided otherwise."""
    for other in _other_shares(owner, share):
        if _is_of_this_machine(other) and not _has_ended(other):
            raise _in_use(out, other, share)


def _other_shares(owner, share):
    """The files of owners of shares of runs that are divided otherwise."""
    return [other for other in owner.parent.glob("*.json") if not other.stem.endswith(f"-of-{share[1]}")]


def _is_of_this_machine(owner):
    return (_read(owner) or {}).get("host") == platform.node()


def _has_ended(owner):
    """Whether no process of this machine holds the lock; the owner's file is then removed.

    Another process of this run may look at the same moment, which takes the lock for that moment.
    """
    lock = filelock.FileLock(owner.with_suffix(".lock"), timeout=LOOKING)
    try:
        lock.acquire()
    except filelock.Timeout:
        return False
    owner.unlink(missing_ok=True)
    _release(lock)
    return True


def _watch_other_machines(out, owners):
    """Removes the files of other machines' owners that are dead; a ValueError as soon as one lives."""
    touched = {owner: _stamp(owner) for owner in owners if owner.exists() and not _is_of_this_machine(owner)}
    if touched:
        log.warning("%s: waits %.0f s to see whether %s lives", out, WATCHED, _name_of(next(iter(touched))))
    ends = time.monotonic() + WATCHED
    while touched and time.monotonic() < ends:
        time.sleep(PAUSE)
        touched = {owner: stamp for owner, stamp in touched.items() if owner.exists()}
        for owner, stamp in touched.items():
            if _stamp(owner) not in (stamp, None):
                raise _in_use(out, owner)
    for owner in touched:
        log.warning("%s: the lock of %s is stale, and is taken over", out, _name_of(owner))
        owner.unlink(missing_ok=True)


def _stamp(owner):
    """What changes when an owner touches its file; None if it is gone."""
    try:
        with owner.open("rb") as file:  # opened, because network file systems remember the times of other files
            return os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None


def _in_use(out, owner, share=None):
    """The error of a second run, of as many processes or, if its share is given, of another number of processes."""
    others = "" if share is None else f" The run in progress has another number of processes than this one, {share[1]}"
    return ValueError(
        f"{out} is in use by another run, {_name_of(owner)}: wait for its end, or choose another folder.{others}"
    )


def _name_of(owner):
    record: dict[str, Any] = _read(owner) or {}
    return f"process {record.get('process', '?')} on {record.get('host', '?')}"


def _is_own(owner):
    record = _read(owner) or {}
    return (record.get("host"), record.get("process")) == (platform.node(), os.getpid())


def _read(owner) -> dict[str, Any] | None:
    try:
        return dict(json.loads(owner.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # it is just being written
        return {}


@contextlib.contextmanager
def _touched(owner):
    """Touches a file from time to time."""
    ended = threading.Event()

    def touch():
        while not ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError):  # the next time will do
                os.utime(owner)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
