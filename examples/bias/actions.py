"""Actions that a network tells by their place: Biased Action Recognition, with a tuned EfficientNet-Lite0.

    JAXCAM_ASSETS=../shared/assets python -m examples.bias.actions --out build/actions --seeds 3

In the training photographs of BAR (Nam et al., "Learning from failure", NeurIPS 2020) each action goes with one place,
such as climbing with a wall of rock; in its test photographs the actions are elsewhere, such as on ice. The last layers
of EfficientNet-Lite0 are trained on 80% of the training photographs, and tested on the others, which show the usual
places, and on the test photographs, which show new ones. BAR has no boxes. The actor's region is that of a probe for
persons and vehicles (`examples.bias.actors`), and the place is the rest of the photograph.

- "biased": trained on the photographs as they are;
- "balanced": in each class, photographs of new places replace as many of the usual ones: half of the test photographs,
  and the network is tested on the other half, so two networks serve each seed. The halves share series of photographs,
  so the accuracy on those that are least like any of the other half is printed too;
- "masked": trained and tested on photographs whose places are gray;
- "right reasons": with a penalty on the maps outside the actor's region.

It prints the accuracies; what the accuracy of the biased network is if actors or places are gray; and which share of
the maps lies on the actors. Intervals are over photographs; the accuracy on a photograph is the mean over seeds. A
killed run goes on with the activations and the seeds that are in `--out`. What differs from the paper: 1,289 of its
2,595 photographs, those with a known free license or host, and a network that knows ImageNet.
"""

import argparse
import csv
import functools
import json
import pathlib
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

import jaxcam
from benchmarks import timing
from examples import real_photographs, stored_pictures
from examples.bias import actors, tuning
from examples.kept_arrays import kept_arrays
from jaxcam.analysis.bias import Evidence, evidence_by_group
from jaxcam.evaluation import paired_estimates
from jaxcam.runtime import replace

CLASSES = ("climbing", "diving", "fishing", "pole vaulting", "racing", "throwing")
VARIANTS = ("biased", "balanced", "masked", "right reasons")
HELD_OUT = 0.2
GRAY = 0.5
CHUNK = 64


class Photographs(NamedTuple):
    """Activations `[n 7 7 k]`: whole, with a gray place, with gray actors; classes; the actors' masks `[n 14 14]`."""

    whole: np.ndarray
    actor_alone: np.ndarray
    place_alone: np.ndarray
    labels: np.ndarray
    actors: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Photographs":
        """The chosen ones."""
        return Photographs(*(column[chosen] for column in self))


def read(folder: pathlib.Path, split: str, limit: int | None, probe: actors.Probe) -> Photographs:
    """The photographs of a split, spread evenly if there is a limit."""
    with (folder / "bar_bias" / "index.csv").open() as file:
        listed = [(i, int(row["label"])) for i, row in enumerate(csv.DictReader(file)) if row["split"] == split]
    listed = real_photographs.spread(listed, limit)
    cut = jaxcam.cut(jaxcam.efficientnet_lite0(), tuning.KEPT)
    parts = []
    chunks = [listed[i : i + CHUNK] for i in range(0, len(listed), CHUNK)]
    for chunk in track(chunks, f"{split} photographs", console=Console(stderr=True)):
        pictures = stored_pictures.read(
            folder / "bar_bias" / "images.npz", tuning.SHAPE, of=[number for number, _ in chunk]
        )
        masks = probe.masks(actors.values_of(pictures))
        size = tuning.SHAPE[0] // actors.SIDE
        fine = masks.repeat(size, 1).repeat(size, 2)[..., None]
        versions = pictures, np.where(fine, pictures, GRAY), np.where(fine, GRAY, pictures)
        kept = [tuning.activations_of(cut, version.astype(np.float32)).astype(np.float16) for version in versions]
        parts.append((*kept, np.array([label for _, label in chunk]), masks))
    return Photographs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def read_splits(folder: pathlib.Path, limit: int | None) -> dict[str, np.ndarray]:
    """The photographs of both splits by "split/field", and the IoU of the probe that finds the actors."""
    probe = actors.trained_probe(folder)
    arrays = {"probe IoU": np.array(probe.iou)}
    for split in ("train", "test"):
        fields = read(folder, split, limit, probe)._asdict()
        arrays |= {f"{split}/{name}": array for name, array in fields.items()}
    return arrays


def split_by_class(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which examples belong to a share of each class, drawn at random.

    Example:
      >>> split_by_class(np.array([0, 0, 0, 0, 1, 1]), 0.5, 0).sum()
      3
    """
    rng, chosen = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen[rows[: round(share * len(rows))]] = True
    return chosen


def balanced(usual: Photographs, new: Photographs, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations and classes: photographs of new places, and of usual ones that many less in each class."""
    rng = np.random.default_rng(seed)
    kept = []
    for label in range(len(CLASSES)):
        rows = rng.permutation(np.flatnonzero(usual.labels == label))
        kept.append(rows[min((new.labels == label).sum(), len(rows) // 2) :])
    rows = np.concatenate(kept)
    return np.concatenate([usual.whole[rows], new.whole]), np.concatenate([usual.labels[rows], new.labels])


def measure(
    train: Photographs, usual: Photographs, new: Photographs, *, seed: int, steps: int
) -> dict[str, np.ndarray]:
    """Of each network, by "variant/photographs", whether it is right, and by "variant/maps" its maps on new places."""
    fit = functools.partial(tuning.train, classes=len(CLASSES), steps=steps, seed=seed)
    reasons = tuning.coarse(train.actors)
    cuts = {
        "biased": fit(train.whole, train.labels),
        "masked": fit(train.actor_alone, train.labels),
        "right reasons": fit(train.whole, train.labels, masks=reasons),
    }
    result: dict[str, np.ndarray] = {}
    for name, cut in cuts.items():
        for places, shown in (("usual", usual), ("new", new)):
            x = shown.actor_alone if name == "masked" else shown.whole
            result[f"{name}/{places}"] = tuning.predictions(cut, x) == shown.labels
        result[f"{name}/maps"] = tuning.maps_of(cut, x, new.labels)
    biased = cuts["biased"]
    for places, shown in (("usual", usual), ("new", new)):
        result[f"actor alone/{places}"] = tuning.predictions(biased, shown.actor_alone) == shown.labels
        result[f"place alone/{places}"] = tuning.predictions(biased, shown.place_alone) == shown.labels
        predicted = tuning.predictions(biased, shown.whole)
        result[f"predicted/{places}"] = tuning.maps_of(biased, shown.whole, predicted)
    first = split_by_class(new.labels, 0.5, 0)
    result |= {"balanced/new": np.zeros(len(new.labels), bool), "balanced/maps": np.zeros_like(result["biased/maps"])}
    right_on_usual = []
    for tested in (first, ~first):
        cut = fit(*balanced(train, new.rows(~tested), seed))
        result["balanced/new"][tested] = tuning.predictions(cut, new.whole[tested]) == new.labels[tested]
        result["balanced/maps"][tested] = tuning.maps_of(cut, new.whole[tested], new.labels[tested])
        right_on_usual.append(tuning.predictions(cut, usual.whole) == usual.labels)
    result["balanced/usual"] = np.mean(right_on_usual, 0)
    return result


def least_alike(new: Photographs, share: float = 0.25) -> np.ndarray:
    """The share of photographs whose most alike photograph in the other half of the new places is least alike.

    Both halves have photographs of the same series, which a network that is trained on one half knows. Alike is the
    cosine of the mean activations, less their mean over photographs.
    """
    means = new.whole.astype(np.float32).mean((1, 2))
    means -= means.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    first = split_by_class(new.labels, 0.5, 0)
    most = np.where(first[:, None] != first, means @ means.T, -1).max(1)
    return most <= np.quantile(most, share)


def accuracies(seeds: list[dict[str, np.ndarray]], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """A row for each network: its accuracies, and the paired difference from the biased one on new places."""
    means = {name: np.mean([seed[name] for seed in seeds], 0) for name in seeds[0] if not name.endswith("maps")}
    matrix = np.stack([means[f"{name}/new"] for name in VARIANTS], -1)[:, None]
    rows = {}
    for name, estimate in zip(VARIANTS, paired_estimates(matrix, 0)[0], strict=True):
        by_class = [means[f"{name}/new"][labels == label].mean() for label in np.unique(labels)]
        rows[name] = {"usual": float(means[f"{name}/usual"].mean()), "by class": float(np.mean(by_class))}
        rows[name] |= estimate._asdict()
    return rows


def accuracy_table(rows: dict[str, dict[str, float]]) -> str:
    """The rows as Markdown."""
    lines = ["| network | usual places | new places | mean over classes | minus biased |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        interval = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
        new = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        shown = "–" if name == "biased" else interval
        lines.append(f"| {name} | {row['usual']:.3f} | {new} | {row['by class']:.3f} | {shown} |")
    return "\n".join(lines)


def reports(seed: dict[str, np.ndarray], usual: Photographs, new: Photographs) -> list[Evidence]:
    """Where the maps of each network lie on new places, by action and in all; those of the biased one by outcome."""
    maps = {name: seed[f"{name}/maps"] for name in VARIANTS}
    region = {"actor": new.actors}
    outcomes = ["usual place, right" if right else "usual place, wrong" for right in seed["biased/usual"]]
    outcomes += ["new place, right" if right else "new place, wrong" for right in seed["biased/new"]]
    both = np.concatenate([seed["predicted/usual"], seed["predicted/new"]])
    actors_of_both = np.concatenate([usual.actors, new.actors])
    return [
        evidence_by_group(maps, region, [CLASSES[label] for label in new.labels]),
        evidence_by_group(maps, region, ["all actions"] * len(new.labels)),
        evidence_by_group({"biased, predicted class": both}, {"actor": actors_of_both}, outcomes),
    ]


def main():
    """Train the networks of each seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="a folder for the seeds' results")
    parser.add_argument("--steps", type=int, default=200, help="of 32 photographs (default: 200)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, help="number of photographs of each split (default: all)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the accuracies to this file")
    options = parser.parse_args()
    folder = real_photographs.assets(parser)
    options.out.mkdir(parents=True, exist_ok=True)
    arrays = kept_arrays(options.out / "photographs.npz", functools.partial(read_splits, folder, options.limit))
    known, new = (
        Photographs(*(arrays[f"{split}/{field}"] for field in Photographs._fields)) for split in ("train", "test")
    )
    held_out = split_by_class(known.labels, HELD_OUT, 0)
    train, usual = known.rows(~held_out), known.rows(held_out)
    seeds = []
    for seed in range(options.seeds):
        measured = functools.partial(measure, train, usual, new, seed=seed, steps=options.steps)
        seeds.append(kept_arrays(options.out / f"seed_{seed}.npz", measured))
        shown = ", ".join(f"{name} {seeds[-1][f'{name}/new'].mean():.3f}" for name in VARIANTS)
        print(f"seed {seed}: accuracy on new places: {shown}", flush=True)
    rows, iou = accuracies(seeds, new.labels), float(arrays["probe IoU"])
    hidden = {
        f"{shown}, {places} places": float(np.mean([seed[f"{shown}/{places}"].mean() for seed in seeds]))
        for shown in ("actor alone", "place alone")
        for places in ("usual", "new")
    }
    print(
        f"\nthe probe's IoU on COCO: {iou:.3f}; {len(train.labels)} photographs to train with, "
        f"{len(usual.labels)} of usual places and {len(new.labels)} of new ones to test; "
        f"{options.seeds} seeds\n\n{accuracy_table(rows)}\n"
    )
    print("accuracy of the biased network, the rest gray: " + "; ".join(f"{k} {v:.3f}" for k, v in hidden.items()))
    far = least_alike(new)
    apart = {name: float(np.mean([seed[f"{name}/new"][far].mean() for seed in seeds])) for name in VARIANTS}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in apart.items())
    print(f"accuracy on the {far.sum()} new places that are least like one of the other half: {shown}")
    for report in reports(seeds[0], usual, new):
        print(f"\n{report}")
    if options.json:
        kept = {"steps": options.steps, "seeds": options.seeds, "probe IoU": iou, "rows": rows, "hidden": hidden}
        kept["least alike"] = apart
        replace(options.json, (json.dumps(kept | {"machine": timing.machine()}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
