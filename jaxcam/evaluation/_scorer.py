"""The programs of an evaluation: the maps of all methods for some images, and the metrics of each map.

There are three programs on chunks of examples. The first makes all maps of an image, with one forward pass for all of
them. The second measures a map; all methods share it, and equal maps are measured once. The third computes metrics that
run the method again, on the masked image; every method has its own.

    >>> import jax, jaxcam
    >>> from jaxcam.evaluation import loaded, named_metrics
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> scorer = Scorer(cut, jax.random.key(0), {"Grad-CAM": jaxcam.grad_cam}, named_metrics(["drop"]), count=1)
    >>> record = scorer([loaded(jaxcam.Example(jaxcam.pretrained.digits_canvas(1)[0], label=3))])[0]
    >>> record["predicted"], [str(column) for column in record["rows"]["Grad-CAM"]["drop"]]
    (3, ['average_drop', 'average_gain', 'increase'])
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcam._base.numerics import on_cpu
from jaxcam._base.targets import target_as_json, with_static_leaves, without_static_leaves
from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut, activations, for_score, image_axis
from jaxcam.evaluation._explained import check_one_output, classes_of, explained_target, with_own_score
from jaxcam.evaluation._explainer import explainer, first_methods
from jaxcam.evaluation._format import ZERO
from jaxcam.evaluation._loaded import UNKNOWN, Loaded, own_key
from jaxcam.evaluation._naming import SEPARATOR, ColumnKey
from jaxcam.evaluation._record import Case, Metric
from jaxcam.formulas import scores
from jaxcam.runtime import Runner, group_by_shape

IMAGES_AT_A_TIME = 16  # on each accelerator; one on a CPU, so that a killed run loses no more
OF_THE_MAP = ""  # among the metrics of a record: the columns of a map that no metric returns
RESERVED = (ZERO, "win")  # columns of every evaluation

# By method, by metric's label and by column a number, or the lists of a curve.
Rows = dict[str, dict[str, dict[ColumnKey, Any]]]


class Record(TypedDict):
    """What is measured of an image."""

    label: int | None
    target: Any
    predicted: int | None
    probability: float
    rank: int | None
    rows: Rows


class _MeasuredMap(NamedTuple):
    """A map as the programs that measure take it."""

    example: Loaded
    target: Any
    probability: np.ndarray
    ends: dict[str, np.ndarray]
    saliency: np.ndarray


class _MapOfMethod(NamedTuple):
    """The map of a method: its example's index, and the first method that has the same map."""

    example: int
    method: str
    first_method: str
    map: _MeasuredMap


class Scorer:
    """Measures the maps of methods; each program is compiled once for each shape of image.

    Args:
      cut: a `Cut` whose outputs are `[classes]`.
      key: random numbers are drawn from it.
      methods: by name, `(cut, image, target, [key]) -> [*spatial]`.
      metrics: by label, as `named_metrics` returns them.
      count: the number of examples.
      target: "predicted", "label", or "given" for the targets of the examples.
      score: `(outputs, target) -> scalar`, of the whole and of the masked image.
      memory: as in `jaxcam.explain_batch`.
      mesh: as in `jaxcam.explain_batch`.

    Raises:
      ValueError: two metrics have different images for one end.
    """

    def __init__(
        self,
        cut: Cut,
        key: jax.Array,
        methods: Mapping[str, Method],
        metrics: Mapping[str, Metric],
        *,
        count: int,
        target: str = "predicted",
        score: Score = scores.probability,
        memory: float | None = None,
        mesh: Mesh | None = None,
    ):
        self.cut, self.key, self.methods, self.metrics = cut, key, methods, metrics
        self.target, self.score = target, score
        self.image_channel_axis = cut.image_channel_axis
        self._image_of_end = _images_of_ends(metrics.values())
        make_runner = functools.partial(Runner, shared=(cut, key), memory=memory, mesh=mesh)
        self._runner_of_images = functools.partial(
            make_runner, count=count, at_most=1 if on_cpu() else IMAGES_AT_A_TIME
        )
        self._runner_of_maps = functools.partial(
            make_runner, count=count * len(methods), at_most=1 if on_cpu() else None
        )
        self.runners: dict[tuple, Runner] = {}

    def size(self, example: Loaded) -> int:
        """How many images of this shape are explained at a time."""
        return self._explaining(tuple(self.methods), self._ends(self.metrics)).chunk_size(example.without_places())

    def __call__(self, examples: Sequence[Loaded], wanted: Mapping[str, Sequence[str]] | None = None) -> list[Any]:
        """For each example its `Record`, or the ValueError that says why there is none.

        Args:
          examples: of one shape of image.
          wanted: for each method the labels of its metrics; by default all metrics for all methods.
        """
        wanted = dict.fromkeys(self.methods, tuple(self.metrics)) if wanted is None else wanted
        outcomes, maps_of_methods = self._explain(examples, wanted)
        for of_method, columns in [
            *self._measure_maps(maps_of_methods, wanted),
            *self._explain_again(maps_of_methods, wanted),
        ]:
            outcomes[of_method.example]["rows"][of_method.method] |= columns
        return [outcome if isinstance(outcome, ValueError) else self._checked(outcome) for outcome in outcomes]

    def _explain(self, examples, wanted) -> tuple[list[Any], list[_MapOfMethod]]:
        """A record without columns, or a ValueError, for each example; and all maps."""
        names = tuple(wanted)
        ends = self._ends(label for labels in wanted.values() for label in labels)
        explained = self._explaining(names, ends)([example.without_places() for example in examples])
        explained = jax.tree.map(np.asarray, explained)
        outcomes: list[Any] = []
        maps_of_methods: list[_MapOfMethod] = []
        for i, example in enumerate(examples):
            values = jax.tree.map(lambda leaf: leaf[i], explained)  # noqa: B023
            saliency = dict(zip(names, values.pop("maps"), strict=True))
            problem = self._problem(example.label, values["classes"], saliency)
            if problem is not None:
                outcomes.append(ValueError(problem))
                continue
            outcomes.append(_record_of_maps(example, values, saliency))
            for name, first in first_methods(saliency).items():
                measured = _MeasuredMap(
                    example, values["target"], values["probability"], values["ends"], saliency[first]
                )
                maps_of_methods.append(_MapOfMethod(i, name, first, measured))
        return outcomes, maps_of_methods

    def _measure_maps(self, maps_of_methods, wanted):
        """The columns of metrics that need the map alone, by map; equal maps are measured once."""
        by_metrics: dict[tuple[str, ...], list[_MapOfMethod]] = {}
        for of_method in maps_of_methods:
            labels = tuple(label for label in wanted[of_method.method] if not self.metrics[label].explains_again)
            by_metrics.setdefault(labels, []).append(of_method)
        for labels, group in by_metrics.items():
            if labels:
                firsts = {(each.example, each.first_method): each.map for each in group}
                columns = dict(zip(firsts, self._columns(self._measuring(labels), firsts.values()), strict=True))
                yield from ((each, columns[each.example, each.first_method]) for each in group)

    def _explain_again(self, maps_of_methods, wanted):
        """The columns of metrics that explain another image, by map; each method has a program of its own."""
        for name, metrics in wanted.items():
            labels = tuple(label for label in metrics if self.metrics[label].explains_again)
            if labels:
                group = [each for each in maps_of_methods if each.method == name]
                runner = self._explaining_again(name, labels)
                yield from zip(group, self._columns(runner, [each.map for each in group]), strict=True)

    def _columns(self, runner, measured_maps: Iterable[_MeasuredMap]) -> list[dict[str, dict[ColumnKey, Any]]]:
        """For each map the columns by metric, as Python numbers and lists."""
        columns_by_index: dict[int, dict[str, dict[ColumnKey, Any]]] = {}
        indexed = ((measured, i) for i, measured in enumerate(measured_maps))
        for chunk, indices in group_by_shape(indexed, runner.chunk_size):
            values = jax.tree.map(lambda value: np.asarray(value).tolist(), runner(chunk))
            _check_shapes(values)
            for row, i in enumerate(indices):
                columns_by_index[i] = {
                    label: {self.metrics[label].column_key(name): value[row] for name, value in columns.items()}
                    for label, columns in values.items()
                }
        return [columns_by_index[i] for i in sorted(columns_by_index)]

    def _explaining(self, names, ends) -> Runner:
        """The program that makes the maps of some methods."""
        return self._compiled_once(("explain", names, ends), self._runner_of_images, self._explain_program)

    def _measuring(self, labels) -> Runner:
        """The program that measures a map."""
        return self._compiled_once(("measure", labels), self._runner_of_maps, self._measure_program)

    def _explaining_again(self, name, labels) -> Runner:
        """The program that measures what a method does with another image."""
        return self._compiled_once(("explain again", name, labels), self._runner_of_images, self._again_program)

    def _compiled_once(self, kind, make_runner, make_program):
        if kind not in self.runners:
            self.runners[kind] = make_runner(make_program(*kind[1:]))
        return self.runners[kind]

    def _explain_program(self, names, ends):
        def explain(cut_and_key, example):
            cut, key = cut_and_key
            check_one_output(cut, example.image, self.score)
            scored, score = for_score(cut, example.image, self.score)
            outputs = activations(scored, example.image)[1]
            target = explained_target(outputs, example, self.target, self.score)
            methods = [with_own_score(self.methods[name], outputs, target, self.score) for name in names]
            explainers = [explainer(method, cut, target, own_key(key, example)) for method in methods]
            images_of_ends = {end: _image_of_end(self._image_of_end[end], cut, example.image) for end in ends}
            return {
                **classes_of(outputs, example.label),
                "target": with_static_leaves(target),
                "probability": score(outputs, target),
                "ends": {end: score(activations(scored, x)[1], target) for end, x in images_of_ends.items()},
                "maps": jnp.stack([explainer(example.image) for explainer in explainers]),
            }

        return explain

    def _measure_program(self, *all_labels):
        (labels,) = all_labels

        def measure(cut_and_key, measured):
            cut, key = cut_and_key
            case = _case(key, measured)
            return {label: self._compute(label, measured, cut, case, measured.saliency) for label in labels}

        return measure

    def _again_program(self, name, labels):
        def explain_again(cut_and_key, measured):
            cut, key = cut_and_key
            case = _case(key, measured)
            outputs = jax.eval_shape(lambda: activations(cut, case.image)[1])
            method = with_own_score(self.methods[name], outputs, case.target, self.score)
            again = explainer(method, cut, case.target, own_key(key, measured.example))
            return {label: self._compute(label, measured, cut, case, measured.saliency, again) for label in labels}

        return explain_again

    def _compute(self, label, measured, cut, *arguments):
        """The columns of a metric; none if the example lacks what the metric needs."""
        metric = self.metrics[label]
        if not _has_what_it_needs(metric, measured.example):
            return {}
        score = {}
        if metric.takes_score:
            cut, score["score"] = for_score(cut, measured.example.image, self.score)
        try:
            columns = metric.compute(cut, *arguments, **score)
        except (TypeError, ValueError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"metric {label!r}: {error}") from error
        if not isinstance(columns, dict):
            raise TypeError(f"metric {label!r} must return a dict of columns, got {type(columns).__name__}")
        for column in columns:
            if SEPARATOR in column or column in RESERVED:
                raise ValueError(
                    f"metric {label!r} returns the column {column!r}: a name must not contain {SEPARATOR!r}, and must "
                    f"not be one of {', '.join(RESERVED)}"
                )
        return columns

    def _ends(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The ends that some metrics need, each once."""
        return tuple(dict.fromkeys(end for label in labels for end in self.metrics[label].ends))

    def _problem(self, label, classes, saliency) -> str | None:
        """Why an example has no record, None if it has one."""
        if label == UNKNOWN and self.target == "label":
            return "target is 'label', and the example has none"
        if label != UNKNOWN and classes is not None and not 0 <= label < classes:
            return f"label {label} is no class of the model: it has {classes}, 0..{classes - 1}"
        for name, saliency_map in saliency.items():
            if not np.isfinite(saliency_map).all():
                return f"{name}: the map is not finite: the method is not defined for this image and layer"
        return None

    def _checked(self, record: Record) -> Record | ValueError:
        """The record, or a ValueError if a value is not finite.

        A map of a class that is not the label loses the columns that compare it with the label's mask and boxes.
        """
        if record["label"] not in (None, record["target"]):
            for row in record["rows"].values():
                row.update({label: {} for label in row if label != OF_THE_MAP and self.metrics[label].of_label})
        for name, row in record["rows"].items():
            for column, value in join_columns(row, [label for label in row if label != OF_THE_MAP]).items():
                if not np.isfinite(value).all():
                    return ValueError(f"{name}: {column} is {value}, not finite")
        return record


def join_columns(row: Mapping[str, Mapping[ColumnKey, Any]], labels: Sequence[str]) -> dict[ColumnKey, Any]:
    """The columns of a method, those of one metric after another.

    Raises:
      ValueError: two metrics give one column.
    """
    columns: dict[ColumnKey, Any] = {}
    for label in (OF_THE_MAP, *labels):
        for column, value in row[label].items():
            if column in columns:
                raise ValueError(f"two metrics give the column {str(column)!r}: give one of them another name for it")
            columns[column] = value
    return columns


def _images_of_ends(metrics: Iterable[Metric]) -> dict[str, Callable[[jax.Array], jax.Array]]:
    images: dict[str, Callable[[jax.Array], jax.Array]] = {}
    for metric in metrics:
        for end, image_of in metric.ends.items():
            if images.setdefault(end, image_of) is not image_of:
                raise ValueError(f"two metrics have different images for the end {end!r}: give one another name")
    return images


def _image_of_end(image_of, cut, image):
    """The image of an end, whose function may take the channel axis."""
    takes_axis = "channel_axis" in inspect.signature(image_of).parameters
    return image_of(image, **({"channel_axis": image_axis(cut, image)} if takes_axis else {}))


def _has_what_it_needs(metric, example):
    has_boxes = example.boxes is not None
    if metric.needs == "boxes":
        return has_boxes
    return metric.needs is None or has_boxes or example.mask is not None


def _case(key, measured):
    example = measured.example
    return Case(
        example.image,
        without_static_leaves(measured.target),
        measured.probability,
        example.mask,
        example.ignore,
        example.boxes,
        jax.random.fold_in(own_key(key, example), 1),
        measured.ends,
    )


def _check_shapes(values):
    """Raises a ValueError unless each column of a chunk is a number or a curve."""
    for columns in values.values():
        for name, value in columns.items():
            shape = np.shape(value)[1:]
            if shape != () and (len(shape) != 2 or shape[0] != 2):
                raise ValueError(f"expected a number or a curve [2 points] in column {name!r}, got shape {list(shape)}")


def _record_of_maps(example, explained, saliency) -> Record:
    """The record of an image before its maps are measured."""
    label = None if example.label == UNKNOWN else int(example.label)
    return {
        "label": label,
        "target": target_as_json(without_static_leaves(explained["target"])),
        "predicted": None if explained["predicted"] is None else int(explained["predicted"]),
        "probability": float(explained["probability"]),
        "rank": None if label is None or explained["rank"] is None else int(explained["rank"]),
        "rows": {
            name: {OF_THE_MAP: {ColumnKey(ZERO): float(not saliency_map.any())}}
            for name, saliency_map in saliency.items()
        },
    }
