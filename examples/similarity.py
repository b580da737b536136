"""What makes two photographs alike? Maps of the similarity of their embeddings, measured on pets.

    export JAXCAM_ASSETS=../shared/assets
    python -m examples.similarity                                    (150 photographs, minutes on a CPU)
    python -m examples.similarity --limit 9                          (a quick test)
    python -m examples.similarity --limit 9 --figure alike.png       (and a figure of one pair)

The embedding is what the classifier of EfficientNet-Lite0 reads, 1,280 numbers. The score is the cosine of a
photograph's embedding and a reference photograph's, `scores.similarity`: the map on the first says what makes it
similar to the second. The photographs are the test split of Oxford-IIIT Pet. Each is compared with the next one of its
breed, and by Grad-CAM also with one of another breed.

The two tables have pointing and energy on the animal's mask, the trimap without its border, with 95% intervals, and the
paired differences from Grad-CAM. Two photographs may share a background: a map that is right may lie there. The
last lines tell whether the embedding knows breeds at all, and whether a reference of the same breed moves Grad-CAM onto
the animal more than one of another breed does.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam
from examples import real_photographs
from examples.places import tables
from jaxcam import datasets, plots, scores
from jaxcam.evaluation import Estimate, paired_estimates
from jaxcam.runtime import replace

LAYER = "head"  # the last convolution, 7 x 7
SIDE = 224
OTHER = "another breed"


class Photographs(NamedTuple):
    """Photographs `[n 224 224 3]`, breeds `[n]`, and the masks of animals and of pixels that do not count."""

    images: np.ndarray
    breeds: np.ndarray
    masks: np.ndarray
    ignored: np.ndarray


class Identity(nnx.Module):
    """The embedding as it is, in the place of the classifier."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Its argument."""
        return x


def embedder() -> Any:
    """EfficientNet-Lite0 whose output is its embedding."""
    model: Any = jaxcam.efficientnet_lite0()
    model.classifier = Identity()
    return model


def read(folder: pathlib.Path, count: int | None) -> Photographs:
    """The test photographs, spread evenly over the breeds."""
    breeds = sorted({breed for _, breed in real_photographs.photographs(folder)})
    listed = real_photographs.spread(real_photographs.with_masks(folder, breeds), count)
    loaded = [datasets.load(example, (SIDE, SIDE)) for example in listed]
    images = np.stack([np.asarray(example.image) for example in loaded])
    trimaps = np.stack([np.asarray(example.mask) for example in loaded])  # 1 on the animal, -1 on its border
    return Photographs(images, np.array([example.label for example in listed]), trimaps == 1, trimaps < 0)


def references(breeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each photograph the next one of its breed, and the one of the next breed at the same place; both cyclic.

    Example:
      >>> [each.tolist() for each in references(np.array([0, 0, 1, 1]))]
      [[1, 0, 3, 2], [2, 3, 0, 1]]
    """
    groups = {breed: np.flatnonzero(breeds == breed) for breed in np.unique(breeds)}
    if len(groups) < 2 or min(map(len, groups.values())) < 2:
        raise ValueError("expected at least two photographs of each of two breeds")
    order, same, other = list(groups), np.zeros(len(breeds), int), np.zeros(len(breeds), int)
    for number, breed in enumerate(order):
        group, next_group = groups[breed], groups[order[(number + 1) % len(order)]]
        same[group] = np.roll(group, -1)
        other[group] = np.resize(next_group, len(group))
    return same, other


def measure(cut: jaxcam.Cut, photographs: Photographs, embeddings: np.ndarray, names: Sequence[str]) -> tables.Table:
    """Pointing and energy of every map with the reference of the same breed, and Grad-CAM's with that of another."""

    @jax.jit
    def measured(cut, image, same, other, mask, ignored, key):
        maps = tables.maps_of(cut, image, same, scores.similarity, key, names)
        maps[OTHER] = jaxcam.grad_cam(cut, image, other, score=scores.similarity)
        return {name: tables.placed(saliency, mask, ignored) for name, saliency in maps.items()}

    same, other = references(photographs.breeds)
    samples = []
    for i, (image, mask, ignored) in enumerate(
        zip(photographs.images, photographs.masks, photographs.ignored, strict=True)
    ):
        key = jax.random.key(i)
        samples.append([measured(cut, image, embeddings[same[i]], embeddings[other[i]], mask, ignored, key)])
    return tables.table_of(samples)


def nearest_is_of_the_breed(embeddings: np.ndarray, breeds: np.ndarray) -> float:
    """The share of photographs whose most similar other photograph has their breed."""
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = units @ units.T
    np.fill_diagonal(cosines, -np.inf)
    return float((breeds[cosines.argmax(1)] == breeds).mean())


def lines_of(kept: dict[str, Any]) -> Sequence[str]:
    """What follows the tables."""
    estimate = Estimate(**kept["same minus other breed"])
    return [
        f"the most similar photograph has the same breed: {kept['nearest']:.1%}",
        f"energy of Grad-CAM at {LAYER}, a reference of the same breed minus one of another: "
        f"{tables.difference_text(estimate)}",
    ]


def figure(cut: jaxcam.Cut, photographs: Photographs, embeddings: np.ndarray, path: pathlib.Path) -> None:
    """Draw one photograph with its map for a reference of its breed, and the reverse."""
    first, second = 0, int(references(photographs.breeds)[0][0])
    pairs = [(first, second), (second, first)]
    maps = [
        jaxcam.grad_cam(cut, photographs.images[i], jnp.asarray(embeddings[j]), score=scores.similarity)
        for i, j in pairs
    ]
    plots.save(plots.compare([photographs.images[i] for i, _ in pairs], {"similarity": maps}), path, force=True)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="number of photographs, spread over the breeds (default: all 150)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--figure", type=pathlib.Path, metavar="FILE", help="draw a pair")
    tables.add_only(parser)
    options = parser.parse_args()
    names = tables.checked_only(parser, options)
    photographs = read(real_photographs.assets(parser), options.limit)
    cut = jaxcam.cut(embedder(), LAYER)
    embed = jax.jit(lambda cut, image: cut.head(cut.params, cut.features(cut.params, image), image))
    embeddings = np.stack([np.asarray(embed(cut, image)) for image in photographs.images])
    if options.figure is not None:
        figure(cut, photographs, embeddings, options.figure)
    table = measure(cut, photographs, embeddings, names)
    kept: dict[str, Any] = {"table": tables.described(table, len(photographs.images))}
    print(f"{tables.markdown(f'similarity at {LAYER}', kept['table'])}\n", flush=True)
    rows = [table.methods.index(name) for name in (OTHER, tables.REFERENCE)]
    energy = table.matrix[:, [table.columns.index("energy")]][..., rows]
    kept["same minus other breed"] = paired_estimates(energy, 0)[0][1]._asdict()
    kept["nearest"] = nearest_is_of_the_breed(embeddings, photographs.breeds)
    print("\n".join(lines_of(kept)))
    if options.json is not None:
        replace(options.json, (json.dumps(kept) + "\n").encode())


if __name__ == "__main__":
    main()
