"""Which fit of a photograph to the network's input finds the animal: EfficientNet-Lite0 on photographs of pets.

    JAXCAM_ASSETS=../shared/assets python -m examples.fitting_photographs

A photograph is seldom square. `jaxcam.datasets.load` and the command line's `--fit` know four ways to make it so:
"stretch" squashes the whole photograph, "crop" takes the center as networks are evaluated on ImageNet, "square" takes
the largest square in the center, and "pad" keeps the whole photograph at its aspect between gray bars. For each the
script prints the share of the test photographs whose most probable class is a cat or a dog, and the share whose most
probable class is of the animal's own kind. ImageNet has 118 classes of domestic dogs and 5 of domestic cats.
"""

import argparse
import pathlib

import jax
import numpy as np

import jaxcam
from examples import real_photographs

# The photographs' breeds that are cats; all others are dogs.
CAT_BREEDS = {"Abyssinian", "Bengal"}
DOGS, CATS = range(151, 269), range(281, 286)


def shares(model, labeled: list[tuple[pathlib.Path, str]], fit: str) -> tuple[float, float]:
    """The share of photographs with a class of a cat or a dog, and that with one of the animal's own kind."""
    forward = jax.jit(lambda cut, image: cut.head(cut.params, cut.features(cut.params, image), image).argmax())
    cut = jaxcam.cut(model, "head", image_shape=model.image_shape)
    animals, own_kind = [], []
    for path, breed in labeled:
        image = jaxcam.datasets.load(jaxcam.Example(path), model.image_shape[:2], fit=fit).image
        predicted = int(forward(cut, image))
        animals.append(predicted in DOGS or predicted in CATS)
        own_kind.append(predicted in (CATS if breed in CAT_BREEDS else DOGS))
    return float(np.mean(animals)), float(np.mean(own_kind))


def main() -> None:
    """Print a row for each fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="number of test photographs, spread evenly (default: all 150)")
    options = parser.parse_args()
    photographs = real_photographs.photographs(real_photographs.assets(parser))
    labeled = real_photographs.spread(photographs, options.limit)
    model = jaxcam.efficientnet_lite0()
    print(f"{len(labeled)} test photographs\n| fit | a cat or a dog | the animal's own kind |\n|---|---|---|")
    for fit in jaxcam.datasets.FITS:
        animal, own_kind = shares(model, labeled, fit)
        print(f"| {fit} | {animal:.1%} | {own_kind:.1%} |", flush=True)


if __name__ == "__main__":
    main()
