"""The loop over many examples that `explain_batch` and `evaluate` share: load, group, compute, keep, count failures.

It does not know what is computed.

    >>> import numpy as np
    >>> def load(word):
    ...     return np.float32(word)  # fails for one of them
    >>> outcome = for_each(
    ...     [("a", "1"), ("b", "two"), ("c", "3")],
    ...     load=load,
    ...     chunk_size=lambda example: 2,
    ...     compute=lambda examples, items: [2 * example for example in examples],
    ...     store=lambda name, item, result, finished: float(result),
    ...     label="doubling",
    ... )
    >>> outcome
    Outcome(results={'a': 2.0, 'c': 6.0}, failed={'b': "could not convert string to float: 'two'"})
"""

import collections
import concurrent.futures
import functools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from jaxcam._base import progress
from jaxcam.runtime._figures import Figures
from jaxcam.runtime._runner import Example, group_by_shape
from jaxcam.runtime._sigterm import end_if_terminated

Item = TypeVar("Item")
LOADED_AHEAD = 4  # for each thread
log = logging.getLogger("jaxcam")


class Outcome(NamedTuple):
    """By name, in the order of the items: the results, and why the other items have none."""

    results: dict[str, Any]
    failed: dict[str, str]


def for_each(
    items: Iterable[tuple[str, Item]],
    *,
    load: Callable[[Item], Example],
    chunk_size: Callable[[Example], int],
    compute: Callable[[list[Example], list[Item]], Any],
    collect: Callable[[Any], Iterable[Any]] | None = None,
    store: Callable[[str, Item, Any, int], Any],
    recorded: Callable[[str, Item], Any] = lambda name, item: None,
    label: str,
    total: int | None = None,
    raise_after: int = 1,
    recoverable: tuple[type[Exception], ...] = (Exception,),
    workers: int | None = None,
    figures: Figures | None = None,
    keep: bool = True,
) -> Outcome:
    """Computes a result for each item. An item that fails gets one line on the logger "jaxcam"; the others go on.

    Args:
      items: names, no two the same, and items; read once, as late as possible.
      load: from an item to its example, a pytree of arrays. Every exception is a failure of the item.
      chunk_size: the number of examples of this shape that are computed together.
      compute: from examples of one shape and their items to the results, one for each example. A result that is an
        exception is a failure of the item.
      collect: if given, `compute` only starts the work, and this waits for it and returns the results; what follows
        the results of the examples is padding. The next chunk is loaded in the meantime. By default the results are
        stored before anything else is loaded.
      store: from the name, the item, its result and the number of items that are finished to what is returned for the
        item. Its exceptions are not caught.
      recorded: from the name and the item to the result that an earlier run stored, or None.
      label: the text before the progress bar.
      total: the number of items; None if it is not known.
      raise_after: if `chunk_size` and `compute` raise this often and nothing is finished, the call is taken to be
        wrong and the exception is raised.
      recoverable: the exceptions of `chunk_size` and `compute` that are failures of the items; others are raised.
      workers: the number of threads that load, ahead of what is computed; None to load in this thread.
      figures: count what becomes of the items.
      keep: whether the outcome has the results and the order of the items; otherwise nothing is kept of an item.

    Raises:
      Exception: the first one of `chunk_size` or `compute`, if no item is finished in the end.
    """
    figures = figures or Figures(total=total)
    with progress.bar(label, total, flops=math.inf, text=figures.text) as advance:
        tally = _Tally(raise_after, recoverable, advance, figures, keep)
        in_progress: list[tuple[list[tuple[str, Item]], Any]] = []  # one chunk at most

        def store_results():
            for chunk, computed in in_progress:
                results = computed if collect is None else collect(computed)
                for (name, item), result in zip(chunk, results, strict=collect is None):
                    if isinstance(result, Exception):
                        tally.fail(name, result)
                    else:
                        tally.finish(name, store(name, item, result, tally.finished))
            in_progress.clear()

        lacking = _lacking_items(items, recorded, tally)
        calls = _in_threads(lacking, load, workers) if workers else _in_turn(lacking, load)
        loaded = _load_examples(calls, chunk_size, tally, store_results)
        for examples, chunk in group_by_shape(loaded, chunk_size):
            store_results()
            try:
                in_progress.append((chunk, compute(examples, [item for _, item in chunk])))
            except recoverable as error:
                tally.fail_together([name for name, _ in chunk], error)
            if collect is None:
                store_results()
        store_results()
    return tally.outcome()


def _lacking_items(items, recorded, tally):
    """The items that have no result yet."""
    for name, item in items:
        end_if_terminated()
        tally.add(name)
        result = recorded(name, item)
        if result is None:
            yield name, item
        else:
            tally.finish(name, result, earlier=True)


def _in_turn(items, load):
    """Each item with a call that loads it."""
    for name, item in items:
        yield (name, item), functools.partial(load, item)


def _in_threads(items, load, workers):
    """Each item with a call that waits until a thread has loaded it; few items are loaded ahead."""
    waiting: collections.deque[tuple[Any, Callable[[], Any]]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers, "jaxcam-load")
    try:
        for name, item in items:
            waiting.append(((name, item), pool.submit(load, item).result))
            if len(waiting) > LOADED_AHEAD * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _load_examples(calls, chunk_size, tally, store_results) -> Iterator[tuple[Example, tuple[str, Any]]]:
    """The examples of the items that can be loaded, each with its name and item."""
    for (name, item), load in calls:
        try:
            example = load()
        except Exception as error:
            tally.fail(name, error)
            continue
        try:
            chunk_size(example)
        except tally.recoverable as error:
            store_results()  # of the chunk before, which may show that the call is not wrong
            tally.fail_together([name], error)
            continue
        yield example, (name, item)


class _Tally:
    """What became of the items so far."""

    def __init__(
        self,
        raise_after: int,
        recoverable: tuple[type[Exception], ...],
        advance: Callable[[], None] | None,
        figures: Figures,
        keep: bool,
    ):
        self.raise_after, self.recoverable, self.advance = raise_after, recoverable, advance
        self.figures, self.keep = figures, keep
        self.names: list[str] = []
        self.results: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.errors: list[Exception] = []  # of `chunk_size` and `compute`: the call itself may be wrong

    @property
    def finished(self) -> int:
        """The number of items that have a result."""
        return self.figures.finished + self.figures.earlier

    def add(self, name):
        if self.keep:
            self.names.append(name)

    def finish(self, name, result, *, earlier=False):
        if self.keep:
            self.results[name] = result
        (self.figures.skip if earlier else self.figures.finish)()
        self._advance()

    def fail(self, name, error):
        self.failed[name] = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: %s", name, self.failed[name])
        self.figures.fail(error)
        self._advance()

    def fail_together(self, names, error):
        """The items of one call fail. If none was ever finished, the error may be raised instead."""
        self.errors.append(error)
        if not self.finished and len(self.errors) >= self.raise_after:
            raise error
        for name in names:
            self.fail(name, error)

    def outcome(self):
        if self.errors and not self.finished:
            raise self.errors[0]
        if not self.keep:
            return Outcome({}, self.failed)
        return Outcome(
            {name: self.results[name] for name in self.names if name in self.results},
            {name: self.failed[name] for name in self.names if name in self.failed},
        )

    def _advance(self):
        if self.advance is not None:
            self.advance()
