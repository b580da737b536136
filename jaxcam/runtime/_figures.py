"""Figures of a run: images per second, failures by reason, time left; at a terminal and as lines of JSON.

>>> figures = Figures(total=4)
>>> figures.finish(), figures.fail(ValueError("cat.png is torn"))
(None, None)
>>> record = figures.record()
>>> record["finished"], record["failed"], record["reasons"]
(1, 1, {'ValueError: ... is torn': 1})
"""

import json
import os
import pathlib
import platform
import re
import time
from collections import Counter
from typing import Any

INTERVAL = 10.0  # seconds between two lines
MOST_REASONS = 20
LONGEST_REASON = 100


class Figures:
    """Counts of a run.

    Args:
      total: the number of images; None if it is not known.
      log: a file that gets a line of JSON every ten seconds and at the end; None for none.
      share: number of the share, and the number of shares.
    """

    def __init__(self, *, total: int | None, log: str | os.PathLike | None = None, share: tuple[int, int] = (0, 1)):
        self.total, self.share = total, share
        self.log = None if log is None else pathlib.Path(log)
        self.finished = self.earlier = self.failed = 0
        self.reasons: Counter[str] = Counter()
        self.started = self.logged = time.monotonic()
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.open("a").close()  # a file that cannot be written is an error before anything is computed

    def finish(self) -> None:
        """An image is finished."""
        self.finished += 1
        self._log_at_times()

    def skip(self) -> None:
        """An image was finished by an earlier run."""
        self.earlier += 1
        self._log_at_times()

    def fail(self, error: Exception) -> None:
        """An image failed."""
        self.failed += 1
        reason = reason_of(error)
        self.reasons[reason if reason in self.reasons or len(self.reasons) < MOST_REASONS else "others"] += 1
        self._log_at_times()

    def record(self) -> dict[str, Any]:
        """The figures so far."""
        seconds = time.monotonic() - self.started
        done, rate = self.finished + self.failed, self._rate(seconds)
        left = None if self.total is None else self.total - done - self.earlier
        return {
            "time": time.time(),
            "host": platform.node(),
            "process": os.getpid(),
            "share": list(self.share),
            "total": self.total,
            "finished": self.finished,
            "earlier": self.earlier,
            "failed": self.failed,
            "reasons": dict(self.reasons.most_common()),
            "seconds": round(seconds, 3),
            "images_per_second": round(rate, 3),
            "seconds_left": None if left is None or not rate else round(left / rate, 1),
        }

    def text(self) -> str:
        """The figures for a terminal."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self._rate(time.monotonic() - self.started):.3g} images/s{failed}"

    def _rate(self, seconds):
        return (self.finished + self.failed) / seconds if seconds > 0 else 0.0

    def close(self) -> None:
        """Writes the last line."""
        self._write()

    def _log_at_times(self):
        if self.log is not None and time.monotonic() - self.logged >= INTERVAL:
            self._write()

    def _write(self):
        self.logged = time.monotonic()
        if self.log is not None:
            with self.log.open("a") as file:  # one write, so that lines of several processes do not mix
                file.write(json.dumps(self.record()) + "\n")


def reason_of(error: Exception) -> str:
    """The kind of a failure: the type and the message without what differs from image to image.

    Example:
      >>> reason_of(ValueError("shape (3, 224): expected 3 axes")), reason_of(KeyError())
      ('ValueError: shape (#, #): expected # axes', 'KeyError')
    """
    text = re.sub(r"\S*[/\\]\S*|\S+\.\w+\b|'[^']*'", "...", " ".join(str(error).split()))
    text = re.sub(r"\d[\d.]*", "#", text)
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON].removesuffix(": ")
