"""The steps of an evaluation as `for_each` calls them: the examples and their names, loading, measuring, the record."""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam.cutting import check_target
from jaxcam.datasets import Example
from jaxcam.evaluation._loaded import Loaded, loaded
from jaxcam.evaluation._scorer import OF_THE_MAP, Scorer, join_columns
from jaxcam.evaluation._store import RecordFolder, example_digest, merge_rows
from jaxcam.runtime import Targets, check_name, content_digest, target_digest


class Item(NamedTuple):
    """One of the given examples, what identifies it in the folder, and its record in the folder."""

    given: Any
    digest: str
    record: dict[str, Any] | None
    target: Any


class Steps:
    """The steps of an evaluation as `for_each` calls them."""

    def __init__(
        self, scorer: Scorer, load: Callable[[Any], Example] | None, folder: RecordFolder | None, targets: Targets
    ):
        self.targets = targets
        self.scorer, self.load_given, self.folder = scorer, load, folder
        self.methods, self.metrics = scorer.methods, scorer.metrics
        self.sample: jax.ShapeDtypeStruct | None = None  # of an image that the model takes
        self.names: dict[str, None] = {}  # of all examples, in their order

    def items(self, examples: Iterable[Any], share: tuple[int, int]) -> Iterator[tuple[str, Item]]:
        """The examples of a share with their names; a ValueError if two have one name, as early as possible."""
        if isinstance(examples, Sequence):
            _check_names(_name_of(given, number) for number, given in enumerate(examples))
        for number, given in enumerate(examples):
            name = _name_of(given, number)
            _check_new(name, self.names)
            self.names[name] = None
            if number % share[1] != share[0]:
                continue
            target = self.targets.of_image(number)
            item = Item(given, "", None, target)
            if self.folder is not None:
                digest = example_digest(given)
                if self.targets.own is not None:
                    digest = content_digest(digest, target_digest(target))
                item = Item(given, digest, self.folder.read(name, digest), target)
            if self.load_given is None and self._lacking(item.record):
                _check_example(given)
            yield name, item

    def _lacking(self, record):
        """The methods and metrics that a record does not have, in pairs."""
        rows = {} if record is None else record["rows"]
        return {
            (method, metric)
            for method in self.methods
            for metric in (OF_THE_MAP, *self.metrics)
            if metric not in rows.get(method, {})
        }

    def recorded(self, name: str, item: Item) -> dict[str, Any] | None:
        """The result of an item whose record in the folder is complete."""
        return None if item.record is None or self._lacking(item.record) else self._with_columns(item.record)

    def load(self, item: Item) -> Loaded:
        """The example as the programs take it."""
        example = item.given if self.load_given is None else self.load_given(item.given)
        if example.target is None:
            example = example._replace(target=item.target)
        result = loaded(example, channel_axis=self.scorer.image_channel_axis)
        if example.target is not None:
            check_target(self.scorer.cut, jnp.asarray(result.image), example.target, self.scorer.score)
        return result

    def compute(self, examples: list[Loaded], items: list[Item]) -> list[Any]:
        """For each example a record of what any of their records lacks, or an exception."""
        self.sample = jax.ShapeDtypeStruct(examples[0].image.shape, examples[0].image.dtype)
        lacking = {pair for item in items for pair in self._lacking(item.record)}
        lacking_methods = {method for method, _ in lacking}
        wanted = {
            method: [metric for metric in self.metrics if (method, metric) in lacking]
            for method in self.methods
            if method in lacking_methods
        }
        return self.scorer(examples, wanted)

    def store(self, name: str, item: Item, record: dict[str, Any], finished: int) -> dict[str, Any]:
        """Merges a record with that in the folder and writes it; returns it with the columns of this call."""
        if item.record is not None:
            record = {**record, "rows": merge_rows(item.record["rows"], record["rows"])}
        if self.folder is not None:
            if self.sample is not None:
                self.folder.open(self.sample)
            self.folder.write(name, item.digest, record, finished)
        return self._with_columns(record)

    def _with_columns(self, record):
        """A record with the columns of each method, of all metrics together."""
        rows = {method: join_columns(record["rows"][method], list(self.metrics)) for method in self.methods}
        return {**record, "rows": rows}


def _check_example(given):
    """Raises a TypeError for a mistake that every example has."""
    if not isinstance(given, Example):
        raise TypeError(f"expected jaxcam.Example, or load= that makes one, got a {type(given).__name__}")
    if isinstance(given.image, str | os.PathLike):
        raise TypeError(
            "expected an example of arrays, got a file: give load=functools.partial(jaxcam.datasets.load, "
            "shape=(224, 224)), for instance"
        )


def _check_names(names):
    known: set[str] = set()
    for name in names:
        _check_new(name, known)
        known.add(name)


def _check_new(name, known):
    if name in known:
        raise ValueError(f"two examples are called {name!r}: give each a name of its own")


def _name_of(example, number):
    """An example's own name, or the stem of its file, or its number."""
    image = getattr(example, "image", None)
    name = getattr(example, "name", None)
    if name is None:
        name = pathlib.Path(image).stem if isinstance(image, str | os.PathLike) else str(number)
    check_name(name)
    return name
