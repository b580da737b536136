"""Does a report of where maps lie find a tag that a network learned in the place of its class, and what mends it?

    python -m examples.bias.canvases --images 2000 --epochs 12 --seeds 5 --out build/bias

Canvases of two digits that look alike, 3 and 8. Some carry a small magenta square. In the biased training set it goes
with the class: 22% of the threes and 93% of the eights have it, as 78% of the doctors were men and 93% of the nurses
women in the Grad-CAM paper. In the test set half of each class have it. A small network is trained three times on
equally many canvases:

- "biased": on the biased set;
- "balanced": on a set in which half of each class have the square, the paper's remedy;
- "right reasons": on the biased set, with a penalty on the map outside the boxes of the digits.

It prints the accuracy of each on the balanced test set, also of the canvases whose square speaks for the other class,
and the report: the share of each network's maps on the square and on the digits, by class.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import jaxcam
from examples.bias.penalized import mean_loss
from examples.digits import canvases

CLASSES = (3, 8)
TAG = np.array([1.0, 0.0, 1.0], np.float32)
TAG_SIDE = 9
# The share of a class's canvases with the square.
BIASED, BALANCED = (0.22, 0.93), (0.5, 0.5)
BATCH, RATE, PENALTY = 32, 2e-3, 1e-3
LAYER = "block3_conv2"


class Tagged(NamedTuple):
    """Canvases with their classes, 0 or 1, and the masks of digits and squares; a mask of a square may be empty."""

    images: np.ndarray
    labels: np.ndarray
    digits: np.ndarray
    tags: np.ndarray


def draw(seed: int, split: str, count: int, shares: tuple[float, float]) -> Tagged:
    """`count` canvases of a split, half of each class, of which `shares` have the square."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = i % 2
        canvas = canvases.draw(rng, split, copies=1, label=CLASSES[label])
        image, digit = canvas.image.copy(), np.zeros((64, 64), bool)
        (row0, column0, row1, column1) = canvas.boxes[0]
        digit[row0:row1, column0:column1] = True
        tag = np.zeros((64, 64), bool)
        if rng.uniform() < shares[label]:
            while not tag.any() or (tag & digit).any():
                tag[:] = False
                row, column = rng.integers(0, 64 - TAG_SIDE, 2)
                tag[row : row + TAG_SIDE, column : column + TAG_SIDE] = True
            image[tag] = TAG
        rows.append((image, label, digit, tag))
    return Tagged(*(np.stack(column) for column in zip(*rows, strict=True)))


def new_cut(seed: int) -> jaxcam.Cut:
    """A small network, cut at its last convolution."""
    model = jaxcam.vgg_digits(
        blocks=((8, 8), (16, 16), (32, 32)), dense=(32,), classes=len(CLASSES), rngs=nnx.Rngs(seed)
    )
    return jaxcam.cut(model, LAYER)


@functools.partial(jax.jit, static_argnames=("penalized", "steps"))
def train_step(cut, state, images, labels, digits, *, penalized, steps):
    """One step of Adam on the cross-entropy of a batch, with the penalty on maps outside the digits if asked."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def loss(params):
        return mean_loss(cut, params, images, labels, digits, penalty=PENALTY if penalized else 0)

    value, gradient = jax.value_and_grad(loss)(cut.params)
    updates, state = optimizer.update(gradient, state)
    return dataclasses.replace(cut, params=optax.apply_updates(cut.params, updates)), state, value


def train(data: Tagged, *, epochs: int, seed: int, penalized: bool = False) -> jaxcam.Cut:
    """The network after some epochs on the canvases."""
    cut, rng = new_cut(seed), np.random.default_rng(seed)
    steps = epochs * (len(data.images) // BATCH)
    state = optax.adam(optax.cosine_decay_schedule(RATE, steps)).init(cut.params)
    for _ in range(steps):
        rows = rng.integers(0, len(data.images), BATCH)
        cut, state, _ = train_step(
            cut, state, data.images[rows], data.labels[rows], data.digits[rows], penalized=penalized, steps=steps
        )
    return cut


@jax.jit
def outputs_and_maps(cut, images, labels):
    """The predicted classes, and the maps of the true ones."""

    def of_image(pair):
        image, label = pair
        return cut.head(cut.params, cut.features(cut.params, image), image).argmax(), jaxcam.grad_cam(cut, image, label)

    return jax.lax.map(of_image, (images, labels))


def main():
    """Train three networks for each seed, and print their accuracies and the report of the last seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="training canvases (default: 1000)")
    parser.add_argument("--test", type=int, default=200, help="test canvases (default: 200)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="a folder for the accuracies and the figure of mean maps")
    options = parser.parse_args()
    test = draw(1, "test", options.test, BALANCED)
    against = test.tags.any((1, 2)) == (test.labels == 0)  # a three with the square, an eight without
    accuracies: dict[str, list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        biased, balanced = (draw(100 + seed, "train", options.images, shares) for shares in (BIASED, BALANCED))
        cuts = {
            "biased": train(biased, epochs=options.epochs, seed=seed),
            "balanced": train(balanced, epochs=options.epochs, seed=seed),
            "right reasons": train(biased, epochs=options.epochs, seed=seed, penalized=True),
        }
        maps = {}
        for name, cut in cuts.items():
            predicted, maps[name] = map(np.asarray, outputs_and_maps(cut, test.images, test.labels))
            right = predicted == test.labels
            accuracies.setdefault(name, []).append((float(right.mean()), float(right[against].mean())))
    print(f"accuracy on {len(test.images)} balanced test canvases, and on those whose square speaks against the class:")
    for name, rows in accuracies.items():
        means, shown = np.mean(rows, 0), ", ".join(f"{whole:.3f}" for whole, _ in rows)
        print(f"  {name}: {means[0]:.3f}, {means[1]:.3f}  (by seed: {shown})")
    groups = [str(CLASSES[label]) for label in test.labels]
    report = jaxcam.analysis.bias.evidence_by_group(maps, {"square": test.tags, "digit": test.digits}, groups)
    print(f"\n{report}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "accuracies.json").write_text(json.dumps(accuracies, indent=2) + "\n")
        figure = jaxcam.plots.mean_maps(test.images, maps, groups)
        jaxcam.plots.save(figure, options.out / "mean_maps.png", force=True)


if __name__ == "__main__":
    main()
