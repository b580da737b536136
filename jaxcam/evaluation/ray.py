"""An evaluation over a Ray cluster: the cut is built once in each actor, and this process keeps the figures.

    evaluation = evaluate_examples(
        make_cut, jaxcam.datasets.csv("labels.csv"), {"Grad-CAM": jaxcam.grad_cam}, ["drop", "pointing"],
        load=functools.partial(jaxcam.datasets.load, shape=(224, 224)), out="figures", num_gpus=1, concurrency=8,
    )

It needs Ray: `pip install 'jaxcam-saliency[ray]'`.
"""

import functools
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut, check_cut
from jaxcam.datasets import Example
from jaxcam.evaluation._evaluate import RAISE_AFTER, checked_call, evaluation_of, locked, steps_of
from jaxcam.evaluation._gather import in_order
from jaxcam.evaluation._result import Evaluation
from jaxcam.evaluation._scorer import Scorer
from jaxcam.evaluation._selection import AnyMetric
from jaxcam.evaluation._steps import Item, Steps
from jaxcam.formulas import scores
from jaxcam.runtime import (
    Figures,
    Targets,
    batches_of,
    blocks_of,
    for_each,
    group_by_shape,
    import_ray,
    map_in_actors,
    mesh_of_actor,
)

ROW = "row"  # the column of the rows that travel, pickled


def evaluate_examples(
    make_cut: Callable[[], Cut],
    examples: Iterable[Any],
    methods: Mapping[str, Method] | Sequence[Method],
    metrics: Sequence[AnyMetric] | None = None,
    key: jax.Array | None = None,
    *,
    target: Any = "predicted",
    targets: Any = None,
    score: Score = scores.probability,
    reference: str | None = None,
    load: Callable[[Any], Example] | None = None,
    out: str | os.PathLike | None = None,
    memory: float | None = None,
    batch_size: int = 8,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    concurrency: int | tuple[int, int] = 1,
    log: str | os.PathLike | None = None,
) -> Evaluation:
    """`jaxcam.evaluate`, computed by actors of a Ray cluster: the same figures, to rounding, and the same folder.

    Actors that die and nodes that are lost are Ray's matter: it computes their batches again. This process reads the
    examples, keeps the figures as they come and writes the folder, so that the actors need not see it. If this process
    is killed, the same call goes on with what is missing, and so does `jaxcam.evaluate` with the same arguments.

    Args:
      make_cut: a function without arguments that returns the `Cut`; it is called here, and once in each actor.
      examples: as in `jaxcam.evaluate`. Each travels to an actor: give files that every node sees, or what `load`
        takes, rather than many large arrays.
      methods: as in `jaxcam.evaluate`, and so are all arguments up to `memory`. What is given must pickle.
      metrics: names, functions or `Metric`s.
      key: the source of all random numbers.
      target: the explained class.
      targets: a target for each image.
      score: of the whole and of the masked image.
      reference: the method that the others are compared with.
      load: from an element of `examples` to an `Example`; it is called in the actors.
      out: a folder for the figures of each image, on a file system of this process.
      memory: bytes that a chunk of images may take on each device.
      batch_size: examples that an actor gets at a time, and loses if it dies.
      num_cpus: of Ray's, for each actor.
      num_gpus: of Ray's, for each actor. An actor computes on all GPUs that it gets.
      concurrency: the number of actors, or the smallest and the largest number.
      log: a file that gets lines of JSON with figures of the run.

    Returns:
      `Evaluation`, which prints as tables.

    Raises:
      TypeError, ValueError: as `jaxcam.evaluate` does; Ray is not installed, or gave up, such as where `make_cut`
        fails.

    Example:
      >>> import functools, jaxcam  # doctest: +SKIP
      >>> def make_cut():  # doctest: +SKIP
      ...     return jaxcam.cut(jaxcam.efficientnet_lite0(), "head")
      >>> load = functools.partial(jaxcam.datasets.load, shape=(224, 224))  # doctest: +SKIP
      >>> examples = jaxcam.datasets.folder("pictures")  # doctest: +SKIP
      >>> evaluate_examples(make_cut, examples, [jaxcam.grad_cam], ["drop"], load=load, concurrency=8)  # doctest: +SKIP
    """
    import_ray()
    if not callable(make_cut) or isinstance(make_cut, Cut):
        raise TypeError(f"expected a function without arguments that returns the cut, got a {type(make_cut).__name__}")
    if not (isinstance(batch_size, int) and batch_size >= 1):
        raise ValueError(f"expected batch_size of at least 1, got {batch_size!r}")
    call = checked_call(
        make_cut(), examples, methods, metrics, key, target=target, targets=targets, score=score, reference=reference,
        load=load, memory=memory, mesh=None, share=(0, 1),
    )  # fmt: skip
    scorer = call.scorer
    arguments = (make_cut, scorer.key, scorer.methods, scorer.metrics)
    settings = {"target": scorer.target, "score": score, "memory": memory, "load": load, "count": batch_size}
    figures = Figures(total=call.total, log=log, share=call.share)
    with locked(out, call.share):
        steps = steps_of(call, load, out)

        def measured(rows: dict[str, Item]) -> Iterator[tuple[str, _Measured]]:
            returned = map_in_actors(
                _as_dataset(rows, batch_size), _Worker, arguments, settings, batch_size=batch_size, num_cpus=num_cpus,
                num_gpus=num_gpus, concurrency=concurrency,
            )  # fmt: skip
            return (pickle.loads(row) for batch in batches_of(returned) for row in batch[ROW])

        outcome = for_each(
            _arriving(steps, examples, measured), load=_unless_it_failed, chunk_size=lambda _: 1,
            compute=_unless_the_call_is_wrong, store=functools.partial(_store, steps),
            recorded=lambda name, arrived: arrived.record, label="evaluating", total=figures.total,
            raise_after=RAISE_AFTER, figures=figures,
        )  # fmt: skip
    figures.close()
    return evaluation_of(call, in_order([outcome], steps.names), are_chosen=metrics is not None)


class _Measured(NamedTuple):
    """What an actor says of an example: its record, or why there is none.

    Attributes:
      record: as `Scorer` makes it.
      sample: the shape and type of the image.
      error: why there is no record.
      of_the_call: the error of a program, which may be that of every example: its type.
    """

    record: Any = None
    sample: jax.ShapeDtypeStruct | None = None
    error: str = ""
    of_the_call: type[Exception] | None = None


class _Arrived(NamedTuple):
    """An example whose record was in the folder, or came from an actor."""

    item: Item
    record: dict[str, Any] | None
    measured: _Measured = _Measured()


def _as_dataset(rows, batch_size):
    ray = import_ray()
    pickled = [{ROW: ray.cloudpickle.dumps(row)} for row in rows.items()]  # which may be of classes of a script
    return ray.data.from_items(pickled, override_num_blocks=blocks_of(len(rows), batch_size))


def _arriving(
    steps: Steps, examples: Iterable[Any], measure: Callable[[dict[str, Item]], Iterator[tuple[str, _Measured]]]
) -> Iterator[tuple[str, _Arrived]]:
    """The examples whose records are complete; then the others, as they come from the actors."""
    lacking: dict[str, Item] = {}
    for name, item in steps.items(examples, (0, 1)):
        record = steps.recorded(name, item)
        if record is None:
            lacking[name] = item
        else:
            yield name, _Arrived(item, record)
    if lacking:
        for name, measured in measure(lacking):
            yield name, _Arrived(lacking[name], None, measured)


def _store(steps, name, arrived, measured, finished):
    steps.sample = measured.sample
    return steps.store(name, arrived.item, measured.record, finished)


def _unless_it_failed(arrived):
    """Nothing that would have to be stacked; the error of an example alone."""
    if arrived.measured.error and arrived.measured.of_the_call is None:
        raise ValueError(arrived.measured.error)
    return ()


def _unless_the_call_is_wrong(_, all_arrived):
    """What the actors measured; an error that may be that of every example."""
    for arrived in all_arrived:
        if arrived.measured.of_the_call is not None:
            raise arrived.measured.of_the_call(arrived.measured.error)
    return [arrived.measured for arrived in all_arrived]


class _Worker:
    """From batches of examples to batches of what is measured of them."""

    def __init__(
        self,
        make_cut: Callable[[], Cut],
        key: jax.Array,
        methods: Mapping[str, Method],
        metrics: Mapping[str, Any],
        *,
        load: Callable[[Any], Example] | None,
        **settings: Any,
    ):
        cut = make_cut()
        check_cut(cut)
        self.scorer = Scorer(cut, key, methods, metrics, mesh=mesh_of_actor(), **settings)
        self.steps = Steps(self.scorer, load, None, Targets())

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        measured: dict[str, _Measured] = {}
        items = dict(map(pickle.loads, batch[ROW]))
        for examples, chunk in group_by_shape(self._loaded(items, measured), self.scorer.size):
            try:
                records = self.steps.compute(examples, [item for _, item in chunk])
            except Exception as error:
                measured |= {name: _of_the_call(error) for name, _ in chunk}
                continue
            for (name, _), record in zip(chunk, records, strict=True):
                failed = isinstance(record, Exception)
                measured[name] = _failed(record) if failed else _Measured(record, self.steps.sample)
        return {ROW: np.array([pickle.dumps((name, measured[name])) for name in items], object)}

    def _loaded(self, items, measured):
        """The examples that can be loaded and are of a shape that the model takes; of others the error is kept."""
        for name, item in items.items():
            try:
                example = self.steps.load(item)
            except Exception as error:  # whatever a loader raises is a failure of the example
                measured[name] = _failed(error)
                continue
            try:
                self.scorer.size(example)
            except Exception as error:
                measured[name] = _of_the_call(error)
                continue
            yield example, (name, item)


def _failed(error):
    return _Measured(error=str(error) or type(error).__name__)


def _of_the_call(error):
    return _Measured(error=str(error), of_the_call=TypeError if isinstance(error, TypeError) else ValueError)
