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

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from jaxcam._base import progress
from jaxcam.runtime._runner import Example, group_by_shape

Item = TypeVar("Item")
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

    Raises:
      Exception: the first one of `chunk_size` or `compute`, if no item is finished in the end.
    """
    with progress.bar(label, total, flops=math.inf) as advance:
        tally = _Tally(raise_after, recoverable, advance)
        in_progress: list[tuple[list[tuple[str, Item]], Any]] = []  # one chunk at most

        def store_results():
            for chunk, computed in in_progress:
                results = computed if collect is None else collect(computed)
                for (name, item), result in zip(chunk, results, strict=collect is None):
                    if isinstance(result, Exception):
                        tally.fail(name, result)
                    else:
                        tally.finish(name, store(name, item, result, len(tally.results)))
            in_progress.clear()

        loaded = _load_examples(items, load, chunk_size, recorded, tally, store_results)
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


def _load_examples(
    items, load, chunk_size, recorded, tally, store_results
) -> Iterator[tuple[Example, tuple[str, Any]]]:
    """The examples of the items that have no result yet and can be loaded, each with its name and item."""
    for name, item in items:
        tally.names.append(name)
        result = recorded(name, item)
        if result is not None:
            tally.finish(name, result)
            continue
        try:
            example = load(item)
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

    def __init__(self, raise_after: int, recoverable: tuple[type[Exception], ...], advance: Callable[[], None] | None):
        self.raise_after, self.recoverable, self.advance = raise_after, recoverable, advance
        self.names: list[str] = []
        self.results: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.errors: list[Exception] = []  # of `chunk_size` and `compute`: the call itself may be wrong

    def finish(self, name, result):
        self.results[name] = result
        self._advance()

    def fail(self, name, error):
        self.failed[name] = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: %s", name, self.failed[name])
        self._advance()

    def fail_together(self, names, error):
        """The items of one call fail. If none was ever finished, the error may be raised instead."""
        self.errors.append(error)
        if not self.results and len(self.errors) >= self.raise_after:
            raise error
        for name in names:
            self.fail(name, error)

    def outcome(self):
        if self.errors and not self.results:
            raise self.errors[0]
        return Outcome(
            {name: self.results[name] for name in self.names if name in self.results},
            {name: self.failed[name] for name in self.names if name in self.failed},
        )

    def _advance(self):
        if self.advance is not None:
            self.advance()
