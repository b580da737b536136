"""What an evaluation measures of a map: each a function from a case and its map to named numbers.

    >>> import jax.numpy as jnp, jaxcam
    >>> mask = jnp.zeros([4, 4], bool).at[1, 1].set(True)
    >>> case = Case(jnp.ones([4, 4, 3]), target=0, mask=mask)
    >>> pointing(None, case, mask.astype(float))
    {'pointing': Array(1., dtype=float32...)}

A measure is `measure(cut, case, saliency) -> {column: value}`, with the map `[h w]` at the image's resolution, its
maximum 1; a value is a scalar, or a curve `[2 points]`, its x and its y. One that explains another image, too, takes a
fourth argument, `again(image) -> map [h w]`. A function of your own of that form is a measure as well; it is traced by
jit. Options are bound by `functools.partial`, and stand in the name of the measure and of its columns:

    >>> import functools
    >>> list(named([pointing, functools.partial(pointing, tolerance=15)]))
    ['pointing', 'pointing, tolerance 15']

The formulas, and how each can be gamed, are in `jaxcam.metrics`.
"""

import functools
import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import metrics
from jaxcam._base.types import Baseline, Score
from jaxcam.cutting import Cut, activations
from jaxcam.formulas import scores
from jaxcam.methods import options_of
from jaxcam.runtime import content_digest, describe

Array = jax.Array
Columns = dict[str, Array]
ROUNDING = 1e-6
Again = Callable[[Array], Array]


class Case(NamedTuple):
    """One image to be explained, and what is known of it.

    Attributes:
      image: `[h w c]`, floats.
      target: the class that is explained.
      probability: the target's, on the whole image.
      mask: `[h w]` bool, what is in the image of that class; None where it is not known.
      ignore: `[h w]` bool, pixels that do not count; None for none.
      boxes: `[m 4]`, row0, column0, row1, column1, the last two excluded; of no area where they are padding.
      key: what a measure draws from; the same for every method.
      blank: the target's probability on an image of zeros, None where it is not known; `blurred`, on the image blurred.
    """

    image: Array
    target: Array | int
    probability: Array | float = 0.0
    mask: Array | None = None
    ignore: Array | None = None
    boxes: Array | None = None
    key: Array | None = None
    blank: Array | None = None
    blurred: Array | None = None


def drop(
    cut: Cut, case: Case, saliency: Array, *, baseline: Baseline = 0.0, score: Score = scores.probability
) -> Columns:
    """Average Drop, Increase in Confidence and Average Gain, from one forward pass of the masked image."""
    outputs = _of_masked(cut, case, saliency, baseline)[1]
    return _drops(case, score(outputs, case.target))


def adcc(
    cut: Cut,
    case: Case,
    saliency: Array,
    again: Again,
    *,
    baseline: Baseline = 0.0,
    score: Score = scores.probability,
) -> Columns:
    """ADCC with its coherency and complexity, and all that `drop` gives, from the map of the masked image."""
    masked, outputs = _of_masked(cut, case, saliency, baseline)
    columns = _drops(case, score(outputs, case.target))
    mask = metrics.as_mask(saliency, saliency.shape)
    coherency = metrics.coherency(mask, metrics.as_mask(again(masked), saliency.shape))
    complexity = metrics.complexity(mask)
    together = metrics.adcc(coherency, complexity, columns["average_drop"])
    return {**columns, "coherency": coherency, "complexity": complexity, "adcc": together}


def deletion(
    cut: Cut,
    case: Case,
    saliency: Array,
    *,
    steps: int = 10,
    baseline: Baseline = 0.0,
    score: Score = scores.probability,
) -> Columns:
    """The area under the deletion curve, and the curve."""
    black = isinstance(baseline, int | float) and baseline == 0
    ends = (case.probability, case.blank) if black and case.blank is not None else None
    how: dict[str, Any] = {"steps": steps, "baseline": baseline, "ends": ends, "score": score}
    curve = metrics.deletion(cut, case.image, saliency, case.target, **how)
    return {"deletion": metrics.area(curve), "deletion_curve": _evenly(curve)}


def insertion(
    cut: Cut,
    case: Case,
    saliency: Array,
    *,
    steps: int = 10,
    baseline: Baseline | str = "blur",
    score: Score = scores.probability,
) -> Columns:
    """The area under the insertion curve, and the curve."""
    blur = isinstance(baseline, str) and case.blurred is not None
    ends = (case.blurred, case.probability) if blur else None
    how: dict[str, Any] = {"steps": steps, "baseline": baseline, "ends": ends, "score": score}
    curve = metrics.insertion(cut, case.image, saliency, case.target, **how)
    return {"insertion": metrics.area(curve), "insertion_curve": _evenly(curve)}


def road(
    cut: Cut,
    case: Case,
    saliency: Array,
    *,
    shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
    score: Score = scores.probability,
) -> Columns:
    """ROAD, most relevant first, least relevant first, and combined: means over the shares, and both curves."""
    if case.key is None:
        raise ValueError("ROAD draws noise: the case has no key")
    most, least = (
        metrics.road(cut, case.image, saliency, case.target, case.key, shares=tuple(shares), first=first, score=score)
        for first in ("most", "least")
    )
    return {
        "road_most": most.mean(),
        "road_least": least.mean(),
        "road": metrics.road_combined(most, least),
        "road_most_curve": jnp.stack([jnp.array(shares, most.dtype), most]),
        "road_least_curve": jnp.stack([jnp.array(shares, least.dtype), least]),
    }


def confidence(
    cut: Cut,
    case: Case,
    saliency: Array,
    *,
    quantiles: Sequence[float] = metrics.TENTHS,
    score: Score = scores.probability,
) -> Columns:
    """The mean of the curve of relative confidence against the quantile threshold, and the curve."""
    curve = metrics.confidence_curve(
        cut, case.image, saliency, case.target, quantiles=tuple(quantiles), whole=case.probability, score=score
    )
    return {"confidence": curve.mean(), "confidence_curve": jnp.stack([jnp.array(quantiles, curve.dtype), curve])}


def pointing(cut: Cut, case: Case, saliency: Array, *, tolerance: float = 0) -> Columns:
    """Pointing game; of the mask, or of the boxes where there is none."""
    mask = _mask(case)
    return {"pointing": metrics.pointing_game(saliency, mask, ignore=case.ignore, tolerance=tolerance)}


def energy(cut: Cut, case: Case, saliency: Array) -> Columns:
    """The share of the map's energy in the mask, or in the boxes where there is none."""
    return {"energy": metrics.energy(saliency, _mask(case), ignore=case.ignore)}


def mask_iou(cut: Cut, case: Case, saliency: Array, *, threshold: float | None = None) -> Columns:
    """IoU with the mask, at the mask's own area or at a threshold."""
    return {"mask_iou": metrics.mask_iou(saliency, _mask(case), ignore=case.ignore, threshold=threshold)}


def box_iou(cut: Cut, case: Case, saliency: Array, *, threshold: float = 0.15) -> Columns:
    """The best IoU of a box with that round the map's largest component, and whether it is 0.5 or more."""
    iou = metrics.box_iou(saliency, _boxes(case), threshold=threshold)
    return {"box_iou": iou, "localised": (iou >= 0.5).astype(iou.dtype)}


def found(cut: Cut, case: Case, saliency: Array, *, threshold: float = 0.5) -> Columns:
    """The share of the boxes that are found, and of the image outside them that is as bright."""
    return {
        "found": metrics.found(saliency, _boxes(case), threshold=threshold),
        "spill": metrics.spill(saliency, _boxes(case), threshold=threshold),
    }


Measure = Callable[..., Columns]
MEASURES: dict[str, Measure] = {
    each.__name__: each
    for each in (
        drop, adcc, deletion, insertion, road, confidence, pointing, energy, mask_iou, box_iou, found,
    )
}  # fmt: skip
OF_MASKS, OF_BOXES = (pointing, energy, mask_iou), (box_iou, found)

# Of the class that the mask and the boxes are of: a map of another class is not to lie there.
OF_LABELS = ("pointing", "energy", "mask_iou", "box_iou", "localised", "found", "spill")


def named(metrics: Sequence[str | Measure] | None = None) -> dict[str, Measure]:
    """The measures by name, options behind it; without a `drop` that an `adcc` gives as well.

    Raises:
      TypeError: not a list, or something in it that is no function.
      ValueError: a name or an option that is not known; two measures of one name; a score, which is one for the whole
        evaluation.
    """
    if isinstance(metrics, str | Mapping) or callable(metrics):
        raise TypeError(f"metrics is {metrics!r}: a list of names, or of functions with their options bound, is wanted")
    found: dict[str, Measure] = {}
    for each in MEASURES if metrics is None else metrics:
        if isinstance(each, str) and each not in MEASURES:
            choices = f"choose of {', '.join(MEASURES)}, or give a function, options bound by functools.partial"
            raise ValueError(f"no metric {each!r}: {choices}")
        if not isinstance(each, str) and not callable(each):
            raise TypeError(f"metric {each!r} is no function: choose of {', '.join(MEASURES)}, or give a function")
        measure = MEASURES[each] if isinstance(each, str) else each
        name = own_name(measure) + options(measure)
        taken = inspect.signature(function(measure)).parameters
        unknown = [option for option in bound(measure) if option not in taken]
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            choices = ", ".join(options_of(function(measure))) or "none"
            raise ValueError(f"{own_name(measure)} has no option {unknown[0]!r}: it takes {choices}")
        if function(measure) in MEASURES.values() and "score" in bound(measure):
            raise ValueError(f"{name} has a score of its own: give evaluate score=, which is the whole image's too")
        if name in found and found[name] is not measure:
            raise ValueError(f"two metrics are called {name!r}: give one of them another name")
        found[name] = measure
    given = [options(each) for each in found.values() if function(each) is adcc]
    return {name: each for name, each in found.items() if function(each) is not drop or options(each) not in given}


def function(measure: Measure) -> Measure:
    """A measure without jit, and without the options that are bound to it."""
    if isinstance(measure, functools.partial):
        return function(measure.func)
    jitted = hasattr(measure, "__wrapped__") and not isinstance(measure, types.FunctionType)
    return function(measure.__wrapped__) if jitted else measure  # type: ignore[attr-defined]


def bound(measure: Measure) -> dict[str, Any]:
    """The options that are bound to a measure, by name."""
    if isinstance(measure, functools.partial):
        return dict(sorted({**bound(measure.func), **measure.keywords}.items()))
    return {} if function(measure) is measure else bound(measure.__wrapped__)  # type: ignore[attr-defined]


def own_name(measure: Measure) -> str:
    """What a measure is called, without its options."""
    return getattr(function(measure), "__name__", type(measure).__name__)


def options(measure: Measure) -> str:
    """The options that are bound to a measure, as they stand in names: ", tolerance 15"."""
    return "".join(f", {name} {_shown(value)}" for name, value in bound(measure).items())


def without_options(column: str) -> str:
    """A column's name without the options of its measure."""
    return column.partition(", ")[0]


def runs_the_method(measure: Measure) -> bool:
    """Whether a measure takes the method, to explain another image."""
    return "again" in inspect.signature(measure).parameters


def _shown(value):
    """An option's value in a name: in words where they are few, or else eight digits of its digest."""
    text = " ".join(str(getattr(value, "__name__", value)).replace(",", " ").split())
    return text if len(text) <= 40 and " at 0x" not in text else content_digest(json.dumps(describe(value)))[:8]


def _of_masked(cut, case, saliency, baseline):
    """The masked image and the model's outputs for it."""
    mask = metrics.as_mask(saliency, saliency.shape)
    masked = metrics.masked(case.image, mask, baseline=baseline)
    return masked, activations(cut, masked)[1]


def _drops(case, masked):
    # Of two programs the one rounds otherwise than the other: what is the same is neither a drop nor an increase.
    same = jnp.abs(masked - case.probability) <= ROUNDING * jnp.maximum(1, jnp.abs(case.probability))
    masked = jnp.where(same, case.probability, masked)
    return {
        "average_drop": metrics.average_drop(case.probability, masked),
        "increase": metrics.increase(case.probability, masked),
        "average_gain": metrics.average_gain(case.probability, masked),
    }


def _evenly(curve):
    """With the shares of the pixels from none to all."""
    return jnp.stack([jnp.linspace(0, 1, len(curve), dtype=curve.dtype), curve])


def _mask(case):
    if case.mask is not None:
        return case.mask
    return metrics.inside(_boxes(case), case.image.shape[:2]).any(0)


def _boxes(case):
    if case.boxes is None:
        raise ValueError("the image has no boxes, and no mask where one would do: nothing can be localised")
    return case.boxes
