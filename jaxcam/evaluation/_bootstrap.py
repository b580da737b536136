"""TODO."""

import math
import statistics
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-5  # drops of one map, from two programs, differ by less

RESAMPLES = 2000
RESAMPLES_AT_A_TIME = 100
LEVEL = 0.95
FEWEST = 10  # images that bear an interval: a bootstrap over fewer is far too sure of itself


class Estimate(NamedTuple):
    """The mean over images, and how far it may be trusted.

    Attributes:
      mean: over the images.
      low: of its 95% interval, by bootstrap over images.
      high: of that interval.
      difference: of the mean from the reference method's on the same images.
      difference_low: of the difference's own interval, by the same resamples for both: paired.
      difference_high: of that interval.
      images: how many have this column.
    """

    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    images: int

    @property
    def differs(self) -> bool:
        """Whether the difference's interval leaves out zero; not of fewer than 10 images, which bear none."""
        return self.images >= FEWEST and (self.difference_low > 0 or self.difference_high < 0)


def _estimates(matrix: np.ndarray, reference: int) -> list[list[Estimate]]:
    """For each column and method of `[images columns methods]`, by the same resamples of the images for all of them.

    The percentile interval, expanded: at n images its tails are those of sqrt(n / (n - 1)) t, in the place of the
    normal's, as it is too narrow for few. Hesterberg, "What teachers should know about the bootstrap", 2015.
    """
    count, columns, methods = matrix.shape
    difference = matrix - matrix[..., [reference]]
    difference[np.abs(difference) <= ROUNDING] = 0
    both = np.stack([matrix, difference], axis=-1).reshape(count, -1)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(0, RESAMPLES, RESAMPLES_AT_A_TIME):
        times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES_AT_A_TIME)
        means.append(times @ both / count)
    low, high = np.percentile(np.concatenate(means), _tails(count), axis=0)
    figures = np.stack([both.mean(0), low, high], axis=-1).reshape(columns, methods, 6).tolist()
    return [[Estimate(*each, count) for each in column] for column in figures]  # type: ignore[call-arg]


def _tails(count):
    """The percentiles that bound the interval."""
    if count < 2:
        return 0.0, 100.0
    normal, freedom = statistics.NormalDist(), count - 1
    z = normal.inv_cdf((1 + LEVEL) / 2)
    # Student's t by Cornish and Fisher's expansion.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    tail = 100 * normal.cdf(-math.sqrt(count / freedom) * t)
    return tail, 100 - tail
