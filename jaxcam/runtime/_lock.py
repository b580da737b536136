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
touches a file while it runs: an owner on another machine whose file is older than `STALE_AFTER` is dead.
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

HEARTBEAT = 15.0  # seconds
STALE_AFTER = 120.0  # seconds, by the file system's clock
FOLDER = ".locks"
Share = tuple[int, int]  # number of the share, and the number of shares
log = logging.getLogger("jaxcam")


@contextlib.contextmanager
def lock_share(out: pathlib.Path, share: Share) -> Iterator[None]:
    """Holds the lock of a share of a folder.

    Args:
      out: the folder, which exists.
      share: number of the share, and the number of shares of the run.

    Raises:
      ValueError: a living process holds the share, or a share of a run with another number of shares.
    """
    owner = out / FOLDER / f"{share[0]}-of-{share[1]}.json"
    lock = _acquire(out, owner)
    try:
        _check_other_owner(out, owner)
        owner.write_text(json.dumps({"host": platform.node(), "process": os.getpid(), "started": time.time()}))
        _check_other_shares(out, owner, share)
        with _touched(owner):
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


def _check_other_owner(out, owner):
    """Raises a ValueError if the share is a living process's on another machine; says so if it was a dead one's."""
    record = _read(owner)
    if record is None or record.get("host") == platform.node():  # the operating system says that it has ended
        return
    age = _age(owner)
    if age is not None and age < STALE_AFTER:
        raise _in_use(out, owner)
    log.warning(
        "%s: the lock of process %s on %s is stale, and is taken over", out, record.get("process"), record.get("host")
    )


def _check_other_shares(out, owner, share):
    """Raises a ValueError if a living process has a share of a run that is divided otherwise."""
    for other in owner.parent.glob("*.json"):
        if other.stem.endswith(f"-of-{share[1]}") or not _is_alive(other):
            continue
        raise ValueError(
            f"{_in_use(out, other)} The run in progress has another number of processes than this one, {share[1]}"
        )


def _is_alive(owner):
    record, age = _read(owner), _age(owner)
    if record is None or age is None:
        return False
    if record.get("host") != platform.node():
        return age < STALE_AFTER
    lock = filelock.FileLock(owner.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        return True
    owner.unlink(missing_ok=True)
    _release(lock)
    return False


def _in_use(out, owner):
    record: dict[str, Any] = _read(owner) or {}
    who = f"process {record.get('process', '?')} on {record.get('host', '?')}"
    return ValueError(f"{out} is in use by another run, {who}: wait for its end, or choose another folder.")


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


def _age(owner):
    """Seconds since the owner touched its file, by the clock of the file system; None if it has no file."""
    probe = owner.with_name(f".{os.getpid()}.{threading.get_ident()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - owner.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


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
