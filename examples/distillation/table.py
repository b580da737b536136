"""The table of a run as Markdown: the published figures, ours, and what the maps alone change."""

import math

import numpy as np

from examples.distillation.learning import ROWS
from jaxcam.evaluation import Estimate, paired_estimates

# The poster's Tables 4 (CIFAR-10, error in percent) and 3 (VOC 2007, 100 times the mean average precision).
PUBLISHED = {
    "error": {
        "cross-entropy": 6.78, "Grad-CAM++ loss": 6.74, "Grad-CAM loss": 6.86,
        "KD": 5.68, "KD, Grad-CAM++ loss": 5.56, "KD, Grad-CAM loss": 5.8,
    },
    "mean average precision": {"cross-entropy": 31.0, "Grad-CAM++ loss": 42.0, "KD": 34.0},
}  # fmt: skip
REFERENCE = "cross-entropy"
AGREEMENTS = ("agreement of Grad-CAM++", "agreement of Grad-CAM")
# The standard normal's quantiles of a two-sided test at 5%, and of a power of 80%.
LEVEL, POWER = 1.96, 0.84


def seeds_to_tell(differences: np.ndarray, effect: float) -> int:
    """How many seeds tell a mean difference of `effect` from 0, at the spread of these paired differences.

    (1.96 + 0.84)^2 s^2 / effect^2, for a two-sided test at 5% that finds the effect in 80% of the cases; at least 2.

    Example:
      >>> seeds_to_tell(np.array([0.5, -0.5, 1.0, -1.0]), 0.1)
      654
    """
    spread = float(np.std(differences, ddof=1))
    return max(2, math.ceil(((LEVEL + POWER) * spread / effect) ** 2))


def paired(values: np.ndarray, others: np.ndarray) -> Estimate:
    """The mean of the values, one for each seed, and their difference from the others."""
    return paired_estimates(np.stack([values, others], -1)[:, None].astype(float), 1)[0][0]


def table(rows: dict[str, dict[str, list[float]]], measure: str) -> str:
    """The rows, in the order of `ROWS`.

    Args:
      rows: for each row the figures by seed.
      measure: "error" or "mean average precision".
    """
    published = PUBLISHED[measure]
    lines = [
        f"| the student learns from | {measure}, published | ours | minus cross-entropy's | what the maps add | "
        "seeds for the published difference | Grad-CAM++ maps agree | Grad-CAM maps agree |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in (name for name in ROWS if name in rows):
        values = np.array(rows[name][measure])
        base = ROWS[name].without_maps if ROWS[name].maps else REFERENCE
        cells = [
            name,
            f"{published[name]:.2f}" if name in published else "–",
            f"{values.mean():.2f}",
            _difference(rows, measure, name, REFERENCE),
            _difference(rows, measure, name, base) if ROWS[name].maps else "–",
            _seeds(rows, measure, name, base),
            *(f"{np.mean(rows[name][column]):.2f}" for column in AGREEMENTS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(rows, measure, name, base) -> str:
    if name == base or base not in rows or len(rows[name][measure]) < 2:
        return "–"
    found = paired(np.array(rows[name][measure]), np.array(rows[base][measure]))
    return f"{found.difference:+.2f} [{found.difference_low:+.2f}, {found.difference_high:+.2f}]"


def _seeds(rows, measure, name, base) -> str:
    """The seeds that would tell the published difference of a row from its base."""
    published = PUBLISHED[measure]
    if name == base or base not in rows or not {name, base} <= published.keys() or len(rows[name][measure]) < 2:
        return "–"
    differences = np.array(rows[name][measure]) - np.array(rows[base][measure])
    effect = published[name] - published[base]
    return f"{seeds_to_tell(differences, effect):,} for {effect:+.2f}"
