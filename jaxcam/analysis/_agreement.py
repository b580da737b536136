"""Krippendorff's alpha: do people agree more than chance would have it?"""

from collections.abc import Hashable, Sequence

import numpy as np

# scipy has no such measure. statsmodels has Fleiss's kappa, which needs equally many judgments of each unit.
LEVELS = ("nominal", "interval")


def krippendorff_alpha(units: Sequence[Sequence[Hashable]], *, level: str = "nominal") -> float | None:
    """Krippendorff's alpha, 1 - observed / expected disagreement: 1 for full agreement, 0 for chance, below 0 for less.

    A unit is what several people judged, with any number of judgments. Units with fewer than two do not count.

    Args:
      units: the values that each unit was given.
      level: "nominal" takes any two values that differ as a disagreement, "interval" the square of their difference.

    Returns:
      The alpha; None if no unit has two values, or all values are the same, so that nothing can disagree.

    Raises:
      ValueError: another level, a value that is NaN, or one that is no number with the level "interval".

    Krippendorff, "Computing Krippendorff's alpha-reliability", 2011.

    Example:
      >>> krippendorff_alpha([["cat", "cat"], ["dog", "dog"], ["cat", "dog"]])
      0.444...
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}: choose one of {', '.join(LEVELS)}")
    units = [unit for unit in units if len(unit) > 1]
    values = list(dict.fromkeys(value for unit in units for value in unit))
    if any(value != value for value in values):
        raise ValueError("expected judgments, got NaN: leave out what a person did not judge")
    if level == "interval" and not all(isinstance(value, int | float | np.number) for value in values):
        raise ValueError(f"expected numbers with the level 'interval', got {values[:5]}")
    if len(values) < 2:
        return None
    coincidences = np.zeros([len(values), len(values)])
    for unit in units:
        counts = np.array([sum(judged == value for judged in unit) for value in values], float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(0)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    if level == "nominal":
        distance = 1 - np.eye(len(values))
    else:
        numbers = np.array(values, float)
        distance = (numbers[:, None] - numbers) ** 2
    return float(1 - (coincidences * distance).sum() / (expected * distance).sum())
