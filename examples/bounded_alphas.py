"""Is Grad-CAM++ better with bounded alphas, and with exact derivatives? Digit canvases, one network at a time.

    python -m examples.bounded_alphas --out build/alphas_relu
    python -m examples.digits.train --out build/gelu --activation gelu --start embedded --canvases 4096 --epochs 2
    python -m examples.bounded_alphas --out build/alphas_gelu --activation gelu --weights build/gelu/weights.npz

Each row is one combination of derivatives (exact, closed form), alpha (defined, bounded) and score (logit,
log_softmax); Grad-CAM and Grad-CAM+ stand beside them. The table has the means, and marks the paired differences from
Grad-CAM++ as it is defined, with its exact derivatives and the logit, whose intervals exclude zero. The lines below it
compare bounded with defined, and exact with closed form, on the same images. The last lines tell at how many locations
alpha is outside [0, 1/2], and how far bounding moves the maps, those of Smooth Grad-CAM++ too. The same command resumes
a run that was stopped.
"""

import argparse
import functools
import itertools
import pathlib
from typing import Any

import jax
import numpy as np

import jaxcam
from examples.evaluation import DIGITS_LAYER, SEED, canvas_examples

SCORES = {"logit": jaxcam.scores.logit, "log_softmax": jaxcam.scores.log_softmax}
FORMS = {"exact": "exact", "closed form": "closed_form"}
COLUMNS = ["insertion", "deletion", "energy", "mask_iou", "found"]


def row_name(form: str, alpha: str, score: str) -> str:
    """The name of a row."""
    return f"Grad-CAM++, {form}, {alpha}, {score}"


def methods(smooth: bool) -> dict:
    """The rows: with both forms of the derivatives for a smooth head, which on a relu network are one."""
    rows: dict[str, Any] = {"Grad-CAM": jaxcam.grad_cam, "Grad-CAM+": jaxcam.grad_cam_plus}
    for form, alpha, score in itertools.product(FORMS if smooth else ["exact"], jaxcam.weights.ALPHAS, SCORES):
        rows[row_name(form, alpha, score)] = functools.partial(
            jaxcam.grad_cam_pp, derivatives=FORMS[form], alpha=alpha, score=SCORES[score]
        )
    return rows


def print_pairs(evaluation: jaxcam.Evaluation, rows: dict) -> None:
    """Print the mean paired differences between rows that differ in one choice, with their 95% intervals."""
    names = [name for name in rows if name.startswith("Grad-CAM++")]
    for second, first in itertools.combinations(names, 2):
        differing = [(a, b) for a, b in zip(first.split(", "), second.split(", "), strict=True) if a != b]
        if len(differing) != 1 or differing[0] in [("log_softmax", "logit")]:
            continue
        estimates = evaluation._replace(reference=second).estimates()[first]
        cells = [
            f"{column} {estimates[column].difference:+.3f} [{estimates[column].difference_low:+.3f}, "
            f"{estimates[column].difference_high:+.3f}]{'*' if estimates[column].differs else ''}"
            for column in COLUMNS
        ]
        print(f"{first} minus {differing[0][1]}: " + ", ".join(cells))


def print_shares(cut: jaxcam.Cut, examples: list) -> None:
    """Print the shares of alphas outside [0, 1/2] over some images."""
    for name, score in SCORES.items():
        diagnoses = [jaxcam.diagnose(cut, example.image, example.label, score=score) for example in examples]
        shares, changes = ([getattr(d, field) for d in diagnoses] for field in ("alphas_outside", "bounded_change"))
        print(
            f"{name}: alpha outside [0, 1/2] at {np.mean(shares):.1%} of the locations with Y1 > 0 (at most "
            f"{max(shares):.1%}); bounding moves the map by up to {np.mean(changes):.1%} of its maximum, the mean over "
            f"{len(diagnoses)} canvases"
        )


def print_smooth(cut: jaxcam.Cut, examples: list) -> None:
    """Print how far bounding moves the maps of Smooth Grad-CAM++, n = 5 and std 0.3, with the logit."""
    changes, shares = [], []
    for i, example in enumerate(examples):
        key = jax.random.key(i)
        defined, bounded = (
            jaxcam.smooth_grad_cam_pp(cut, example.image, example.label, key, alpha=alpha)
            for alpha in jaxcam.weights.ALPHAS
        )
        change = np.abs(np.asarray(defined / defined.max() - bounded / bounded.max()))
        changes.append(change.max())
        shares.append(change.mean())
    print(
        f"Smooth Grad-CAM++, logit: bounding moves the map by up to {np.mean(changes):.1%} of its maximum (at most "
        f"{max(changes):.1%}; {np.mean(shares):.2%} on average over locations), the mean over {len(examples)} canvases"
    )


def main():
    """Evaluate, and print the table and the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--activation", choices=("relu", "gelu", "silu"), default="relu")
    parser.add_argument("--weights", type=pathlib.Path, help="a digits network (default: the embedded one)")
    parser.add_argument("--canvases", type=int, default=25, help="with each number of copies, 1 to 4 (default: 25)")
    options = parser.parse_args()
    activation = getattr(jax.nn, options.activation)
    load = jaxcam.digits if options.weights is None else functools.partial(jaxcam.pretrained.load, options.weights)
    cut = jaxcam.cut(load(activation=activation), DIGITS_LAYER)
    examples = canvas_examples(SEED, options.canvases)
    rows = methods(smooth=options.activation != "relu")
    evaluation = jaxcam.evaluate(
        cut, examples, rows, COLUMNS, jax.random.key(0), target="label", out=options.out,
        reference=row_name("exact", "defined", "logit"),
    )  # fmt: skip
    print(evaluation.markdown())
    print_pairs(evaluation, rows)
    few = examples[:: max(1, len(examples) // 20)][:20]
    print_shares(cut, few)
    print_smooth(cut, few)


if __name__ == "__main__":
    main()
