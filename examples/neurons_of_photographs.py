"""What do the last layers of EfficientNet-Lite0 detect, and do the named channels matter? Dissection on photographs.

    JAXCAM_ASSETS=../shared/assets python -m examples.neurons_of_photographs --json neurons.json

Network Dissection (Bau et al., CVPR 2017) with concepts of three data sets: the classes of CamVid's street frames, the
classes of COCO, by their polygons, and the cats, dogs and breeds of Oxford-IIIT Pet, by their trimaps; of all those
that at least 10 photographs show. A concept counts on the photographs that are labeled for it alone: frames of streets
say nothing of cats. What differs from Broden, the paper's data: hundreds of photographs in the place of 63,305, objects
alone, no parts, materials, textures or colors, and polygons that may miss pieces of an object.

The sizes of the concepts matter. A channel is active at 0.5% of all locations, so that it cannot overlap much with a
concept that fills a large part of the photographs, and overlaps easily with one of a few small objects. With 100 pets
and classes of 5 photographs (`--pets 100 --least-photographs 5`) channels for cats are called birds and broccoli.

The script prints what each layer detects, and explains test photographs of pets in words, as the Grad-CAM paper does:
the named channels of the largest and the smallest alpha_k of the most probable class. It explains at the expansion of
the last block, not at the last layer: there the head is a mean and a linear layer, so alpha_k is a weight of the
classifier, and all photographs of a class have the same words. Three checks:

- the share of the important channels, and of the opposing ones, whose name is the animal's own kind ("cat" or a breed
  of cats for a cat), beside the share of all named channels with such a name: what a choice at random has;
- the name that is given most often for cats and for dogs;
- what the score loses without the important channels, beside as many that are drawn at random, and beside as many of
  the largest alpha_k whatever their name.
"""

import argparse
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np

import jaxcam
from benchmarks import timing
from examples import real_photographs, stored_pictures
from examples.fitting_photographs import CAT_BREEDS
from jaxcam.analysis import Dissection
from jaxcam.evaluation import paired_estimates
from jaxcam.runtime import replace

SHAPE, MASKS = (224, 224), (56, 56)
LAYERS = ("blocks/11/expand", "head", "blocks/15/expand")
BREEDS = ("Abyssinian", "Bengal", "american_bulldog")
# CamVid's names of what COCO knows by another name.
RENAMED = {"pedestrian": "person"}


class Concepts(NamedTuple):
    """Photographs `[n 224 224 3]`, and by concept the masks `[n 56 56]` and the photographs that are labeled `[n]`."""

    images: np.ndarray
    masks: dict[str, np.ndarray]
    labeled: dict[str, np.ndarray]


def join(parts: list[tuple[np.ndarray, dict[str, np.ndarray]]], least: int) -> Concepts:
    """One set of photographs, each part labeled for its own concepts; concepts of fewer photographs are left out."""
    counts = [len(images) for images, _ in parts]
    starts = np.cumsum([0, *counts])
    masks: dict[str, np.ndarray] = {}
    labeled: dict[str, np.ndarray] = {}
    for start, count, (_, by_name) in zip(starts, counts, parts, strict=False):
        for name, own in by_name.items():
            masks.setdefault(name, np.zeros((starts[-1], *MASKS), bool))[start : start + count] = own
            labeled.setdefault(name, np.zeros(starts[-1], bool))[start : start + count] = True
    shown = {name for name, own in masks.items() if own.any((1, 2)).sum() >= least}
    return Concepts(
        np.concatenate([images for images, _ in parts]),
        {name: own for name, own in masks.items() if name in shown},
        {name: own for name, own in labeled.items() if name in shown},
    )


def read_camvid(folder: pathlib.Path, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames of the training split, spread evenly, and the masks of their classes."""
    with np.load(folder / "camvid" / "train.npz") as file:
        frames = real_photographs.spread(list(range(len(file["names"]))), count)
    masks = stored_pictures.camvid_masks(folder, frames, MASKS)
    images = stored_pictures.read(folder / "camvid" / "train.npz", SHAPE, of=frames)
    return images, {RENAMED.get(name, name): own for name, own in masks.items()}


def read_coco(folder: pathlib.Path, split: str, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The photographs of a split that have polygons, and the masks of all classes, which it is labeled for."""
    chosen, masks = stored_pictures.coco_masks(folder, split, MASKS)
    rows = real_photographs.spread(list(range(len(chosen))), count)
    images = stored_pictures.read(folder / "coco" / "images.npz", SHAPE, of=[chosen[row] for row in rows])
    classes = json.loads((folder / "coco" / "annotations.json").read_text())["classes"]
    empty = np.zeros((len(chosen), *MASKS), bool)
    return images, {name: masks.get(name, empty)[rows] for name in classes}


def read_pets(folder: pathlib.Path, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Training photographs, and the masks of the cats, of the dogs and of each breed."""
    listed = jaxcam.datasets.csv(
        folder / "pets" / "index.csv", root=folder / "pets" / "images", masks=folder / "pets" / "trimaps",
        classes=list(BREEDS), columns={"image": "file"}, inside=(1,), ignore=(3,), where={"split": "train"},
    )  # fmt: skip
    images, animals, names = [], [], []
    for example in real_photographs.spread(listed, count):
        try:
            large, small = (jaxcam.datasets.load(example, shape) for shape in (SHAPE, MASKS))
        except ValueError as error:  # one trimap has no animal
            print(f"left out: {error}")
            continue
        images.append(np.asarray(large.image))
        animals.append(np.asarray(small.mask) == 1)
        names.append(BREEDS[example.label or 0])
    animal, is_cat = np.stack(animals), np.array([name in CAT_BREEDS for name in names])[:, None, None]
    masks = {"cat": animal & is_cat, "dog": animal & ~is_cat}
    masks |= {breed: animal & (np.array(names) == breed)[:, None, None] for breed in BREEDS}
    return np.stack(images), masks


def own_names(breed: str) -> set[str]:
    """The concepts that are the animal's own kind."""
    return {"cat", *CAT_BREEDS} if breed in CAT_BREEDS else {"dog", "american_bulldog"}


def share_of(names: list[str], wanted: set[str]) -> float:
    """The share of names that are among those that are wanted; NaN without names."""
    return float(np.mean([name in wanted for name in names])) if names else float("nan")


class Explained(NamedTuple):
    """A photograph's breed, the names of its channels, and what the score loses without three sets of channels."""

    breed: str
    important: list[str]
    opposing: list[str]
    losses: tuple[float, float, float]


def explain(
    cut: jaxcam.Cut, dissection: Dissection, path: pathlib.Path, breed: str, names: tuple[str, ...], number: int
) -> Explained:
    """Print a photograph's explanation in words, and check it."""
    image = real_photographs.read(path)
    outputs = cut.head(cut.params, cut.features(cut.params, image), image)
    target = int(outputs.argmax())
    words = jaxcam.analysis.explain_in_words(cut, image, target, dissection=dissection)
    print(f"\n{path.name} ({breed}), seen as {names[target]}, {jax.nn.softmax(outputs)[target]:.0%}\n{words}")
    # All channels named, so that its five important ones are those of the largest weights.
    every = dissection._replace(iou=np.maximum(dissection.iou, 1.0))
    largest = jaxcam.analysis.explain_in_words(cut, image, target, dissection=every, count=len(words.important) or 1)
    losses = []
    for neurons in (words.important, largest.important):
        channels = [neuron.channel for neuron in neurons] or [0]
        key = jax.random.fold_in(jax.random.key(0), number)
        losses.append(jaxcam.analysis.ablation(cut, image, target, key, channels=channels))
    named, unnamed = losses
    return Explained(
        breed, [neuron.name for neuron in words.important], [neuron.name for neuron in words.opposing],
        (float(named.random_drops.mean()), named.drop, unnamed.drop),
    )  # fmt: skip


def summary(explained: list[Explained], dissection: Dissection) -> dict[str, float | list[dict]]:
    """The checks, printed and as figures."""
    known = [name for name in dissection.names if name]
    shares = {
        side: float(np.nanmean([share_of(getattr(row, side), own_names(row.breed)) for row in explained]))
        for side in ("important", "opposing")
    }
    chance = float(np.mean([share_of(known, own_names(row.breed)) for row in explained]))
    print(
        f"\nnames of the animal's own kind: {shares['important']:.0%} of the important channels, "
        f"{shares['opposing']:.0%} of the opposing ones, {chance:.0%} of all named channels"
    )
    for word, is_cat in (("cats", True), ("dogs", False)):
        given = [name for row in explained if (row.breed in CAT_BREEDS) is is_cat for name in row.important]
        counts = sorted({name: given.count(name) for name in given}.items(), key=lambda pair: -pair[1])[:6]
        print(f"important for {word}: " + ", ".join(f"{name} {count}" for name, count in counts))
    estimates = paired_estimates(np.array([row.losses for row in explained])[:, None], 0)[0]
    for label, estimate in zip(("random", "named", "largest alpha"), estimates, strict=True):
        interval = f"[{estimate.difference_low:+.2f}, {estimate.difference_high:+.2f}]"
        beside = "" if label == "random" else f", {estimate.difference:+.2f} {interval} beside random ones"
        print(f"without the {label} channels the score falls by {estimate.mean:.2f}{beside}")
    return {**shares, "chance": chance, "losses": [estimate._asdict() for estimate in estimates]}


def main():
    """Dissect the layers, explain photographs, and check the explanations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="of CamVid, and of COCO's two splits (default: 100)")
    parser.add_argument("--pets", type=int, default=25, help="photographs of pets (default: 25)")
    parser.add_argument("--least-photographs", type=int, default=10, help="that show a concept (default: 10)")
    parser.add_argument("--test", type=int, default=22, help="pets that are explained (default: 20)")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), help="the last one explains (default: three)")
    parser.add_argument("--least-iou", type=float, default=0.04)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args()
    folder = real_photographs.assets(parser)
    concepts = join(
        [
            read_camvid(folder, options.count),
            *(read_coco(folder, split, options.count) for split in ("train", "val")),
            read_pets(folder, options.pets),
        ],
        options.least_photographs,
    )
    print(f"{len(concepts.images)} photographs, {len(concepts.masks)} concepts", flush=True)
    model = jaxcam.efficientnet_lite0()
    figures = {}
    for layer in options.layers:
        cut = jaxcam.cut(model, layer)
        dissection = jaxcam.analysis.dissect(
            cut, concepts.images, concepts.masks, labeled=concepts.labeled, least_iou=options.least_iou
        )
        print(f"\n{dissection}", flush=True)
        figures[layer] = {concept: len(dissection.channels(concept)) for concept in dissection.concepts}
    labeled = real_photographs.spread(real_photographs.photographs(folder), options.test)
    names = model.class_names or ()
    explained = [explain(cut, dissection, path, breed, names, i) for i, (path, breed) in enumerate(labeled)]
    checks = summary(explained, dissection)
    if options.json:
        kept = {"photographs": len(concepts.images), "channels": figures, "checks": checks}
        replace(options.json, (json.dumps(kept | {"machine": timing.machine()}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
