"""Tables of maps of masks, boxes and clips, with controls: do they lie on what they explain?

    python -m examples.places.tables                                    (200 scenes and 240 clips, minutes on a CPU)
    python -m examples.places.tables --scenes 20 --clips 12             (a quick test)
    python -m examples.places.tables --json FILE                        (and keeps the figures; a killed run goes on)

Held-out scenes and clips of `examples.places`. Each number is a mean in percent with its 95% interval; in the second
table of each kind it is the paired difference from Grad-CAM. The maps of one scene are one sample: their mean.

- Masks: the class's mask as the U-Net predicts it, by `scores.masked_mean`; pointing and energy on the digits' boxes.
- Boxes: the score of each detected digit; pointing and energy on the box of that digit alone. Scenes
  with one digit are left out: there every digit is the right one.
- Clips: the true motion. Drop (lower is better) and increase of its probability on the clip times the map, in time and
  space; win, the share of clips in which the row's drop is lower than Grad-CAM's, equal drops counted half; energy on
  the moving object's mask in the clip, and the mean of the energies in each frame.
"""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from examples.places import moving, scenes, training
from jaxcam import metrics
from jaxcam.evaluation import Estimate, paired_estimates
from jaxcam.methods import controls
from jaxcam.metrics import distinct_boxes, inside, overlap
from jaxcam.runtime import replace

METHODS: dict[str, Callable[..., jax.Array]] = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM+": jaxcam.grad_cam_plus,
    "Grad-CAM++, closed form": functools.partial(jaxcam.grad_cam_pp, derivatives="closed_form"),
    "Grad-CAM++, exact": functools.partial(jaxcam.grad_cam_pp, derivatives="exact"),
    "Smooth Grad-CAM++": jaxcam.smooth_grad_cam_pp,
    "HiResCAM": jaxcam.hires_cam,
    "LayerCAM": jaxcam.layer_cam,
}
CONTROLS = ("mean activation", "center Gaussian", "all ones", "random")
COLUMNS = ("pointing", "energy", "energy per frame", "drop", "increase", "win")
WITH_KEY = ("Smooth Grad-CAM++",)
REFERENCE = "Grad-CAM"
PUBLISHED = (
    "The Grad-CAM++ poster, C3D on Sports-1M, Grad-CAM / Grad-CAM++: drop 95.26 / 59.79, increase 0.84 / 6.68, "
    "win 5.91 / 94.09."
)
Values = Mapping[str, Mapping[str, jax.Array]]  # of each map its columns


class Table(NamedTuple):
    """What was measured.

    Attributes:
      columns: names.
      methods: names of the rows.
      matrix: `[samples columns methods]`.
      maps: the number of maps of one method; a scene may have several.
    """

    columns: list[str]
    methods: list[str]
    matrix: np.ndarray
    maps: int


def maps_of(cut, image, target, score, key, names) -> dict[str, jax.Array]:
    """The map of each of some methods and of each control for one target, at the layer's resolution."""
    maps = {
        name: METHODS[name](cut, image, target, *([key] if name in WITH_KEY else []), score=score) for name in names
    }
    maps["mean activation"] = controls.mean_activation(cut, image)
    maps["center Gaussian"] = controls.center_gaussian(cut, image)
    maps["all ones"] = controls.all_ones(cut, image)
    maps["random"] = controls.random(cut, image, None, key)
    return maps


def placed(saliency: jax.Array, mask: jax.Array, ignore: jax.Array | None = None) -> dict[str, jax.Array]:
    """Pointing and energy of a map on a mask of the image's size; pixels of `ignore` do not count."""
    fine = jaxcam.resize(saliency, mask.shape)
    return {
        "pointing": metrics.pointing_game(fine, mask, ignore=ignore),
        "energy": metrics.energy(fine, mask, ignore=ignore),
    }


def table_of(samples: list[list[Values]]) -> Table:
    """The table of samples, each with the values of one map or more, whose mean counts."""
    names = samples[0][0]  # in the order of their names, as `jax.jit` returns them
    known = [*METHODS, *CONTROLS]
    methods = sorted(names, key=lambda name: known.index(name) if name in known else len(known))
    columns = sorted(names[REFERENCE], key=COLUMNS.index)
    matrix = [
        np.mean([[[float(values[name][column]) for name in methods] for column in columns] for values in sample], 0)
        for sample in samples
    ]
    return Table(columns, methods, np.stack(matrix), sum(map(len, samples)))


def masks_table(count: int, names: Sequence[str]) -> Table:
    """Pointing and energy of the maps of predicted masks on the digits' boxes, of each class of each scene."""
    cut = jaxcam.cut(jaxcam.pretrained.segmenter(), "block3")

    @jax.jit
    def measured(cut, image, number, key, boxes):
        mask = cut.head(cut.params, cut.features(cut.params, image), image).argmax(-1) == number
        maps = maps_of(cut, image, (number, mask), jaxcam.scores.masked_mean, key, names)
        return mask.sum(), {name: placed(saliency, boxes) for name, saliency in maps.items()}

    samples = []
    for i, scene in enumerate(scenes.draw_many(training.TEST_SEED, "test", count)):
        sample = []
        for label in np.unique(scene.labels):
            boxes = np.asarray(inside(scene.boxes[scene.labels == label], scene.image.shape[:2])).any(0)
            pixels, values = measured(cut, scene.image, jnp.array(label), jax.random.key(i), boxes)
            sample += [values] if pixels else []
        samples += [sample] if sample else []
    return table_of(samples)


def boxes_table(count: int, names: Sequence[str]) -> Table:
    """Pointing and energy of the maps of detected boxes on the digit's box, in scenes of several digits."""
    model = jaxcam.pretrained.detector()
    cut = jaxcam.cut(model, "block3")
    # The logit of `outputs["scores"]` is `scores.box` of the part "score". This head is proved affine, that of all
    # outputs is not.
    of_scores = jaxcam.cut(model, "block3", output="scores")

    @jax.jit
    def detected(cut, image):
        outputs = cut.head(cut.params, cut.features(cut.params, image), image)
        return outputs["boxes"], distinct_boxes(outputs["scores"], outputs["boxes"], lowest=0.0)

    @jax.jit
    def measured(cut, image, number, key, box):
        maps = maps_of(cut, image, number, jaxcam.scores.logit, key, names)
        return {name: placed(saliency, box) for name, saliency in maps.items()}

    samples = []
    for i, scene in enumerate(scenes.draw_many(training.TEST_SEED, "test", count)):
        if len(scene.boxes) < 2:
            continue
        boxes, kept = detected(cut, scene.image)
        sample = []
        for number in np.flatnonzero(kept):
            overlaps = np.asarray(overlap(boxes[number], scene.boxes))
            if overlaps.max() >= 0.5:
                box = np.asarray(inside(scene.boxes[overlaps.argmax()][None], scene.image.shape[:2]))[0]
                sample.append(measured(of_scores, scene.image, jnp.array(number), jax.random.key(i), box))
        samples += [sample] if sample else []
    return table_of(samples)


def clips_table(count: int, names: Sequence[str]) -> Table:
    """Drop, increase and win of the true motion's probability, and energy on the moving object."""
    cut = jaxcam.cut(jaxcam.pretrained.motions(), "conv3")

    @jax.jit
    def measured(cut, clip, label, key, masks):
        maps = maps_of(cut, clip, label, jaxcam.scores.logit, key, names)
        whole = metrics.masked_score(cut, clip, jnp.ones(masks.shape), label)
        shown = {name: metrics.masked_score(cut, clip, saliency, label) for name, saliency in maps.items()}
        drops = {name: metrics.average_drop(whole, score) for name, score in shown.items()}
        return {
            name: {
                "drop": drops[name],
                "increase": metrics.increase(whole, shown[name]),
                "win": metrics.win(drops[name], drops[REFERENCE]),
                **energies(jaxcam.resize(saliency, masks.shape), masks),
            }
            for name, saliency in maps.items()
        }

    samples = []
    for i, clip in enumerate(moving.draw_many(training.TEST_SEED, "test", count)):
        samples.append([measured(cut, clip.frames, jnp.array(clip.label), jax.random.key(i), clip.masks)])
    return table_of(samples)


def energies(saliency: jax.Array, masks: jax.Array) -> dict[str, jax.Array]:
    """The energy of a map on the object in a clip, and the mean over frames of the energy in each; `[t h w]` both."""
    return {
        "energy": metrics.energy(saliency, masks),
        "energy per frame": jax.vmap(metrics.energy)(saliency, masks).mean(),
    }


TABLES: dict[str, Callable[[int, Sequence[str]], Table]] = {
    "Masks": masks_table,
    "Boxes": boxes_table,
    "Clips": clips_table,
}


def described(table: Table, count: int) -> dict[str, Any]:
    """The table as JSON: of each row and column the estimate over samples, with the difference from Grad-CAM."""
    estimates = paired_estimates(table.matrix, table.methods.index(REFERENCE))
    rows = {
        name: {column: estimates[j][i]._asdict() for j, column in enumerate(table.columns)}
        for i, name in enumerate(table.methods)
    }
    return {"drawn": count, "samples": len(table.matrix), "maps": table.maps, "rows": rows}


def markdown(title: str, kept: Mapping[str, Any]) -> str:
    """Two tables: means, and differences from Grad-CAM."""
    rows = {name: {c: Estimate(**estimate) for c, estimate in row.items()} for name, row in kept["rows"].items()}
    columns = list(rows[REFERENCE])
    head = "|---|" + "---|" * len(columns)
    lines = [f"{title}: {kept['samples']} samples, {kept['maps']} maps", ""]
    lines += [f"| map | {' | '.join(columns)} |", head]
    lines += [f"| {name} | {' | '.join(mean_text(row[c]) for c in columns)} |" for name, row in rows.items()]
    lines += ["", f"| minus {REFERENCE} | {' | '.join(columns)} |", head]
    for name, row in rows.items():
        if name != REFERENCE:
            lines.append(f"| {name} | {' | '.join(difference_text(row[c]) for c in columns)} |")
    return "\n".join(lines)


def mean_text(estimate: Estimate) -> str:
    """A mean in percent with its interval."""
    return f"{100 * estimate.mean:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def difference_text(estimate: Estimate) -> str:
    """A difference in percentage points with its interval; bold if the interval has no zero."""
    ends = f"[{100 * estimate.difference_low:+.1f}, {100 * estimate.difference_high:+.1f}]"
    text = f"{100 * estimate.difference:+.1f} {ends}"
    return f"**{text}**" if estimate.differs else text


def is_same(kept: Mapping[str, Any], count: int, names: Sequence[str]) -> bool:
    """Whether a table that was kept has the samples and the methods that are asked for."""
    return kept["drawn"] == count and set(kept["rows"]) == {*names, *CONTROLS}


def add_only(parser: argparse.ArgumentParser) -> None:
    """Adds the option that chooses methods."""
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help="methods (default: all)"
    )


def checked_only(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """The chosen methods. The program exits if the one that the others are compared with is not among them."""
    if REFERENCE not in options.only:
        parser.error(f"--only needs {REFERENCE}, which the others are compared with")
    return options.only


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument(
        "--json", type=pathlib.Path, metavar="FILE", help="keep the figures; a table that the file has is not repeated"
    )
    add_only(parser)
    options = parser.parse_args()
    names = checked_only(parser, options)
    counts = {"Masks": options.scenes, "Boxes": options.scenes, "Clips": options.clips}
    found = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else {}
    kept = {title: table for title, table in found.get("tables", {}).items() if is_same(table, counts[title], names)}
    for title, measure in TABLES.items():
        if not counts[title]:
            continue
        if title not in kept:
            kept[title] = described(measure(counts[title], names), counts[title])
            if options.json is not None:
                replace(options.json, (json.dumps({"published": PUBLISHED, "tables": kept}) + "\n").encode())
        print(f"{markdown(title, kept[title])}\n", flush=True)
    print(PUBLISHED)


if __name__ == "__main__":
    main()
