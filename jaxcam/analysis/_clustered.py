"""Shares of answers with intervals, where answers of one person and answers about one picture go together."""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

# scipy's binomtest(...).proportion_ci and statsmodels' proportion_confint have Wilson's interval for whole numbers of
# independent answers and a normal quantile. Clustered answers need a fraction of answers and a t quantile.
LEVEL = 0.95


class Share(NamedTuple):
    """A mean of answers in 0..1, with its uncertainty.

    Attributes:
      mean: over the answers.
      low: the lower end of the 95% interval.
      high: the upper end.
      answers: their number.
    """

    mean: float
    low: float
    high: float
    answers: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def clustered_share(values: Sequence[float], people: Sequence[Hashable], pictures: Sequence[Hashable]) -> Share:
    """The mean of values in 0..1 with a Wilson interval for answers that are not independent.

    Answers of one person go together, and so do answers about one picture. The variance of the mean is clustered both
    ways, V = V_people + V_pictures - V_both (Cameron, Gelbach and Miller, "Robust inference with multiway clustering",
    2011), or the largest of the three if that is more. It gives the number of independent answers that would have this
    variance, mean (1 - mean) / V, and a t quantile with as many degrees of freedom as the smaller of the two numbers of
    clusters has (Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", 1998), which enter Wilson's interval. A way with one cluster tells nothing about
    others like it: the answers of one person give an interval about this person.

    Args:
      values: one for each answer, in 0..1.
      people: who gave it.
      pictures: which picture it is about.

    Returns:
      A `Share`. If all values are the same, the smaller number of clusters stands for the number of answers. One answer
      has the interval 0..1.

    Raises:
      ValueError: no values, a value outside 0..1, or another number of people or pictures than of values.

    Example:
      >>> print(clustered_share([1, 1, 0, 1], ["a", "a", "a", "a"], [1, 2, 3, 4]))
      0.750 [0.131, 0.984]
    """
    count = len(values)
    if count == 0:
        raise ValueError("expected at least one answer, got none")
    if not len(people) == len(pictures) == count:
        raise ValueError(
            f"expected {count} people and pictures, as many as values, got {len(people)} and {len(pictures)}"
        )
    array = np.asarray(values, float)
    if not ((array >= 0) & (array <= 1)).all():  # NaN is not
        raise ValueError(f"expected values in 0..1, got {array.min():g}..{array.max():g}")
    mean = float(array.mean())
    ways = [people, pictures, list(zip(people, pictures, strict=True))]
    clusters = [len(set(way)) for way in ways[:2] if len(set(way)) > 1]
    if not clusters:
        return Share(mean, 0.0, 1.0, count)
    by_people, by_pictures, by_both = (_variance(array - mean, way) for way in ways)
    variance = max(by_people + by_pictures - by_both, by_people, by_pictures, by_both)
    independent = mean * (1 - mean) / variance if variance > 1e-12 else float(min(clusters))
    return Share(mean, *_wilson(mean, independent, _quantile(min(clusters) - 1)), count)


def _variance(residuals: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """The variance of the mean if the values of a cluster go together."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    if len(numbers) < 2:
        return 0.0
    sums = np.zeros(len(numbers))
    np.add.at(sums, [numbers[cluster] for cluster in clusters], residuals)
    return float((sums**2).sum()) / len(residuals) ** 2 * len(numbers) / (len(numbers) - 1)


def _quantile(freedom: int) -> float:
    from scipy import stats  # takes seconds to import

    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def _wilson(mean: float, count: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval for a share of `count` independent answers."""
    square = quantile**2 / count
    center = (mean + square / 2) / (1 + square)
    half = math.sqrt(square * (mean * (1 - mean) + square / 4)) / (1 + square)
    return max(0.0, center - half), min(1.0, center + half)
