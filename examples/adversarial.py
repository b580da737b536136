"""Do the maps of a class survive an attack that makes the network sure of another? Digit canvases, targeted PGD.

    python -m examples.adversarial --canvases 200 --json benchmarks/results/adversarial_digits.json

Figure 7 of the Grad-CAM paper shows a network that is pushed to a probability above 0.9999 for an absent class, and
maps of the classes that are there, which still lie on them. Here it is measured: for canvases with two copies of a
digit that the network classifies rightly, the pointing game and the energy of the map of the digit's class, on the
boxes of the copies, before and after the attack, with 95% intervals of the paired differences. The controls know
nothing of the class: if the mean activation survives as well, surviving says little about the map.
"""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from benchmarks import timing
from examples.digits import canvases
from jaxcam.evaluation import Estimate, paired_estimates

SEED = 6_000_000
SURE = 0.9999
METHODS: dict[str, Callable[..., jax.Array]] = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++": jaxcam.grad_cam_pp,
    "HiResCAM": jaxcam.hires_cam,
    "LayerCAM": jaxcam.layer_cam,
    "Grad-CAM+": jaxcam.grad_cam_plus,
    "mean activation": jaxcam.controls.mean_activation,
    "center Gaussian": jaxcam.controls.center_gaussian,
}
COLUMNS = ("pointing", "energy")


@jax.jit
def probabilities(cut, images):
    """Of all classes, `[n classes]`."""
    return jax.lax.map(lambda x: jax.nn.softmax(cut.head(cut.params, cut.features(cut.params, x), x)), images)


@functools.partial(jax.jit, static_argnames="steps")
def attacked(cut, images, targets, epsilon, *, steps):
    """The images, changed so that the network takes them for the targets."""
    attack = functools.partial(jaxcam.attacks.pgd, cut, epsilon=epsilon, steps=steps, targeted=True)
    return jax.lax.map(lambda pair: attack(*pair), (images, targets))


@functools.partial(jax.jit, static_argnames="method")
def scores_of(cut, images, labels, masks, *, method):
    """Pointing game and energy of the maps, `[n 2]`."""

    def of_image(image, label, mask):
        saliency = jaxcam.resize(method(cut, image, label), mask.shape)
        return jnp.stack([jaxcam.metrics.pointing_game(saliency, mask), jaxcam.metrics.energy(saliency, mask)])

    return jax.lax.map(lambda case: of_image(*case), (images, labels, masks))


def box_mask(canvas: canvases.Canvas) -> np.ndarray:
    """The pixels inside the boxes of the copies."""
    mask = np.zeros(canvas.image.shape[:2], bool)
    for row0, column0, row1, column1 in canvas.boxes:
        mask[row0:row1, column0:column1] = True
    return mask


def measure(count: int, epsilon: float, steps: int) -> dict:
    """The attack's success, and for each method the estimates before and after by column."""
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    drawn = canvases.draw_many(SEED, "test", count, copies=2)
    images, labels = np.stack([c.image for c in drawn]), np.array([c.label for c in drawn])
    right = np.asarray(probabilities(cut, images).argmax(-1)) == labels
    images, labels = images[right], labels[right]
    masks = np.stack([box_mask(c) for c in drawn])[right]
    absent = (labels + np.random.default_rng(SEED).integers(1, 10, len(labels))) % 10
    changed = attacked(cut, images, absent, epsilon, steps=steps)
    reached = np.asarray(probabilities(cut, changed))[np.arange(len(absent)), absent]
    rows: dict[str, dict[str, tuple[Estimate, Estimate]]] = {}
    for name, method in METHODS.items():
        both = [np.asarray(scores_of(cut, x, labels, masks, method=method)) for x in (images, changed)]
        by_column = paired_estimates(np.stack(both, axis=-1), 0)
        rows[name] = {column: (before, after) for column, (before, after) in zip(COLUMNS, by_column, strict=True)}
    return {
        "canvases": count,
        "classified rightly": len(labels),
        "epsilon": epsilon,
        "steps": steps,
        "sure of the absent class": float((reached > SURE).mean()),
        "median probability of the absent class": float(np.median(reached)),
        "rows": rows,
    }


def table(rows: dict) -> str:
    """The rows as Markdown."""
    lines = ["| | " + " | ".join(f"{column} before | after | difference" for column in COLUMNS) + " |"]
    lines.append("|---" * (1 + 3 * len(COLUMNS)) + "|")
    for name, by_column in rows.items():
        cells = []
        for before, after in by_column.values():
            mark = "*" if after.differs else ""
            interval = f"[{after.difference_low:+.3f}, {after.difference_high:+.3f}]"
            cells.append(f"{before.mean:.3f} | {after.mean:.3f} | {after.difference:+.3f} {interval}{mark}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    """Attack, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canvases", type=int, default=50)
    parser.add_argument(
        "--epsilon", type=float, default=16, help="the largest change of a value, in 1/255 (default: 16)"
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=pathlib.Path, help="keep the result in a file")
    options = parser.parse_args()
    result = measure(options.canvases, options.epsilon / 255, options.steps)
    print(
        f"{result['classified rightly']} of {result['canvases']} canvases are classified rightly; after the attack the "
        f"absent class has a probability above {SURE} on {result['sure of the absent class']:.1%} of them "
        f"(median {result['median probability of the absent class']:.6f})\n"
    )
    print(table(result["rows"]))
    if options.json:
        estimates = {
            name: {column: {"before": pair[0]._asdict(), "after": pair[1]._asdict()} for column, pair in row.items()}
            for name, row in result["rows"].items()
        }
        kept = result | {"rows": estimates, "machine": timing.machine()}
        options.json.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
