"""The programs of an evaluation: the maps of all methods for some images, and what is measured of each.

Three programs on chunks of examples. The first makes all maps of an image, and shares the forward pass among them. The
second measures a map; it is one for all methods, and maps that are the same are measured once. The third measures what
runs a method again, on the masked image, and is another for each method.

    >>> import jax, jaxcam
    >>> from jaxcam import measures
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> scorer = Scorer(cut, jax.random.key(0), {"Grad-CAM": jaxcam.grad_cam}, [measures.drop], count=1)
    >>> record = scorer([loaded(jaxcam.Example(jaxcam.pretrained.digits_canvas(1)[0], label=3))])[0]
    >>> record["predicted"], sorted(record["rows"]["Grad-CAM"])
    (3, ['average_drop', 'average_gain', 'increase', 'zero'])
"""

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcam import checks, chunks, maps, measures, removal, scores
from jaxcam.composition import Score
from jaxcam.cut import Cut, activations
from jaxcam.examples import Example
from jaxcam.measures import Case, Measure

Method = Callable[..., jax.Array]

SAME = 1e-5  # of the maximum: maps that differ by less are one map
IMAGES_AT_A_TIME = 16  # on each accelerator; on a CPU one, so that a killed run loses no more
ENDS: dict[str, tuple[Measure, Callable[[jax.Array], jax.Array]]] = {
    "blank": (measures.deletion, jnp.zeros_like),
    "blurred": (measures.insertion, removal.blurred),
}
UNKNOWN = -1  # a label that there is none of


class Loaded(NamedTuple):
    """An example as the programs take it. What is drawn at random is drawn by its pixels, not by its place."""

    image: np.ndarray
    label: np.int32
    seed: np.uint32
    mask: np.ndarray | None
    ignore: np.ndarray | None
    boxes: np.ndarray | None


class _Item(NamedTuple):
    """One map of an example."""

    example: Loaded
    target: np.ndarray
    probability: np.ndarray
    ends: dict[str, np.ndarray]
    saliency: np.ndarray


class Scorer:
    """What an evaluation measures, compiled once for each shape of image.

    Args:
      cut: a `Cut` whose outputs are `[classes]`.
      key: what is random is drawn from it.
      methods: by name, `(cut, image, target, [key]) -> [h' w']`.
      measured: functions of the form of `jaxcam.measures`.
      count: of the examples in all.
      target: "predicted", or "label".
      score: `(outputs, target) -> scalar`, of the whole image.
      memory: as in `jaxcam.explain_batch`.
      mesh: as in `jaxcam.explain_batch`.
    """

    def __init__(
        self,
        cut: Cut,
        key: jax.Array,
        methods: Mapping[str, Method],
        measured: Sequence[Measure],
        *,
        count: int,
        target: str = "predicted",
        score: Score = scores.probability,
        memory: float | None = None,
        mesh: Mesh | None = None,
    ):
        self.methods, self.target, self.score = methods, target, score
        self.of_map = [each for each in measured if not measures.runs_the_method(each)]
        self.of_method = [each for each in measured if measures.runs_the_method(each)]
        on_cpu = jax.default_backend() == "cpu"
        self.how: dict[str, Any] = {"memory": memory, "mesh": mesh, "count": count}
        self.how["at_most"] = 1 if on_cpu else IMAGES_AT_A_TIME
        self.shared = cut, key
        self.measuring = chunks.Runner(
            self._measure, self.shared, **{**self.how, "count": count * len(methods), "at_most": 1 if on_cpu else None}
        )
        self.runners: dict[Any, chunks.Runner] = {}

    def size(self, example: Loaded) -> int:
        """How many images of this shape are explained at a time."""
        return self._runner(tuple(self.methods)).size(example)

    def __call__(self, examples: Sequence[Loaded], names: Sequence[str] | None = None) -> list[Any]:
        """For each example its record, or the ValueError that says why there is none; of the methods named, or of all.

        A record has `label`, `target`, `predicted`, `probability`, `rank` and `rows`, the columns of each method; a
        column is a float, or a list of those of a curve.
        """
        names = list(self.methods) if names is None else list(names)
        explained = jax.tree.map(np.asarray, self._runner(tuple(names))(examples))
        found: list[Any] = []
        items, first = [], []
        for i, example in enumerate(examples):
            wrong = self._wrong_label(example.label, explained["classes"][i])
            if wrong is not None:
                found.append(ValueError(wrong))
                continue
            each = jax.tree.map(lambda leaf: leaf[i], explained)  # noqa: B023
            saliency = dict(zip(names, each.pop("maps"), strict=True))
            broken = [name for name, m in saliency.items() if not np.isfinite(m).all()]
            if broken:
                error = f"{broken[0]}: the map is not finite: the method is not defined for this image and layer"
                found.append(ValueError(error))
                continue
            found.append(_record(example, each, saliency))
            for name, m in saliency.items():
                same = next(other for other in names if np.abs(saliency[other] - m).max() <= SAME)
                first.append((i, name, same))
                items.append(_Item(example, each["target"], each["probability"], each["ends"], saliency[same]))
        distinct = [n for n, (_, name, same) in enumerate(first) if name == same]
        columns = {}
        if self.of_map:
            for n, value in zip(distinct, self._all(self.measuring, [items[n] for n in distinct]), strict=True):
                columns[first[n][0], first[n][1]] = value
            for i, name, same in first:
                found[i]["rows"][name] |= columns[i, same]
        if self.of_method:
            for name in names:
                at = [n for n, (_, each, _) in enumerate(first) if each == name]
                for n, value in zip(at, self._all(self._runner(name), [items[n] for n in at]), strict=True):
                    found[first[n][0]]["rows"][name] |= value
        return [_checked(each) for each in found]

    def _wrong_label(self, label, classes):
        if label == UNKNOWN:
            return "target is 'label', and the example has none" if self.target == "label" else None
        if not 0 <= label < classes:
            return f"label {label} is no class of the model: it has {classes}, 0..{classes - 1}"
        return None

    def _all(self, runner, items):
        """The columns of each item, as JSON has them."""
        values = []
        for some, at in chunks.alike(zip(items, range(len(items)), strict=True), runner.size):
            found = {column: np.asarray(value).tolist() for column, value in runner(some).items()}
            values += [(n, {column: value[i] for column, value in found.items()}) for i, n in enumerate(at)]
        return [value for _, value in sorted(values, key=lambda pair: pair[0])]

    def _runner(self, what):
        """The program that explains by some methods, or that measures what runs one again."""
        if what not in self.runners:
            f = self._explain(what) if isinstance(what, tuple) else self._measure_again(self.methods[what])
            self.runners[what] = chunks.Runner(f, self.shared, **self.how)
        return self.runners[what]

    def _explain(self, names):
        # Where the curves of every map begin or end, once for each image.
        wanted = [getattr(measure, "func", measure) for measure in self.of_map]
        ends = {name: end for name, (measure, end) in ENDS.items() if measure in wanted}

        def f(shared, example):
            cut, key = shared
            outputs = activations(cut, example.image)[1]
            if not hasattr(outputs, "ndim") or outputs.ndim != 1:
                raise ValueError(f"the model's outputs are {checks.shapes(outputs)}: [classes] are wanted")
            predicted = outputs.argmax().astype(jnp.int32)
            target = predicted if self.target == "predicted" else example.label
            explain = [_explainer(self.methods[name], cut, target, _own(key, example)) for name in names]
            return {
                "classes": jnp.int32(outputs.size),
                "target": target,
                "predicted": predicted,
                "probability": self.score(outputs, target),
                "rank": (outputs > outputs[jnp.maximum(example.label, 0)]).sum(),
                "ends": {
                    name: self.score(activations(cut, end(example.image))[1], target) for name, end in ends.items()
                },
                "maps": jnp.stack([each(example.image) for each in explain]),
            }

        return f

    def _measure(self, shared, item):
        cut, key = shared
        columns = [measure(cut, _case(key, item), item.saliency) for measure in self.of_map if _can(measure, item)]
        return _joined(columns)

    def _measure_again(self, method):
        def f(shared, item):
            cut, key = shared
            again = _explainer(method, cut, item.target, _own(key, item.example))
            return _joined([measure(cut, _case(key, item), item.saliency, again) for measure in self.of_method])

        return f


def loaded(example: Example) -> Loaded:
    """An example of arrays, as the programs take it.

    Raises:
      TypeError, ValueError: an image that is not floats `[h w c]`, or not finite; a mask of another size; boxes or a
        label of another form.
    """
    if isinstance(example.image, str) or hasattr(example.image, "__fspath__"):
        raise TypeError("the image is a file: give load=functools.partial(jaxcam.datasets.load, shape=(224, 224)), say")
    image = np.asarray(checks.checked_image(example.image), np.float32)
    if image.ndim != 3:
        raise ValueError(f"the image has shape {image.shape}: [h w c] is wanted")
    mask = ignore = boxes = None
    if example.mask is not None:
        given = np.asarray(example.mask)
        if given.shape != image.shape[:2]:
            raise ValueError(f"the mask is {list(given.shape)}: the image is {list(image.shape[:2])}")
        mask, ignore = given > 0, given.astype(np.int8) < 0
    if example.boxes is not None:
        given = np.asarray(example.boxes, np.float32)
        if given.ndim != 2 or given.shape[1] != 4:
            raise ValueError(f"boxes have shape {given.shape}: [m 4] is wanted, row0, column0, row1, column1")
        # Padded by boxes of no area, so that few shapes are compiled.
        boxes = np.zeros((1 << max(0, len(given) - 1).bit_length(), 4), np.float32)
        boxes[: len(given)] = given
    label = np.int32(UNKNOWN if example.label is None else example.label)
    return Loaded(image, label, np.uint32(zlib.crc32(image.tobytes())), mask, ignore, boxes)


def takes_key(method: Method) -> bool:
    """Whether a method is called with a key."""
    return "key" in inspect.signature(method).parameters


def _own(key, example):
    return jax.random.fold_in(key, example.seed)


def _explainer(method, cut, target, key):
    """From an image to its map at the image's resolution, the maximum 1."""

    def explain(image):
        found = method(cut, image, target, *((key,) if takes_key(method) else ()))
        if not isinstance(found, jax.Array) or found.ndim != 2:
            shape = checks.shapes(found)
            raise ValueError(f"{getattr(method, '__name__', method)} gives {shape}: one map [h w] is wanted")
        fine = maps.resize(found.astype(jnp.float32), image.shape[:2])
        top = fine.max()
        return fine / jnp.where(top > 0, top, 1)

    return explain


def _can(measure, item):
    """Whether the example has what a measure needs."""
    function = getattr(measure, "func", measure)
    boxes = item.example.boxes is not None
    if function in measures.OF_BOXES:
        return boxes
    return function not in measures.OF_MASKS or boxes or item.example.mask is not None


def _case(key, item):
    example = item.example
    key = jax.random.fold_in(_own(key, example), 1)
    known = example.mask, example.ignore, example.boxes
    return Case(example.image, item.target, item.probability, *known, key, **item.ends)


def _joined(columns):
    found: dict[str, jax.Array] = {}
    for each in columns:
        twice = set(found) & set(each)
        if twice:
            raise ValueError(f"two metrics give the column {sorted(twice)[0]!r}")
        found |= each
    return found


def _record(example, explained, saliency):
    label = None if example.label == UNKNOWN else int(example.label)
    return {
        "label": label,
        "target": int(explained["target"]),
        "predicted": int(explained["predicted"]),
        "probability": float(explained["probability"]),
        "rank": None if label is None else int(explained["rank"]),
        "rows": {name: {"zero": float(not m.any())} for name, m in saliency.items()},
    }


def _checked(record):
    """The record, or a ValueError where a figure is not finite."""
    if isinstance(record, Exception):
        return record
    for name, row in record["rows"].items():
        for column, value in row.items():
            if not np.isfinite(value).all():
                return ValueError(f"{name}: {column} is {value}, not finite")
    return record
