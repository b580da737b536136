"""A U-Net on photographs of streets, CamVid, and maps of its masks: do they lie on what they explain?

    export JAXCAM_ASSETS=../shared/assets
    python -m examples.places.camvid --out build/camvid                          (a quarter of an hour on one core)
    python -m examples.places.camvid --out build/quick --steps 4 --train 16 --test 6 --side 48     (a quick test)
    python -m examples.places.camvid --out build/full --side 144 --steps 20000                     (for a GPU)

CamVid has 367 frames to train with and 233 to test with, and eleven classes a pixel (Brostow et al., 2009; split and
classes are those of SegNet). The U-Net starts from random weights and reads frames of 96 x 128 pixels, where the
published networks read 360 x 480. A class counts by the root of the classes' median frequency over its own, where the
SegNet paper has no root, and frames are mirrored.

It prints the intersection over union of each class over all pixels of the test frames without those that have no label.
Then it explains the mean of a class's logits over its predicted mask (Seg-Grad-CAM, `scores.masked_mean`), for each
test frame in which at least `LEAST` pixels of the class are predicted and as many are true, and measures pointing and
energy of the maps on the true mask. The controls tell what a map gets that knows nothing of the class.

The folder `--out` keeps the checkpoints, the weights, the scores and the figures of the tables. A killed run goes on.
"""

import argparse
import functools
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image

import jaxcam
from examples import real_photographs, stored_pictures
from examples.kept_arrays import kept_arrays
from examples.places import tables, training
from jaxcam.networks import UNet
from jaxcam.runtime import replace

CLASSES = stored_pictures.CAMVID
UNLABELED = len(CLASSES)
WIDTHS = (16, 32, 48, 64, 96)
LEAST = 40  # pixels of a class that is explained


class Frames(NamedTuple):
    """Frames `[n h w 3]` in 0..1 and the classes of their pixels `[n h w]`, `UNLABELED` where there is none."""

    images: np.ndarray
    classes: np.ndarray


def read(folder: pathlib.Path, split: str, side: int, count: int | None) -> Frames:
    """The frames of a split, spread evenly, with `side` rows."""
    path, size = folder / "camvid" / f"{split}.npz", (side * 4 // 3, side)
    with np.load(path) as file:
        chosen = real_photographs.spread(list(range(len(file["names"]))), count)
    opened, labels = (
        [Image.open(io.BytesIO(part)) for part in stored_pictures.parts(path, prefix, chosen)]
        for prefix in ("", "mask_")
    )
    images = [image.resize(size, Image.Resampling.BOX) for image in opened]
    masks = [label.resize(size, Image.Resampling.NEAREST) for label in labels]
    pixels = np.stack([np.asarray(image.convert("RGB"), np.float32) / 255 for image in images])
    return Frames(pixels, np.stack([np.asarray(mask, np.int32) for mask in masks]))


def build(side: int) -> UNet:
    """The network that is trained."""
    shape = (side, side * 4 // 3, 3)
    return UNet(widths=WIDTHS, plain=0, classes=len(CLASSES), image_shape=shape, class_names=CLASSES, rngs=nnx.Rngs(0))


def class_weights(classes: np.ndarray) -> np.ndarray:
    """The root of the median of the classes' frequencies over each frequency; 0 for a class without a pixel.

    Example:
      >>> class_weights(np.array([[0, 0, 0, 0, 1, UNLABELED]]))[:3].round(2).astype(str).tolist()
      ['0.79', '1.58', '0.0']
    """
    counts = np.bincount(classes[classes < UNLABELED], minlength=len(CLASSES))
    ratios = np.where(counts > 0, np.median(counts[counts > 0]) / np.maximum(counts, 1), 0)
    return np.sqrt(ratios).astype(np.float32)


def trained(frames: Frames, options: argparse.Namespace) -> nnx.Module:
    """The network after training with mirrored frames."""
    weights = jnp.append(class_weights(frames.classes), 0)

    def draw_batch(rng, size):
        rows, mirrored = rng.integers(0, len(frames.images), size), rng.random(size) < 0.5
        images, classes = frames.images[rows], frames.classes[rows]
        images[mirrored], classes[mirrored] = images[mirrored][:, :, ::-1], classes[mirrored][:, :, ::-1]
        return images, classes

    def loss(model, batch):
        images, classes = batch
        labels = jnp.minimum(classes, UNLABELED - 1)
        values = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
        return (weights[classes] * values).sum() / weights[classes].sum()

    return training.train(build(options.side), draw_batch, loss, options)


def ious(predicted: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """The IoU of each class over all labeled pixels; 0 for a class that is nowhere.

    Example:
      >>> found = ious(np.array([0, 0, 1, 1]), np.array([0, 1, 1, UNLABELED]))
      >>> found["sky"], found["building"]
      (0.5, 0.5)
    """
    labeled, found = classes != UNLABELED, {}
    for number, name in enumerate(CLASSES):
        ours, true = (predicted == number) & labeled, classes == number
        found[name] = float((ours & true).sum() / max((ours | true).sum(), 1))
    return found


def maps_table(
    cut: jaxcam.Cut, frames: Frames, predicted: np.ndarray, number: int, names: Sequence[str]
) -> dict[str, Any] | None:
    """Pointing and energy of the maps of a class on its true mask, as `tables.described`; None without a frame."""

    @jax.jit
    def measured(cut, image, mask, true, ignore, key):
        maps = tables.maps_of(cut, image, (jnp.array(number), mask), jaxcam.scores.masked_mean, key, names)
        return {name: tables.placed(saliency, true, ignore) for name, saliency in maps.items()}

    samples = []
    for i, (image, classes, found) in enumerate(zip(*frames, predicted, strict=True)):
        mask, true = found == number, classes == number
        if min(mask.sum(), true.sum()) >= LEAST:
            samples.append([measured(cut, image, mask, true, classes == UNLABELED, jax.random.key(i))])
    return tables.described(tables.table_of(samples), len(frames.images)) if samples else None


def network(folder: pathlib.Path, options: argparse.Namespace) -> nnx.Module:
    """The network, from its file or trained."""

    def arrays_of_trained():
        frames = read(folder, "train", options.side, options.train)
        return jaxcam.pretrained.to_arrays(trained(frames, options))

    arrays = kept_arrays(options.out / "weights.npz", arrays_of_trained)
    return jaxcam.pretrained.from_arrays(functools.partial(build, options.side), arrays)


def scores_table(scores: dict[str, Any]) -> str:
    """The IoU of the classes, their mean, and the share of right pixels, as Markdown in percent."""
    names = [*CLASSES, "mean IoU", "pixels right"]
    values = [*scores["iou"].values(), scores["mean_iou"], scores["pixels_right"]]
    lines = [names, ["---"] * len(names), [f"{100 * value:.1f}" for value in values]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    """Train, score, explain and print."""
    parser = training.parser_of(__doc__, steps=500, batch=8, test=233)
    parser.add_argument("--train", type=int, help="number of training frames, spread evenly (default: all 367)")
    parser.add_argument("--side", type=int, default=96, help="rows of a frame, a multiple of 48 (default: 96)")
    parser.add_argument("--layer", default="block4", help="that is explained (default: block4, 12 x 16)")
    parser.add_argument("--explain", nargs="+", choices=CLASSES, default=["car", "pedestrian", "tree"], metavar="CLASS")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the figures to this file")
    tables.add_only(parser)
    options = parser.parse_args()
    names = tables.checked_only(parser, options)
    folder = real_photographs.assets(parser)
    options.out.mkdir(parents=True, exist_ok=True)
    options.checkpoints = options.checkpoints or options.out / "checkpoints"
    model = network(folder, options)
    test = read(folder, "test", options.side, options.test)
    predicted = training.in_batches(model, test.images, 20).argmax(-1)
    by_class = ious(predicted, test.classes)
    scores = {"steps": options.steps, "frames": len(test.images), "mean_iou": float(np.mean(list(by_class.values())))}
    labeled = test.classes != UNLABELED
    scores |= {"pixels_right": float((predicted == test.classes)[labeled].mean()), "iou": by_class}
    print(f"{len(test.images)} test frames of {options.side} rows, {options.steps} steps of {options.batch}\n")
    print(f"{scores_table(scores)}\n", flush=True)
    cut, kept = jaxcam.cut(model, options.layer), {}
    for name in options.explain:
        table = maps_table(cut, test, predicted, CLASSES.index(name), names)
        if table is None:
            print(f"{name}: no frame has {LEAST} pixels of it, predicted and true\n")
            continue
        kept[name] = table
        print(f"{tables.markdown(f'{name} at {options.layer}', table)}\n", flush=True)
    if options.json is not None:
        replace(options.json, (json.dumps({"scores": scores, "maps": kept}) + "\n").encode())


if __name__ == "__main__":
    main()
