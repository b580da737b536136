"""Which map is better: methods and controls measured on labeled images, with paired confidence intervals.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> canvases = [jaxcam.pretrained.digits_canvas(i) for i in range(3)]
    >>> examples = [jaxcam.Example(image, boxes=boxes) for image, boxes in canvases]
    >>> found = evaluate(cut, examples, {"Grad-CAM": jaxcam.grad_cam}, ["drop", "pointing"])
    >>> found.methods
    ['Grad-CAM', 'Grad-CAM+', 'mean activation', 'center Gaussian', 'random', 'all ones']
    >>> found.estimates()["all ones"]["average_drop"].mean
    0.0

`print(found)` shows the tables. The controls are always in them, because a figure means nothing without them.
"""

import contextlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxcam._base import checks
from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut, check_cut
from jaxcam.datasets import Example
from jaxcam.evaluation._controls import with_controls
from jaxcam.evaluation._explained import GIVEN
from jaxcam.evaluation._gather import gathered
from jaxcam.evaluation._result import Evaluation
from jaxcam.evaluation._scorer import Scorer
from jaxcam.evaluation._selection import AnyMetric, named_metrics
from jaxcam.evaluation._steps import Steps
from jaxcam.evaluation._store import RecordFolder
from jaxcam.formulas import scores
from jaxcam.runtime import (
    Figures,
    Outcome,
    Targets,
    checked_share,
    checked_targets,
    for_each,
    local_mesh,
    lock_share,
)

TARGETS = ("predicted", "label")
RAISE_AFTER = 8  # failures in a row from the start: the call is taken to be wrong
MANY = 2**20  # examples in an iterable without a length
log = logging.getLogger("jaxcam")


def evaluate(
    cut: Cut,
    examples: Iterable[Example],
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
    mesh: Mesh | None = None,
    workers: int | None = None,
    share: tuple[int, int] | None = None,
    log: str | os.PathLike | None = None,
) -> Evaluation:
    """Measures methods and controls on labeled images: figures for each image, and their means with intervals.

    The controls (all ones, a center Gaussian, random, the mean activation and Grad-CAM+) are always in the tables. Maps
    of an image that are equal to 1e-6 of their maximum are measured once. An image that fails (a file that cannot be
    read, a label out of range, a mask of another size, a map that is not finite) gets one line on the logger "jaxcam",
    and the others go on.

    Args:
      cut: a `Cut`. If its outputs are not `[classes]`, targets and a score have to be given.
      examples: `jaxcam.Example`s, such as `jaxcam.datasets` lists; any iterable, which is read once.
      methods: by name, functions `(cut, image, target, [key]) -> [h' w']`, options bound by `functools.partial`; or a
        sequence of functions, which go by their own names.
      metrics: names of `jaxcam.evaluation.METRICS`, your own functions `(cut, case, saliency) -> {column: value}`, or
        `jaxcam.evaluation.Metric`s, which also say what a metric needs and how its columns are shown. Options are bound
        by `functools.partial` and are part of the columns' keys: "pointing, tolerance 15". Defaults to all of those
        names. A metric that needs a mask or boxes is measured on images that have them.
      key: the source of all random numbers; defaults to `jax.random.key(0)`. The numbers for an image depend on its
        pixels, not on its place among the others.
      target: the explained class, "predicted" or "label", or one target for all images, anything that `score` and the
        methods' scores take. Images whose explained class is not predicted are counted apart.
      targets: a target for each image instead, as in `jaxcam.explain_batch`. An `Example.target` is used as well.
      score: `(outputs, target) -> scalar`, of the whole and of the masked image; defaults to the probability, which is
        taken from logits, probabilities and sigmoids alike: see `jaxcam.scores`.
      reference: the method that the others are compared with; defaults to "Grad-CAM" if that is one of the names, and
        to the first method otherwise.
      load: from an element of `examples` to an `Example` of arrays of the model's size, such as
        `functools.partial(jaxcam.datasets.load, shape=(224, 224))`. By default the elements are such examples.
      out: a folder for the figures of each image, `images/NAME.json`, and for `run.json`, which describes the run. The
        same call goes on with missing images. Methods and metrics may be added; finished figures are not computed
        again. Images that failed are tried again.
      memory: bytes that a chunk of images may take, as in `jaxcam.explain_batch`.
      mesh: divides the images over all its devices, whatever the names of its axes. Under `jax.distributed` a process
        takes the part of the mesh that is its own, by default all of its devices.
      workers: threads that load examples ahead, as in `jaxcam.explain_batch`.
      share: `(number, shares)`: measures the examples i with i % shares == number. By default the processes of
        `jax.distributed` divide the examples, and gather their figures at the end: each returns the whole evaluation.
      log: a file that gets lines of JSON with figures of the run, as in `jaxcam.explain_batch`.

    Returns:
      `Evaluation`, which prints as tables.

    Raises:
      ValueError: no examples, or no methods; an unknown metric, target or reference; the folder holds another run; two
        examples have one name; outputs that are not `[classes]`.
      TypeError, ValueError: a method cannot be called as given: the first 8 images fail, or all of fewer.
      OSError: the folder cannot be written, or is full. The figures of finished images stay.

    Example:
      >>> import functools, jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> image, boxes = jaxcam.pretrained.digits_canvas(1)
      >>> examples = [jaxcam.Example(image, label=3, boxes=boxes, name="two copies of a 3")]
      >>> found = evaluate(cut, examples, [jaxcam.grad_cam, jaxcam.hires_cam], ["energy", "found"], target="label")
      >>> found.accuracy, found.reference
      (1.0, 'grad_cam')
    """
    call = checked_call(
        cut, examples, methods, metrics, key, target=target, targets=targets, score=score, reference=reference,
        load=load, memory=memory, mesh=mesh, share=share,
    )  # fmt: skip
    figures = Figures(total=call.total, log=log, share=call.share)
    outcome, names = _outcome(call, examples, load, out, figures, workers)
    outcome = gathered(outcome, names) if share is None else outcome
    return evaluation_of(call, outcome, are_chosen=metrics is not None)


class Call(NamedTuple):
    """The arguments of a call of `evaluate`, checked.

    Attributes:
      scorer: measures the maps of the methods and controls.
      settings: what must be the same in every run that writes to a folder.
      targets: the targets that are given.
      reference: the method that the others are compared with.
      total: the number of examples of the share; None if it is not known.
      share: number of the share, and the number of shares.
    """

    scorer: Scorer
    settings: dict[str, Any]
    targets: Targets
    reference: str
    total: int | None
    share: tuple[int, int]


def checked_call(
    cut, examples, methods, metrics, key, *, target, targets, score, reference, load, memory, mesh, share
) -> Call:
    """The arguments of `evaluate`, checked; a TypeError or a ValueError for those that cannot be meant."""
    check_cut(cut)
    methods = with_controls(methods)
    measured = named_metrics(metrics)
    if reference is None:
        reference = "Grad-CAM" if "Grad-CAM" in methods else next(iter(methods))
    target, own_targets = _kind_and_targets(target, targets, examples, score)
    _check_choice("reference", reference, methods)
    key = jax.random.key(0) if key is None else key
    checks.check_key(key)
    total = len(examples) if isinstance(examples, Sized) else None
    own_share = checked_share(share)
    if total is not None:
        total = max(0, -(-(total - own_share[0]) // own_share[1]))
    scorer = Scorer(
        cut, key, methods, measured, count=total or MANY, target=target, score=score, memory=memory,
        mesh=local_mesh(mesh),
    )  # fmt: skip
    recorded_target = own_targets.as_json() if own_targets.own is None and target == GIVEN else target
    settings = {"target": recorded_target, "score": score, "key": key, "load": load}
    return Call(scorer, settings, own_targets, reference, total, own_share)


def evaluation_of(call: Call, outcome: Outcome, *, are_chosen: bool) -> Evaluation:
    """The evaluation of what became of the examples; a ValueError without any.

    Args:
      call: the arguments.
      outcome: records by name, and failures.
      are_chosen: whether the metrics were asked for by name: those that no image has the mask for are logged.
    """
    if not outcome.results and not outcome.failed:
        raise ValueError("no examples: there is nothing to evaluate")
    measured = call.scorer.metrics
    if are_chosen and outcome.results:
        _warn_of_missing(measured, [record["rows"][call.reference] for record in outcome.results.values()])
    return Evaluation(outcome.results, outcome.failed, call.reference, call.scorer.target, tuple(measured.values()))


@contextlib.contextmanager
def locked(out: str | os.PathLike | None, share: tuple[int, int]) -> Iterator[None]:
    """Holds the lock of a share of the folder, if there is one."""
    if out is None:
        yield
        return
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    with lock_share(pathlib.Path(out), share):
        yield


def _kind_and_targets(target, targets, examples, score):
    """ "predicted", "label" or "given", and the given targets."""
    if isinstance(target, str) and (target not in TARGETS or targets is None):
        _check_choice("target", target, TARGETS)
        return target, Targets()
    if targets is not None and not isinstance(examples, Sized):
        raise TypeError("expected examples with a length for targets=: give list(examples), or examples with a target")
    one_for_all = None if isinstance(target, str) else target
    return GIVEN, checked_targets(one_for_all, targets, len(examples) if isinstance(examples, Sized) else 0, score)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose one of {', '.join(choices)}")


def _outcome(call, examples, load, out, figures, workers):
    """What becomes of the examples of the share, and the names of all examples."""
    with locked(out, call.share):
        steps = steps_of(call, load, out)
        outcome = for_each(
            steps.items(examples, call.share), load=steps.load, chunk_size=call.scorer.size, compute=steps.compute,
            store=steps.store, recorded=steps.recorded, label="evaluating", total=figures.total,
            raise_after=RAISE_AFTER, workers=workers, figures=figures,
        )  # fmt: skip
    figures.close()
    return outcome, steps.names


def steps_of(call: Call, load: Callable[[Any], Example] | None, out: Any, *, read_only: bool = False) -> Steps:
    """The steps of a call, with its folder if it has one."""
    scorer = call.scorer
    folder = None
    if out is not None:
        computed = {label: metric.compute for label, metric in scorer.metrics.items()}
        growing = {"methods": scorer.methods, "metrics": computed}
        folder = RecordFolder(pathlib.Path(out), scorer.cut, call.settings, growing, read_only=read_only)
    return Steps(scorer, load, folder, call.targets)


def _warn_of_missing(measured, rows):
    """Logs the metrics that no image has the mask or the boxes for."""
    for label, metric in measured.items():
        is_measured = any(column in row for row in rows for column in map(metric.column_key, metric.columns))
        if metric.needs is not None and not is_measured:
            needs = "boxes" if metric.needs == "boxes" else "a mask or boxes"
            log.warning("%s: no image has %s of the class that is explained", label, needs)
