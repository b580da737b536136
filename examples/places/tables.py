"""Tables of maps of masks, boxes and clips, with controls: do they lie on what they explain?

    python -m examples.places.tables                       (200 scenes and 120 clips, minutes on a CPU)
    python -m examples.places.tables --scenes 20 --clips 12

Held-out scenes and clips of `examples.places`. Each number is a mean in percent, with half its 95% interval.

- Masks: the class's mask as the U-Net predicts it, by `scores.masked_mean`; pointing and energy on the digit's box.
- Boxes: the score of each detected digit, by `scores.box`; pointing and energy on the box of that digit alone. Scenes
  with one digit are left out: there every digit is the right one.
- Clips: the probability of the true motion on the clip times the map, in time and space: average drop (lower is better)
  and increase; energy on the moving object's mask; win, the share of clips in which the row's drop is the lowest.
"""

import argparse
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from examples.places import moving, scenes, training
from jaxcam import metrics
from jaxcam.metrics import distinct_boxes, inside, overlap

METHODS = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++": jaxcam.grad_cam_pp,
    "Smooth Grad-CAM++": jaxcam.smooth_grad_cam_pp,
    "HiResCAM": jaxcam.hires_cam,
    "LayerCAM": jaxcam.layer_cam,
}


def maps_of(cut, image, target, score, key) -> dict[str, jax.Array]:
    """The map of each method and control for one target, at the layer's resolution."""
    maps = {}
    for name, method in METHODS.items():
        keys = (key,) if name.startswith("Smooth") else ()
        maps[name] = method(cut, image, target, *keys, score=score)
    shape = maps["Grad-CAM"].shape
    maps["control: all ones"] = jnp.ones(shape)
    maps["control: random"] = jax.random.uniform(key, shape)
    maps["control: mean activation"] = jnp.maximum(cut.features(cut.params, image).mean(-1), 0)
    return maps


def placed(saliency: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Pointing and energy of a map on a mask of the image's size."""
    fine = jaxcam.resize(saliency, mask.shape)
    return {"pointing": metrics.pointing_game(fine, mask), "energy": metrics.energy(fine, mask)}


def masks_table(scenes_drawn) -> dict[str, dict[str, list[float]]]:
    """Pointing and energy of the maps of predicted masks on the digits' boxes, of each class of each scene."""
    cut = jaxcam.cut(jaxcam.pretrained.segmenter(), "block3")

    @jax.jit
    def measured(cut, image, number, key, boxes):
        mask = cut.head(cut.params, cut.features(cut.params, image), image).argmax(-1) == number
        maps = maps_of(cut, image, (number, mask), jaxcam.scores.masked_mean, key)
        return mask.sum(), {name: placed(saliency, boxes) for name, saliency in maps.items()}

    rows: dict[str, dict[str, list[float]]] = {}
    for i, scene in enumerate(scenes_drawn):
        for label in np.unique(scene.labels):
            boxes = np.asarray(inside(scene.boxes[scene.labels == label], scene.image.shape[:2])).any(0)
            pixels, values = measured(cut, scene.image, jnp.array(label), jax.random.key(i), boxes)
            if pixels:
                collect(rows, values)
    return rows


def boxes_table(scenes_drawn) -> dict[str, dict[str, list[float]]]:
    """Pointing and energy of the maps of detected boxes on the digit's box, in scenes of several digits."""
    cut = jaxcam.cut(jaxcam.pretrained.detector(), "block3")

    @jax.jit
    def detected(cut, image):
        outputs = cut.head(cut.params, cut.features(cut.params, image), image)
        return outputs["scores"], outputs["boxes"], distinct_boxes(outputs["scores"], outputs["boxes"], lowest=0.0)

    @jax.jit
    def measured(cut, image, number, key, box):
        maps = maps_of(cut, image, (number, jnp.array(0)), jaxcam.scores.box, key)
        return {name: placed(saliency, box) for name, saliency in maps.items()}

    rows: dict[str, dict[str, list[float]]] = {}
    for i, scene in enumerate(scenes_drawn):
        if len(scene.boxes) < 2:
            continue
        _, boxes, kept = detected(cut, scene.image)
        for number in np.flatnonzero(kept):
            overlaps = np.asarray(overlap(boxes[number], scene.boxes))
            if overlaps.max() >= 0.5:
                box = np.asarray(inside(scene.boxes[overlaps.argmax()][None], scene.image.shape[:2]))[0]
                collect(rows, measured(cut, scene.image, jnp.array(number), jax.random.key(i), box))
    return rows


def clips_table(clips_drawn) -> dict[str, dict[str, list[float]]]:
    """Drop, increase and win of the true motion's probability, and energy on the moving object."""
    cut = jaxcam.cut(jaxcam.pretrained.motions(), "conv3")

    @jax.jit
    def measured(cut, clip, label, key, mask):
        maps = maps_of(cut, clip, label, jaxcam.scores.logit, key)
        whole = metrics.masked_score(cut, clip, jnp.ones(mask.shape), label)
        values = {}
        for name, saliency in maps.items():
            shown = metrics.masked_score(cut, clip, saliency, label)
            energy = metrics.energy(jaxcam.resize(saliency, mask.shape), mask)
            drop, increase = metrics.average_drop(whole, shown), metrics.increase(whole, shown)
            values[name] = {"drop": drop, "increase": increase, "energy": energy}
        return values

    rows: dict[str, dict[str, list[float]]] = {}
    for i, clip in enumerate(clips_drawn):
        values = measured(cut, clip.frames, jnp.array(clip.label), jax.random.key(i), clip.masks)
        drops = {name: float(row["drop"]) for name, row in values.items() if not name.startswith("control")}
        best = min(drops.values())
        winners = [name for name, drop in drops.items() if drop == best]
        for name, row in values.items():
            row["win"] = 1 / len(winners) if name in winners else 0.0
        collect(rows, values)
    return rows


def collect(rows: dict[str, dict[str, list[float]]], values) -> None:
    """Append the values of one sample to the columns of all rows."""
    for name, columns in values.items():
        for column, value in columns.items():
            rows.setdefault(name, {}).setdefault(column, []).append(float(value))


def print_table(title: str, rows: dict[str, dict[str, list[float]]]) -> None:
    """Print a table in Markdown."""
    columns = list(next(iter(rows.values())))
    count = len(next(iter(rows.values()))[columns[0]])
    print(f"\n{title} (n = {count})\n\n| map | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(percent(row[column]) for column in columns)} |", flush=True)


def percent(values: list[float]) -> str:
    """The mean in percent and the half width of its 95% interval."""
    half_width = 196 * float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{100 * np.mean(values):.1f} ± {half_width:.1f}"


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--clips", type=int, default=120)
    options = parser.parse_args()
    draw_scenes = functools.partial(scenes.draw_many, training.TEST_SEED, "test")
    tables: list[tuple[str, Callable, Callable, int]] = [
        ("Masks", masks_table, draw_scenes, options.scenes),
        ("Boxes", boxes_table, draw_scenes, options.scenes),
        ("Clips", clips_table, functools.partial(moving.draw_many, training.TEST_SEED, "test"), options.clips),
    ]
    for title, table, draw, count in tables:
        if count:
            print_table(title, table(draw(count)))


if __name__ == "__main__":
    main()
