"""Which map is better, measured: methods and controls on labelled images, with paired confidence intervals.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> canvases = [jaxcam.pretrained.digits_canvas(i) for i in range(3)]
    >>> examples = [jaxcam.Example(image, boxes=boxes) for image, boxes in canvases]
    >>> found = evaluate(cut, examples, {"Grad-CAM": jaxcam.grad_cam}, ["drop", "pointing"])
    >>> found.methods
    ['Grad-CAM', 'Grad-CAM+', 'mean activation', 'centre Gaussian', 'random', 'all ones']
    >>> found.estimates()["all ones"]["average_drop"].mean
    0.0

`print(found)` shows the tables. The controls are always in them: a figure says nothing without them.
"""

import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

import jax
from jax.sharding import Mesh

from jaxcam._base import progress
from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut, check_cut
from jaxcam.datasets import Example
from jaxcam.evaluation import measures
from jaxcam.evaluation._loaded import loaded
from jaxcam.evaluation._result import Evaluation
from jaxcam.evaluation._scorer import OF_THE_MAP, Scorer, joined
from jaxcam.evaluation._store import RecordFolder, example_digest, merge_rows
from jaxcam.evaluation.measures import OF_BOXES, OF_MASKS, Measure
from jaxcam.formulas import scores
from jaxcam.methods import controls, grad_cam_plus
from jaxcam.runtime import check_name, group_by_shape

CONTROLS: dict[str, Method] = {
    "Grad-CAM+": grad_cam_plus,
    "mean activation": controls.mean_activation,
    "centre Gaussian": controls.centre_gaussian,
    "random": controls.random,
    "all ones": controls.all_ones,
}
TARGETS = ("predicted", "label")
FAILURES = 8  # in a row from the start, and the call is taken to be wrong
log = logging.getLogger("jaxcam")


def evaluate(
    cut: Cut,
    examples: Iterable[Example],
    methods: Mapping[str, Method] | Sequence[Method],
    metrics: Sequence[str | Measure] | None = None,
    key: jax.Array | None = None,
    *,
    target: str = "predicted",
    score: Score = scores.probability,
    reference: str | None = None,
    load: Callable[[Any], Example] | None = None,
    out: str | os.PathLike | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
) -> Evaluation:
    """Methods and controls on labelled images: each image's figures, their means, and what may be said of them.

    The controls, all ones, a centre Gaussian, random, the mean activation and Grad-CAM+, are always in the tables. Maps
    of an image that are the same to 1e-6 of their maximum are measured once. An image that fails (a file that
    cannot be read, a label out of range, a mask of another size, a map that is not finite) gets one line on the
    logger "jaxcam", and the others go on.

    Args:
      cut: a `Cut` whose outputs are `[classes]`.
      examples: `jaxcam.Example`s, as `jaxcam.datasets` lists them; any iterable, read once.
      methods: by name, functions `(cut, image, target, [key]) -> [h' w']`, options bound by `functools.partial`; or a
        sequence of functions, which are named as they are called.
      metrics: names of `jaxcam.measures.MEASURES`, or functions of that form, options bound by `functools.partial`,
        which then stand in the names of the columns: "pointing, tolerance 15"; where absent all of those names. What
        needs a mask or boxes is measured where an image has them.
      key: what is random is drawn from it; `jax.random.key(0)` where absent. What is drawn for an image depends on its
        pixels, and not on its place among the others.
      target: the class that is explained: "predicted", or the "label"; an image whose label is not predicted is then
        counted apart.
      score: `(outputs, target) -> scalar`, of the whole and of the masked image: softmax's probability where absent.
      reference: the method that the others are compared with; where absent "Grad-CAM" if there is one of that name, or
        else the first.
      load: from an element of `examples` to an `Example` of arrays of the model's size, such as
        `functools.partial(jaxcam.datasets.load, shape=(224, 224))`; where absent they are that already.
      out: a folder for the figures of each image, `images/NAME.json`, and for `run.json`, which describes the run. The
        same call goes on with what is missing; methods and metrics may be added, and those that are there are not
        computed again. What failed is tried again.
      memory: the memory knob, as in `jaxcam.explain_batch`.
      mesh: divides the images over all its devices, whatever its axes are called.

    Returns:
      `Evaluation`, which prints as tables.

    Raises:
      ValueError: no examples, or no methods; a metric, target or reference that is not known; a folder of another run,
        and what differs; names that cannot be told apart; outputs that are not `[classes]`.
      TypeError, ValueError: a method that cannot be called with what it is given.
      OSError: the folder cannot be written, or is full. The figures of the images that are finished stay.

    Example:
      >>> import functools, jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> image, boxes = jaxcam.pretrained.digits_canvas(1)
      >>> examples = [jaxcam.Example(image, label=3, boxes=boxes, name="two copies of a 3")]
      >>> found = evaluate(cut, examples, [jaxcam.grad_cam, jaxcam.hires_cam], ["energy", "found"], target="label")
      >>> found.accuracy, found.reference
      (1.0, 'grad_cam')
    """
    check_cut(cut)
    rows = with_controls(methods)
    measured = measures.named(metrics)
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}: choose one of {', '.join(TARGETS)}")
    if reference is None:
        reference = "Grad-CAM" if "Grad-CAM" in rows else next(iter(rows))
    if reference not in rows:
        raise ValueError(f"reference is {reference!r}: choose one of {', '.join(rows)}")
    key = jax.random.key(0) if key is None else key
    if not (hasattr(key, "dtype") and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key is {key!r}: a jax.random.key is wanted, jax.random.key(0) for one")
    total = len(examples) if isinstance(examples, Sized) else None
    scorer = Scorer(
        cut, key, rows, measured, count=total or 2**20, target=target, score=score, memory=memory, mesh=mesh
    )
    settings = {"target": target, "score": score, "key": key, "load": load}
    growing: dict[str, Mapping[str, Any]] = {"methods": rows, "metrics": measured}
    folder = None if out is None else RecordFolder(pathlib.Path(out), cut, settings, growing)
    images: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    errors: list[Exception] = []  # of the model, methods and metrics: the call itself may be wrong
    names: dict[str, None] = {}
    if isinstance(examples, Sequence):  # what can be known before anything is computed
        _check_names(_name(given, number) for number, given in enumerate(examples))

    with progress.bar("evaluating", total, flops=math.inf) as advance:

        def end(name, record=None, error=None):
            if error is None:
                images[name] = {**record, "rows": {row: joined(record["rows"][row], list(measured)) for row in rows}}
            else:
                failed[name] = " ".join(str(error).split()) or type(error).__name__
                log.warning("%s: %s", name, failed[name])
            if advance is not None:
                advance()

        def wrong(error):
            errors.append(error)
            if not images and len(errors) >= FAILURES:
                raise error

        def lacks(there):
            """The rows and metrics that an image has not yet."""
            known = {} if there is None else there["rows"]
            return {(r, m) for r in rows for m in (OF_THE_MAP, *measured) if m not in known.get(r, {})}

        def todo():
            """Examples that have not all figures yet, with their names, digests and what there is of them."""
            for number, given in enumerate(examples):
                name = _name(given, number)
                _check_new(name, names)
                names[name] = None
                digest = example_digest(given) if folder is not None else ""
                there = folder.read(name, digest) if folder is not None else None
                if not lacks(there):
                    end(name, there)
                    continue
                if load is None:
                    _check_example(given)
                try:
                    example = loaded(given if load is None else load(given))
                except Exception as error:  # whatever a loader raises is one image's failure
                    end(name, error=error)
                    continue
                try:
                    scorer.size(example)
                except Exception as error:  # the model does not take such an image
                    end(name, error=error)
                    wrong(error)
                    continue
                if folder is not None:
                    folder.open(jax.ShapeDtypeStruct(example.image.shape, example.image.dtype))
                yield example, (name, digest, there)

        for some, beside in group_by_shape(todo(), scorer.size):
            lacking = {pair for *_, there in beside for pair in lacks(there)}
            left = {row for row, _ in lacking}
            wanted = {row: [m for m in measured if (row, m) in lacking] for row in rows if row in left}
            try:
                records = scorer(some, wanted)
            except Exception as error:  # whatever a method or a metric raises
                records = [error] * len(some)
                wrong(error)
            for record, (name, digest, there) in zip(records, beside, strict=True):
                if isinstance(record, Exception):
                    end(name, error=record)
                    continue
                if there is not None:
                    record["rows"] = merge_rows(there["rows"], record["rows"])
                if folder is not None:
                    folder.write(name, digest, record, len(images))
                end(name, record)
    if not names:
        raise ValueError("no examples: there is nothing to evaluate")
    if errors and not images:
        raise errors[0]
    found = Evaluation({name: images[name] for name in names if name in images}, failed, reference, target)
    columns = {column for record in images.values() for column in record["rows"][reference]}
    for name, measure in {} if metrics is None or not images else measured.items():  # type: ignore[assignment]
        function = measures.function(measure)
        needs = "boxes" if function in OF_BOXES else "a mask or boxes" if function in OF_MASKS else None
        if needs is not None and name not in columns:
            log.warning("%s: no image has %s of the class that is explained", name, needs)
    return found


def with_controls(methods: Mapping[str, Method] | Sequence[Method]) -> dict[str, Method]:
    """The methods by name, and the controls after them."""
    if callable(methods):
        raise TypeError(f"methods is {methods!r}: a dict by name, or a list, is wanted")
    if not isinstance(methods, Mapping):
        unnamed = [each for each in methods if not hasattr(each, "__name__")]
        if unnamed:
            raise ValueError(f"{unnamed[0]!r} has no name: give methods as a dict by name")
        given = {each.__name__: each for each in methods}
        if len(given) < len(methods):
            raise ValueError("two methods have one name: give methods as a dict by name")
        methods = given
    if not methods:
        raise ValueError("no methods: give at least one to evaluate")
    taken = [name for name in methods if name in CONTROLS and methods[name] is not CONTROLS[name]]
    if taken:
        raise ValueError(f"{taken[0]!r} is the name of a control: give your method another")
    return {**methods, **{name: each for name, each in CONTROLS.items() if each not in methods.values()}}


def _check_example(given):
    """What would fail alike for every example."""
    if not isinstance(given, Example):
        raise TypeError(f"an example is a {type(given).__name__}: a jaxcam.Example is wanted, or load= that makes one")
    if isinstance(given.image, str | os.PathLike):
        raise TypeError(
            "an example is a file: give load=functools.partial(jaxcam.datasets.load, shape=(224, 224)), say"
        )


def _check_names(names):
    seen: set[str] = set()
    for name in names:
        _check_new(name, seen)
        seen.add(name)


def _check_new(name, seen):
    if name in seen:
        raise ValueError(f"two examples are called {name!r}: give each a name of its own")


def _name(example, number):
    """An example's own name, or the stem of its file, or its number."""
    image = getattr(example, "image", None)
    name = getattr(example, "name", None)
    if name is None:
        name = pathlib.Path(image).stem if isinstance(image, str | os.PathLike) else str(number)
    check_name(name)
    return name
