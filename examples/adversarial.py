"""Do the maps of a class survive an attack that makes the network sure of another? Canvases and photographs, PGD.

    python -m examples.adversarial --count 200 --json benchmarks/results/audits/adversarial_canvases.json
    JAXCAM_ASSETS=../shared/assets python -m examples.adversarial --data pets --epsilon 8 --steps 30

Figure 7 of the Grad-CAM paper shows VGG-16 pushed to a probability above 0.9999 for an absent class, and maps of the
classes that the image shows, which still lie on them. The paper has no numbers. This script measures the pointing game
and the energy of the map of the class that the image shows, before and after the attack, with 95% intervals of the
paired differences.

- "canvases": two copies of a digit, the embedded network for digits, and the boxes of the copies. An image counts if
  the network names the digit. The absent class is another digit.
- "pets": Oxford-IIIT Pet, EfficientNet-Lite0, and the trimaps, without their border. ImageNet does not have these
  breeds, so the class that the image shows is the most probable one, and an image counts if that is a cat for the
  breeds of cats and a dog for the others. The absent class is any but cats, dogs and their wild relatives.

Two kinds of rows put the others in proportion. The controls know nothing of the class: if the mean activation survives
as well, survival says little about the method. The map of the absent class shows whether the maps that are scored are
those of a class at all: if the attack moves it onto the object, every map is drawn there.
"""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import track

import jaxcam
from benchmarks import timing
from examples import real_photographs
from examples.digits import canvases
from examples.fitting_photographs import CAT_BREEDS, CATS, DOGS
from jaxcam.evaluation import Estimate, paired_estimates
from jaxcam.runtime import replace

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
ABSENT_ROW = "Grad-CAM of the absent class"
COLUMNS = ("pointing", "energy")
LAYERS = {"canvases": ("block3_conv2",), "pets": ("head", "blocks/11/expand")}
PETS_SHAPE = (224, 224)
# Dogs, wolves, foxes, cats and big cats, which could pass for the animal.
LIKE_PETS = range(151, 294)


class Cases(NamedTuple):
    """Images `[n h w 3]`, the class that each shows, a class that it does not show, and the masks of the objects."""

    images: np.ndarray
    labels: np.ndarray
    absent: np.ndarray
    masks: np.ndarray
    ignored: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Cases":
        """The chosen ones."""
        return Cases(*(column[chosen] for column in self))


@jax.jit
def probabilities(cut, images):
    """Of all classes, `[n classes]`."""
    return jax.lax.map(lambda x: jax.nn.softmax(cut.head(cut.params, cut.features(cut.params, x), x)), images)


@functools.partial(jax.jit, static_argnames="steps")
def attacked(cut, image, target, epsilon, *, steps):
    """The image, changed so that the network takes it for the target."""
    return jaxcam.attacks.pgd(cut, image, target, epsilon=epsilon, steps=steps, targeted=True)


@jax.jit
def scores_of(cut, cases):
    """Pointing game and energy of the maps, `[n rows 2]`."""

    def of_image(case):
        maps = [method(cut, case.images, case.labels) for method in METHODS.values()]
        maps.append(jaxcam.grad_cam(cut, case.images, case.absent))
        measured = []
        for saliency in maps:
            resized = jaxcam.resize(saliency, case.masks.shape)
            both = jaxcam.metrics.pointing_game, jaxcam.metrics.energy
            measured.append(jnp.stack([metric(resized, case.masks, ignore=case.ignored) for metric in both]))
        return jnp.stack(measured)

    return jax.lax.map(of_image, cases)


def box_mask(canvas: canvases.Canvas) -> np.ndarray:
    """The pixels inside the boxes of the copies."""
    mask = np.zeros(canvas.image.shape[:2], bool)
    for row0, column0, row1, column1 in canvas.boxes:
        mask[row0:row1, column0:column1] = True
    return mask


def read_canvases(cut: jaxcam.Cut, count: int | None) -> tuple[int, Cases]:
    """The number of canvases that are drawn, and those that the network classifies rightly."""
    drawn = canvases.draw_many(SEED, "test", count or 50, copies=2)
    labels = np.array([canvas.label for canvas in drawn])
    absent = (labels + np.random.default_rng(SEED).integers(1, 10, len(labels))) % 10
    images, masks = np.stack([canvas.image for canvas in drawn]), np.stack([box_mask(canvas) for canvas in drawn])
    cases = Cases(images, labels, absent, masks, np.zeros_like(masks))
    return len(drawn), cases.rows(np.asarray(probabilities(cut, images).argmax(-1)) == labels)


def read_pets(cut: jaxcam.Cut, folder: pathlib.Path, count: int | None) -> tuple[int, Cases]:
    """The number of photographs that are read, and those whose most probable class is of the animal's kind."""
    breeds = sorted({breed for _, breed in real_photographs.photographs(folder)})
    listed = real_photographs.spread(real_photographs.with_masks(folder, breeds), count)
    loaded = [jaxcam.datasets.load(example, PETS_SHAPE) for example in listed]
    images = np.stack([np.asarray(example.image) for example in loaded])
    masks = np.stack([np.asarray(example.mask) for example in loaded])
    predicted = np.asarray(probabilities(cut, images).argmax(-1))
    kinds = [CATS if breeds[example.label] in CAT_BREEDS else DOGS for example in listed]
    right = np.array([label in kind for label, kind in zip(predicted, kinds, strict=True)])
    others = np.setdiff1d(np.arange(1000), LIKE_PETS)
    absent = np.random.default_rng(SEED).choice(others, len(images))
    return len(images), Cases(images, predicted, absent, masks == 1, masks == -1).rows(right)


def measure(cuts: dict[str, jaxcam.Cut], cases: Cases, epsilon: float, steps: int) -> dict:
    """The attack's success, and for each layer and row the estimates before and after, by column."""
    cut = next(iter(cuts.values()))
    pairs = track(list(zip(cases.images, cases.absent, strict=True)), "attacks", console=Console(stderr=True))
    changed = np.stack([np.asarray(attacked(cut, image, target, epsilon, steps=steps)) for image, target in pairs])
    after = np.asarray(probabilities(cut, changed))
    reached = after[np.arange(len(changed)), cases.absent]
    rows: dict[str, dict[str, dict[str, tuple[Estimate, Estimate]]]] = {}
    for layer, cut in cuts.items():
        both = [np.asarray(scores_of(cut, cases._replace(images=images))) for images in (cases.images, changed)]
        rows[layer] = {}
        for number, name in enumerate((*METHODS, ABSENT_ROW)):
            by_column = paired_estimates(np.stack([scores[:, number] for scores in both], axis=-1), 0)
            rows[layer][name] = {
                column: (first, second) for column, (first, second) in zip(COLUMNS, by_column, strict=True)
            }
    return {
        "classified rightly": len(changed),
        "epsilon": epsilon,
        "steps": steps,
        "sure of the absent class": float((reached > SURE).mean()),
        "median probability of the absent class": float(np.median(reached)),
        "median probability of the class that is there": float(np.median(after[np.arange(len(changed)), cases.labels])),
        "area": float((cases.masks.sum((1, 2)) / (~cases.ignored).sum((1, 2))).mean()),
        "rows": rows,
    }


def table(rows: dict) -> str:
    """The rows of a layer as Markdown."""
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


def as_json(result: dict) -> dict:
    """The result with its estimates as dicts, and the machine."""
    rows = {
        layer: {
            name: {column: {"before": pair[0]._asdict(), "after": pair[1]._asdict()} for column, pair in row.items()}
            for name, row in by_name.items()
        }
        for layer, by_name in result["rows"].items()
    }
    return result | {"rows": rows, "machine": timing.machine()}


def main():
    """Attack, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["canvases", "pets"], default="canvases")
    parser.add_argument("--count", type=int, help="number of images (default: 50 canvases, all 150 test photographs)")
    parser.add_argument(
        "--epsilon", type=float, default=16, help="the largest change of a value, in 1/255 (default: 16)"
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the result to this file")
    options = parser.parse_args()
    model: nnx.Module = jaxcam.digits() if options.data == "canvases" else jaxcam.efficientnet_lite0()
    cuts = {layer: jaxcam.cut(model, layer) for layer in LAYERS[options.data]}
    first = next(iter(cuts.values()))
    if options.data == "canvases":
        count, cases = read_canvases(first, options.count)
    else:
        count, cases = read_pets(first, real_photographs.assets(parser), options.count)
    result = {"data": options.data, "images": count} | measure(cuts, cases, options.epsilon / 255, options.steps)
    print(
        f"{result['classified rightly']} of {count} {options.data} are classified rightly; after the attack "
        f"(epsilon {options.epsilon:g}/255, {options.steps} steps) the absent class has a probability above {SURE} on "
        f"{result['sure of the absent class']:.1%} of them, its median is "
        f"{result['median probability of the absent class']:.6f}, and that of the class that is there "
        f"{result['median probability of the class that is there']:.1e}; the objects have {result['area']:.3f} of the "
        f"area"
    )
    for layer, rows in result["rows"].items():
        print(f"\n{layer}\n\n{table(rows)}")
    if options.json:
        replace(options.json, (json.dumps(as_json(result), indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
