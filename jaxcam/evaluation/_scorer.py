"""The programs of an evaluation: the maps of all methods for some images, and what is measured of each.

Three programs on chunks of examples. The first makes all maps of an image, and shares the forward pass among them. The
second measures a map; it is one for all methods, and maps that are the same are measured once. The third measures what
runs a method again, on the masked image, and is another for each method.

    >>> import jax, jaxcam
    >>> from jaxcam import measures
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> scorer = Scorer(cut, jax.random.key(0), {"Grad-CAM": jaxcam.grad_cam}, {"drop": measures.drop}, count=1)
    >>> record = scorer([loaded(jaxcam.Example(jaxcam.pretrained.digits_canvas(1)[0], label=3))])[0]
    >>> record["predicted"], sorted(record["rows"]["Grad-CAM"]["drop"])
    (3, ['average_drop', 'average_gain', 'increase'])
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcam._base import checks
from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut, activations
from jaxcam.evaluation import measures
from jaxcam.evaluation._loaded import UNKNOWN, Loaded, own_key
from jaxcam.evaluation.measures import Case, Measure
from jaxcam.formulas import maps, scores
from jaxcam.perturbations import blurred
from jaxcam.runtime import Runner, group_by_shape

SAME = 1e-6  # of the maximum, some roundings: maps that differ by less are one map
IMAGES_AT_A_TIME = 16  # on each accelerator; on a CPU one, so that a killed run loses no more
OF_THE_MAP = ""  # among the metrics of a record: what is said of a map without measuring it
ENDS: dict[str, tuple[Measure, Callable[[jax.Array], jax.Array]]] = {
    "blank": (measures.deletion, jnp.zeros_like),
    "blurred": (measures.insertion, blurred),
}
RESERVED = ("zero", "win")  # columns of every evaluation


class _Item(NamedTuple):
    """One map of an example."""

    example: Loaded
    target: np.ndarray
    probability: np.ndarray
    ends: dict[str, np.ndarray]
    saliency: np.ndarray


class _Map(NamedTuple):
    """A method's map of example number `of`, and the first method with the same map."""

    of: int
    name: str
    same: str
    item: _Item


class Scorer:
    """What an evaluation measures, compiled once for each shape of image.

    Args:
      cut: a `Cut` whose outputs are `[classes]`.
      key: what is random is drawn from it.
      methods: by name, `(cut, image, target, [key]) -> [h' w']`.
      measured: by name, functions of the form of `jaxcam.measures`.
      count: of the examples in all.
      target: "predicted", or "label".
      score: `(outputs, target) -> scalar`, of the whole and of the masked image.
      memory: as in `jaxcam.explain_batch`.
      mesh: as in `jaxcam.explain_batch`.
    """

    def __init__(
        self,
        cut: Cut,
        key: jax.Array,
        methods: Mapping[str, Method],
        measured: Mapping[str, Measure],
        *,
        count: int,
        target: str = "predicted",
        score: Score = scores.probability,
        memory: float | None = None,
        mesh: Mesh | None = None,
    ):
        self.methods, self.measured, self.target, self.score = methods, measured, target, score
        on_cpu = jax.default_backend() == "cpu"
        self.how: dict[str, Any] = {"memory": memory, "mesh": mesh, "count": count}
        self.how["at_most"] = 1 if on_cpu else IMAGES_AT_A_TIME
        self.of_maps = {**self.how, "count": count * len(methods), "at_most": 1 if on_cpu else None}
        self.shared = cut, key
        self.runners: dict[Any, Runner] = {}

    def size(self, example: Loaded) -> int:
        """How many images of this shape are explained at a time."""
        # Masks and boxes, of which there are many shapes, are for what measures.
        plain = example._replace(mask=None, ignore=None, boxes=None)
        return self._runner(self._explain, tuple(self.methods), self._ends(self.measured)).chunk_size(plain)

    def __call__(self, examples: Sequence[Loaded], wanted: Mapping[str, Sequence[str]] | None = None) -> list[Any]:
        """For each example its record, or the ValueError that says why there is none.

        A record has `label`, `target`, `predicted`, `probability`, `rank` and `rows`, for each method what each metric
        found, by columns; a column is a float, or a list of those of a curve. `wanted` has for each method its metrics;
        where absent all methods have all.
        """
        wanted = dict.fromkeys(self.methods, tuple(self.measured)) if wanted is None else wanted
        found, maps_of = self._explained(examples, wanted)

        def add(its, columns):
            for each, value in zip(its, columns, strict=True):
                found[each.of]["rows"][each.name] |= value

        groups: dict[tuple[str, ...], list[_Map]] = {}
        for each in maps_of:
            of_map = tuple(name for name in wanted[each.name] if not measures.runs_the_method(self.measured[name]))
            groups.setdefault(of_map, []).append(each)
        for of_map, its in groups.items():
            if of_map:
                first = {(each.of, each.same): each.item for each in its}  # maps that are the same are measured once
                columns = self._all(self._runner(self._measure, of_map), list(first.values()))
                by_map = dict(zip(first, columns, strict=True))
                add(its, [by_map[each.of, each.same] for each in its])
        for name, metrics in wanted.items():
            of_method = tuple(each for each in metrics if measures.runs_the_method(self.measured[each]))
            if of_method:
                its = [each for each in maps_of if each.name == name]
                add(its, self._all(self._runner(self._measure_again, name, of_method), [each.item for each in its]))
        return [_checked(each) for each in found]

    def _explained(self, examples, wanted):
        """Records without columns, or a ValueError, for each example; and all the maps."""
        names = tuple(wanted)
        ends = self._ends(metric for metrics in wanted.values() for metric in metrics)
        plain = [example._replace(mask=None, ignore=None, boxes=None) for example in examples]
        explained = jax.tree.map(np.asarray, self._runner(self._explain, names, ends)(plain))
        found: list[Any] = []
        maps_of: list[_Map] = []
        for i, example in enumerate(examples):
            each = jax.tree.map(lambda leaf: leaf[i], explained)  # noqa: B023
            saliency = dict(zip(names, each.pop("maps"), strict=True))
            wrong = self._wrong_label(example.label, each["classes"])
            broken = [name for name, m in saliency.items() if not np.isfinite(m).all()]
            if broken and wrong is None:
                wrong = f"{broken[0]}: the map is not finite: the method is not defined for this image and layer"
            if wrong is not None:
                found.append(ValueError(wrong))
                continue
            found.append(_record(example, each, saliency))
            firsts: list[str] = []
            for name, m in saliency.items():
                same = next((first for first in firsts if np.abs(saliency[first] - m).max() <= SAME), name)
                firsts += [name] if same == name else []
                item = _Item(example, each["target"], each["probability"], each["ends"], saliency[same])
                maps_of.append(_Map(i, name, same, item))
        return found, maps_of

    def _wrong_label(self, label, classes):
        if label == UNKNOWN:
            return "target is 'label', and the example has none" if self.target == "label" else None
        if not 0 <= label < classes:
            return f"label {label} is no class of the model: it has {classes}, 0..{classes - 1}"
        return None

    def _all(self, runner, items):
        """For each item what each metric found, as JSON has it."""
        values = []
        for some, at in group_by_shape(zip(items, range(len(items)), strict=True), runner.chunk_size):
            found = jax.tree.map(lambda value: np.asarray(value).tolist(), runner(some))
            for column, value in ((c, v) for columns in found.values() for c, v in columns.items()):
                shape = np.shape(value)[1:]
                if shape != () and (len(shape) != 2 or shape[0] != 2):
                    raise ValueError(
                        f"column {column!r} has shape {list(shape)}: a number or a curve [2 points] is wanted"
                    )
            for i, n in enumerate(at):
                its = {name: {c: value[i] for c, value in columns.items()} for name, columns in found.items()}
                values.append((n, its))
        return [value for _, value in sorted(values, key=lambda pair: pair[0])]

    def _runner(self, program, *of):
        """A program, made once for the methods and metrics that it is of."""
        what = program.__name__, *of
        if what not in self.runners:
            how = self.of_maps if program == self._measure else self.how
            self.runners[what] = Runner(program(*of), self.shared, **how)
        return self.runners[what]

    def _ends(self, metrics):
        """Where the curves of every map begin or end, once for each image."""
        wanted = [measures.function(self.measured[name]) for name in metrics]
        return tuple(name for name, (measure, _) in ENDS.items() if measure in wanted)

    def _explain(self, names, ends):
        def f(shared, example):
            cut, key = shared
            outputs = activations(cut, example.image)[1]
            if self.score is scores.probability and getattr(outputs, "shape", None) == (1,):
                raise ValueError("the model has one output, whose softmax is 1 whatever it sees: give score=")
            if not hasattr(outputs, "ndim") or outputs.ndim != 1:
                raise ValueError(f"the model's outputs are {checks.describe_shapes(outputs)}: [classes] are wanted")
            predicted = outputs.argmax().astype(jnp.int32)
            target = predicted if self.target == "predicted" else example.label
            explain = [_explainer(self.methods[name], cut, target, own_key(key, example)) for name in names]
            return {
                "classes": jnp.int32(outputs.size),
                "target": target,
                "predicted": predicted,
                "probability": self.score(outputs, target),
                "rank": (outputs > outputs[jnp.maximum(example.label, 0)]).sum(),
                "ends": {name: self.score(activations(cut, ENDS[name][1](example.image))[1], target) for name in ends},
                "maps": jnp.stack([each(example.image) for each in explain]),
            }

        return f

    def _measure(self, of_map):
        def f(shared, item):
            cut, key = shared
            case = _case(key, item)
            return {name: self._columns(name, item, (cut, case, item.saliency)) for name in of_map}

        return f

    def _measure_again(self, name, of_method):
        def f(shared, item):
            cut, key = shared
            again = _explainer(self.methods[name], cut, item.target, own_key(key, item.example))
            case = _case(key, item)
            return {each: self._columns(each, item, (cut, case, item.saliency, again)) for each in of_method}

        return f

    def _columns(self, name, item, given):
        """What a metric finds, its options in the names; nothing where the example has not what it needs."""
        measure = self.measured[name]
        if not _can(measure, item):
            return {}
        takes = "score" in inspect.signature(measure).parameters and "score" not in measures.bound(measure)
        try:
            columns = measure(*given, **({"score": self.score} if takes else {}))
        except (TypeError, ValueError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"metric {name!r}: {error}") from error
        if not isinstance(columns, dict):
            raise TypeError(f"metric {name!r} gives {type(columns).__name__}: a dict of columns is wanted")
        for column in columns:
            if ", " in column or column in RESERVED:
                raise ValueError(
                    f"metric {name!r} gives the column {column!r}: another name is wanted, without ', ', and not one "
                    f"of {', '.join(RESERVED)}"
                )
        return {f"{column}{measures.options(measure)}": value for column, value in columns.items()}


def key_of(method: Method, key: jax.Array) -> dict[str, jax.Array]:
    """The key as a method is called with it: not where it takes none, or has one bound."""
    takes = "key" in inspect.signature(method).parameters and "key" not in getattr(method, "keywords", {})
    return {"key": key} if takes else {}


def _explainer(method, cut, target, key):
    """From an image to its map at the image's resolution, the maximum 1."""

    def explain(image):
        found = method(cut, image, target, **key_of(method, key))
        if not isinstance(found, jax.Array) or found.ndim != 2:
            shape = checks.describe_shapes(found)
            raise ValueError(f"{getattr(method, '__name__', method)} gives {shape}: one map [h w] is wanted")
        fine = maps.resize(found.astype(jnp.float32), image.shape[:2])
        top = jnp.where(fine.max() > 0, fine.max(), jnp.abs(fine).max())
        return fine / jnp.where(top > 0, top, 1)

    return explain


def _can(measure, item):
    """Whether the example has what a measure needs."""
    function = measures.function(measure)
    boxes = item.example.boxes is not None
    if function in measures.OF_BOXES:
        return boxes
    return function not in measures.OF_MASKS or boxes or item.example.mask is not None


def _case(key, item):
    example = item.example
    key = jax.random.fold_in(own_key(key, example), 1)
    known = example.mask, example.ignore, example.boxes
    return Case(example.image, item.target, item.probability, *known, key, **item.ends)


def joined(row: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """The columns of a method, of those metrics one after another.

    Raises:
      ValueError: two of them give one column.
    """
    columns: dict[str, Any] = {}
    for metric in (OF_THE_MAP, *metrics):
        for column, value in row[metric].items():
            if column in columns:
                raise ValueError(f"two metrics give the column {column!r}: give one of them another name for it")
            columns[column] = value
    return columns


def _record(example, explained, saliency):
    label = None if example.label == UNKNOWN else int(example.label)
    return {
        "label": label,
        "target": int(explained["target"]),
        "predicted": int(explained["predicted"]),
        "probability": float(explained["probability"]),
        "rank": None if label is None else int(explained["rank"]),
        "rows": {name: {OF_THE_MAP: {"zero": float(not m.any())}} for name, m in saliency.items()},
    }


def _checked(record):
    """The record, or a ValueError where a figure is not finite."""
    if isinstance(record, Exception):
        return record
    if record["label"] not in (None, record["target"]):
        for row in record["rows"].values():
            for metric, columns in row.items():
                others = [each for each in columns if measures.without_options(each) not in measures.OF_LABELS]
                row[metric] = {column: columns[column] for column in others}
    for name, row in record["rows"].items():
        for column, value in joined(row, [metric for metric in row if metric != OF_THE_MAP]).items():
            if not np.isfinite(value).all():
                return ValueError(f"{name}: {column} is {value}, not finite")
    return record
