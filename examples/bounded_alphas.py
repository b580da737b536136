"""Is Grad-CAM++ better with bounded alphas, and with exact derivatives? One network at a time.

    python -m examples.bounded_alphas --out build/alphas_relu
    python -m examples.digits.train --out build/gelu --activation gelu --start embedded --canvases 4096 --epochs 2
    python -m examples.bounded_alphas --out build/alphas_gelu --network gelu --weights build/gelu/weights.npz
    python -m examples.digits.train --out build/hybrid --network hybrid --canvases 4096 --epochs 3
    python -m examples.bounded_alphas --out build/alphas_hybrid --network hybrid --weights build/hybrid/weights.npz
    JAXCAM_ASSETS=../shared/assets python -m examples.bounded_alphas --out build/alphas_bottleneck \
        --network efficientnet_lite0 --layer blocks/14 --images 30

The networks for digits explain canvases; EfficientNet-Lite0 explains photographs of pets, at one of its linear
bottlenecks, whose values have both signs. Each row is one combination of derivatives (exact, closed form), alpha
(defined, bounded) and score (logit, log_softmax); Grad-CAM and Grad-CAM+ stand beside them. On a piecewise linear
network the exact derivatives equal the closed form, and there is one row for both. The table has the means, and marks
the paired differences from Grad-CAM++ as it is defined, with its exact derivatives and the logit, whose intervals
exclude zero. The lines below it compare bounded with defined, and exact with closed form, on the same images. The last
lines tell at how many locations alpha is outside [0, 1/2], and how far bounding moves the maps, those of Smooth
Grad-CAM++ too. The same command resumes a run that was stopped.
"""

import argparse
import functools
import itertools
import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx

import jaxcam
from examples import real_photographs
from examples.digits.train import TRANSFORMERS
from examples.evaluation import DIGITS_LAYER, SEED, SHAPE, canvas_examples
from jaxcam import datasets

SCORES = {"logit": jaxcam.scores.logit, "log_softmax": jaxcam.scores.log_softmax}
FORMS = {"exact": "exact", "closed form": "closed_form"}
# The metrics, and what is compared in pairs.
METRICS = {
    "canvases": ["insertion", "deletion", "energy", "mask_iou", "found"],
    "pets": ["drop", "insertion", "deletion", "energy", "mask_iou"],
}
DIGIT_NETWORKS = ("relu", "gelu", "silu", *TRANSFORMERS)
# Behind the last block's attention the class token alone counts.
TRANSFORMER_LAYERS = {"vit": "blocks/2", "hybrid": "blocks/0"}


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


def opened(options: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[jaxcam.Cut, list]:
    """The cut and the examples: canvases, with each number of copies alike, or photographs."""
    if options.network == "efficientnet_lite0":
        # ImageNet has other classes than the breeds: the most probable class is explained.
        chosen = real_photographs.spread(real_photographs.with_masks(real_photographs.assets(parser)), options.images)
        cut = jaxcam.cut(jaxcam.efficientnet_lite0(), options.layer or "blocks/14")
        return cut, [datasets.load(photograph, SHAPE, fit="square") for photograph in chosen]
    if options.network in TRANSFORMERS:
        with np.load(options.weights) as file:
            arrays = {name: array.astype(np.float32) for name, array in file.items()}
        model = jaxcam.pretrained.from_arrays(lambda: TRANSFORMERS[options.network](rngs=nnx.Rngs(0)), arrays)
        cut = jaxcam.cut(model, options.layer or TRANSFORMER_LAYERS[options.network])
    else:
        load = jaxcam.digits if options.weights is None else functools.partial(jaxcam.pretrained.load, options.weights)
        cut = jaxcam.cut(load(activation=getattr(jax.nn, options.network)), options.layer or DIGITS_LAYER)
    return cut, canvas_examples(SEED, -(-options.images // 4))


def print_pairs(evaluation: jaxcam.Evaluation, rows: dict) -> None:
    """Print the mean paired differences between rows that differ in one choice, with their 95% intervals."""
    names = [name for name in rows if name.startswith("Grad-CAM++")]
    for second, first in itertools.combinations(names, 2):
        differing = [(a, b) for a, b in zip(first.split(", "), second.split(", "), strict=True) if a != b]
        if len(differing) != 1 or differing[0] in [("log_softmax", "logit")]:
            continue
        estimates = evaluation._replace(reference=second).estimates()[first]
        cells = [
            f"{column} {estimate.difference:+.3f} [{estimate.difference_low:+.3f}, {estimate.difference_high:+.3f}]"
            f"{'*' if estimate.differs else ''}"
            for column, estimate in estimates.items()
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
            f"{len(diagnoses)} images"
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
        f"{max(changes):.1%}; {np.mean(shares):.2%} on average over locations), the mean over {len(examples)} images"
    )


def main():
    """Evaluate, and print the table and the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--network", choices=(*DIGIT_NETWORKS, "efficientnet_lite0"), default="relu")
    parser.add_argument("--weights", type=pathlib.Path, help="of a network for digits (default: the embedded ones)")
    parser.add_argument("--layer", help="where the network is cut (default: its last useful one)")
    parser.add_argument("--images", type=int, default=100, help="how many images (default: 100)")
    options = parser.parse_args()
    if options.network in TRANSFORMERS and options.weights is None:
        parser.error(f"--network {options.network} needs --weights: examples.digits.train writes them")
    cut, examples = opened(options, parser)
    on_pets = options.network == "efficientnet_lite0"
    rows = methods(smooth=options.network in ("gelu", "silu", *TRANSFORMERS))
    evaluation = jaxcam.evaluate(
        cut, examples, rows, METRICS["pets" if on_pets else "canvases"], jax.random.key(0),
        target="predicted" if on_pets else "label", out=options.out, reference=row_name("exact", "defined", "logit"),
    )  # fmt: skip
    print(evaluation.markdown())
    print_pairs(evaluation, rows)
    few = examples[:: max(1, len(examples) // 20)][:20]
    print_shares(cut, few)
    print_smooth(cut, few)


if __name__ == "__main__":
    main()
