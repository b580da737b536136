"""The metrics of an evaluation: functions from a case and its map to named numbers, each below its record.

    >>> import jax.numpy as jnp
    >>> mask = jnp.zeros([4, 4], bool).at[1, 1].set(True)
    >>> case = Case(jnp.ones([4, 4, 3]), target=0, mask=mask)
    >>> pointing(None, case, mask.astype(float))
    {'pointing': Array(1., dtype=float32...)}

A new metric is one function with its record: the evaluation, its tables, its plots and the command line read `METRICS`.
The formulas, and how each can be gamed, are in `jaxcam.metrics`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxcam import metrics
from jaxcam._base.types import Baseline, Score
from jaxcam.cutting import Cut, activations, image_axis
from jaxcam.evaluation._record import Case, Column, Columns, Curve, Metric
from jaxcam.formulas import scores
from jaxcam.perturbations import blurred

Array = jax.Array
Function = TypeVar("Function", bound=Callable[..., Columns])

ROUNDING = 1e-6
LOCALIZED = 0.5  # the IoU from which a box counts as found

MASKED = "The masked image"
REMOVED = "Pixels removed in order"
WHERE = "Where the map lies"

DROPS = {
    "average_drop": Column("Average Drop", "down", 100, decides=2),
    "increase": Column("Increase", "up", 100),
    "average_gain": Column("Average Gain", "up", 100),
    "win": Column("Win", "up", 100),  # no metric returns it: the table derives it from `average_drop`
}

METRICS: dict[str, Metric] = {}


def _recorded(**record: Any) -> Callable[[Function], Function]:
    """Adds the function that it decorates to `METRICS`; the options are those of `Metric`."""

    def add(function: Function) -> Function:
        METRICS[function.__name__] = Metric(function, **record)
        return function

    return add


@_recorded(columns=DROPS, group=MASKED)
def drop(
    cut: Cut, case: Case, saliency: Array, *, baseline: Baseline = 0.0, score: Score = scores.probability
) -> Columns:
    """Average Drop, Increase in Confidence and Average Gain, from one forward pass of the masked image."""
    _, outputs = _masked_image_and_outputs(cut, case, saliency, baseline)
    return _drop_columns(case, score(outputs, case.target))


@_recorded(
    columns={
        **DROPS,
        "coherency": Column("coherency", "up"),
        "complexity": Column("complexity", "down"),
        "adcc": Column("ADCC", "up", decides=1),
    },
    group=MASKED,
    includes=(drop,),
)
def adcc(
    cut: Cut,
    case: Case,
    saliency: Array,
    again: Callable[[Array], Array],
    *,
    baseline: Baseline = 0.0,
    score: Score = scores.probability,
) -> Columns:
    """ADCC with its coherency and complexity, and the columns of `drop`, from the map of the masked image."""
    masked, outputs = _masked_image_and_outputs(cut, case, saliency, baseline)
    columns = _drop_columns(case, score(outputs, case.target))
    mask = metrics.as_mask(saliency, saliency.shape)
    coherency = metrics.coherency(mask, metrics.as_mask(again(masked), saliency.shape))
    complexity = metrics.complexity(mask)
    combined = metrics.adcc(coherency, complexity, columns["average_drop"])
    return {**columns, "coherency": coherency, "complexity": complexity, "adcc": combined}


@_recorded(
    columns={"deletion": Column("deletion", "down", decides=6)},
    curves={"deletion_curve": Curve("deletion", "share of the pixels removed", "score", "down")},
    group=REMOVED,
    ends={"blank": jnp.zeros_like},
)
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
    is_black = isinstance(baseline, int | float) and baseline == 0
    ends = (case.probability, case.blank) if is_black and case.blank is not None else None
    curve = metrics.deletion(
        cut, case.image, saliency, case.target, steps=steps, baseline=baseline, ends=ends, score=score
    )
    return {"deletion": metrics.area(curve), "deletion_curve": _over_even_shares(curve)}


@_recorded(
    columns={"insertion": Column("insertion", "up", decides=7)},
    curves={"insertion_curve": Curve("insertion", "share of the pixels put back", "score", "up")},
    group=REMOVED,
    ends={"blurred": blurred},
)
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
    is_blur = isinstance(baseline, str) and case.blurred is not None
    ends = (case.blurred, case.probability) if is_blur else None
    curve = metrics.insertion(
        cut, case.image, saliency, case.target, steps=steps, baseline=baseline, ends=ends, score=score
    )
    return {"insertion": metrics.area(curve), "insertion_curve": _over_even_shares(curve)}


@_recorded(
    columns={
        "road_most": Column("ROAD most first", "down"),
        "road_least": Column("ROAD least first", "up"),
        "road": Column("ROAD combined", "up", decides=8),
    },
    curves={
        "road_most_curve": Curve("ROAD, most relevant first", "share of the pixels removed", "score", "down"),
        "road_least_curve": Curve("ROAD, least relevant first", "share of the pixels removed", "score", "up"),
    },
    group=REMOVED,
)
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
        raise ValueError("ROAD draws noise, but the case has no key")
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


@_recorded(
    columns={"confidence": Column("confidence over thresholds", "up")},
    curves={
        "confidence_curve": Curve(
            "confidence", "quantile below which pixels are removed", "score / the whole image's score", "up"
        )
    },
    group=REMOVED,
)
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


@_recorded(columns={"pointing": Column("pointing game", "up")}, group=WHERE, needs="mask", of_label=True)
def pointing(cut: Cut, case: Case, saliency: Array, *, tolerance: float = 0) -> Columns:
    """The pointing game, on the mask, or on the boxes if there is no mask."""
    return {
        "pointing": metrics.pointing_game(
            saliency, _mask_of(case, saliency.shape), ignore=case.ignore, tolerance=tolerance
        )
    }


@_recorded(columns={"energy": Column("energy inside", "up", decides=3)}, group=WHERE, needs="mask", of_label=True)
def energy(cut: Cut, case: Case, saliency: Array) -> Columns:
    """The share of the map's energy in the mask, or in the boxes if there is no mask."""
    return {"energy": metrics.energy(saliency, _mask_of(case, saliency.shape), ignore=case.ignore)}


@_recorded(columns={"mask_iou": Column("mask IoU", "up", decides=4)}, group=WHERE, needs="mask", of_label=True)
def mask_iou(cut: Cut, case: Case, saliency: Array, *, threshold: float | None = None) -> Columns:
    """IoU with the mask, at the mask's own area or at a threshold."""
    return {
        "mask_iou": metrics.mask_iou(saliency, _mask_of(case, saliency.shape), ignore=case.ignore, threshold=threshold)
    }


@_recorded(
    columns={"box_iou": Column("box IoU", "up", decides=5), "localised": Column("box IoU ≥ 0.5", "up", 100)},
    group=WHERE,
    needs="boxes",
    of_label=True,
)
def box_iou(cut: Cut, case: Case, saliency: Array, *, threshold: float = 0.15) -> Columns:
    """The best IoU of a box with the box around the map's largest component, and whether it is at least 0.5."""
    iou = metrics.box_iou(saliency, _boxes_of(case), threshold=threshold)
    return {"box_iou": iou, "localised": (iou >= LOCALIZED).astype(iou.dtype)}


@_recorded(
    columns={
        "found": Column("copies found", "up", decides=9),
        "spill": Column("as bright outside", "down"),
    },
    group=WHERE,
    needs="boxes",
    of_label=True,
)
def found(cut: Cut, case: Case, saliency: Array, *, threshold: float = 0.5) -> Columns:
    """The share of the boxes that are found, and the share of the image outside them that is as bright."""
    return {
        "found": metrics.found(saliency, _boxes_of(case), threshold=threshold),
        "spill": metrics.spill(saliency, _boxes_of(case), threshold=threshold),
    }


def _masked_image_and_outputs(cut, case, saliency, baseline):
    mask = metrics.as_mask(saliency, saliency.shape)
    masked = metrics.masked(case.image, mask, baseline=baseline, channel_axis=image_axis(cut, case.image))
    return masked, activations(cut, masked)[1]


def _drop_columns(case, masked_score):
    # The two scores come from separately compiled programs and may differ by rounding; treat such differences as equal.
    same = jnp.abs(masked_score - case.probability) <= ROUNDING * jnp.maximum(1, jnp.abs(case.probability))
    masked_score = jnp.where(same, case.probability, masked_score)
    return {
        "average_drop": metrics.average_drop(case.probability, masked_score),
        "increase": metrics.increase(case.probability, masked_score),
        "average_gain": metrics.average_gain(case.probability, masked_score),
    }


def _over_even_shares(curve):
    """The curve over shares of the pixels from none to all, `[2 points]`."""
    return jnp.stack([jnp.linspace(0, 1, len(curve), dtype=curve.dtype), curve])


def _mask_of(case, spatial):
    """The mask, or the inside of the boxes if there is none, of the shape of a map."""
    if case.mask is not None:
        return case.mask
    return metrics.inside(_boxes_of(case), spatial).any(0)


def _boxes_of(case):
    if case.boxes is None:
        raise ValueError("the image has neither boxes nor a mask in their place, so nothing can be localized")
    return case.boxes
