"""Masks of animals learned from a classifier's maps: a network that segments photographs, trained without one mask.

    export JAXCAM_ASSETS=../shared/assets
    python -m examples.weak_masks --out build/weak_masks
    python -m examples.weak_masks --out build/quick --steps 4 --test 6 --train 16    (a quick test)

The photographs are those of Oxford-IIIT Pet, 450 to train with, one of which is left out because its mask has no
animal, and 150 to test with. EfficientNet-Lite0, which knows ImageNet and no mask, gives the maps of its most probable
class. Of each map the highest tenth of the pixels are seeds of the animal and the lowest three tenths seeds of the
background; nothing is said of the others. A small U-Net learns from the seeds by the losses of "Seed, expand and
constrain" (Kolesnikov and Lampert, ECCV 2016), as in the Grad-CAM paper, which has an IoU of 49.6 on VOC 2012 with
seeds from Grad-CAM, beside 44.6 with seeds from CAM. What differs:

- two classes, animal and background, 64 x 64 pixels, and a U-Net from random weights in the place of VGG-16;
- the constraint of the paper is a conditional random field. Here it is one step of the mean field of such a field with
  short edges: the mean of the neighbors' probabilities, weighted by how near their colors are. No gradient goes through
  that mean;
- the shares of the seeds are the same for all maps, so that the maps differ in where their seeds are alone.

The rows: Grad-CAM (which is CAM there), Grad-CAM++ and Smooth Grad-CAM++ at the network's last layer, 7 x 7; the same
and LayerCAM at blocks/11/expand, 14 x 14; the controls; and as many seeds from the true masks, which no map can beat.
The table has the IoU of the animal in the test photographs, the mean over photographs, without the border that the
trimaps do not count; its paired difference from the first row with a 95% interval; and what share of the animal's seeds
lie on the animal, and of the background's on the background, in the training photographs. A killed run goes on with the
rows and the checkpoints that are in `--out`.
"""

import argparse
import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam
from examples import real_photographs
from examples.places import training
from jaxcam import datasets
from jaxcam.evaluation import paired_estimates
from jaxcam.networks import UNet
from jaxcam.runtime import replace

SEEN, SIDE = 224, 64  # of the classifier's and of the U-Net's images
LAST, EARLIER = "head", "blocks/11/expand"
ANIMAL_SHARE, BACKGROUND_SHARE = 0.1, 0.3  # of the pixels that are seeds
BACKGROUND, ANIMAL, UNKNOWN = 0, 1, -1
POOLED = 32  # the side at which the pixels of an image are ranked
# Kolesnikov and Lampert rank 41 x 41 pixels; the weights fall over the same share of an image.
DECAYS = {ANIMAL: 0.996 ** (41**2 / POOLED**2), BACKGROUND: 0.999 ** (41**2 / POOLED**2)}
WINDOW, COLOR_DISTANCE = (-4, -2, 0, 2, 4), 0.1  # of the neighbors that constrain a pixel
SMOOTH = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=5, std=0.15)
MAPS: dict[str, tuple[str, Any]] = {
    "Grad-CAM, 7 x 7": (LAST, jaxcam.grad_cam),
    "Grad-CAM++, 7 x 7": (LAST, jaxcam.grad_cam_pp),
    "Smooth Grad-CAM++, 7 x 7": (LAST, SMOOTH),
    "mean activation, 7 x 7": (LAST, None),
    "Grad-CAM, 14 x 14": (EARLIER, jaxcam.grad_cam),
    "Grad-CAM++, 14 x 14": (EARLIER, jaxcam.grad_cam_pp),
    "Smooth Grad-CAM++, 14 x 14": (EARLIER, SMOOTH),
    "LayerCAM, 14 x 14": (EARLIER, jaxcam.layer_cam),
}
ROWS = (*MAPS, "center Gaussian", "random", "true masks")
REFERENCE = "Grad-CAM, 7 x 7"
PUBLISHED = "The Grad-CAM paper, VOC 2012, VGG-16: seeds from Grad-CAM 49.6, from CAM 44.6."


class Photographs(NamedTuple):
    """Photographs `[n 64 64 3]` in 0..1, and their animals' masks: 1, 0, and -1 for pixels that do not count."""

    images: np.ndarray
    masks: np.ndarray


def read(folder: pathlib.Path, split: str, count: int | None) -> tuple[np.ndarray, Photographs]:
    """The photographs of a split as the classifier sees them, `[n 224 224 3]`, and as the U-Net does."""
    listed = datasets.csv(
        folder / "pets" / "index.csv", root=folder / "pets" / "images", masks=folder / "pets" / "trimaps",
        classes=sorted({breed for _, breed in real_photographs.photographs(folder)}), columns={"image": "file"},
        inside=(1,), ignore=(3,), where={"split": split},
    )  # fmt: skip
    seen: list[np.ndarray] = []
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for example in real_photographs.spread(listed, count):
        try:
            large, small = (datasets.load(example, (side, side)) for side in (SEEN, SIDE))
        except ValueError as error:  # one trimap has no animal
            print(f"left out: {error}")
            continue
        for column, part in ((seen, large.image), (images, small.image), (masks, small.mask)):
            column.append(np.asarray(part))
    return np.stack(seen), Photographs(np.stack(images), np.stack(masks))


def maps_of(name: str, seen: np.ndarray, cuts: dict[str, jaxcam.Cut]) -> np.ndarray:
    """The maps of a row at the U-Net's size, `[n 64 64]`."""
    rng = np.random.default_rng(0)
    if name == "random":
        return rng.uniform(size=(len(seen), SIDE, SIDE))
    if name == "center Gaussian":
        line = np.exp(-((np.linspace(-2, 2, SIDE)) ** 2) / 2)
        return np.broadcast_to(np.outer(line, line), (len(seen), SIDE, SIDE))
    layer, method = MAPS[name]

    @jax.jit
    def explain(cut, image, key):
        if method is None:
            saliency = cut.features(cut.params, image).mean(-1)
        elif method is SMOOTH:
            saliency = method(cut, image, None, key)
        else:
            saliency = method(cut, image)
        return jaxcam.resize(saliency, (SIDE, SIDE))

    keys = jax.random.split(jax.random.key(0), len(seen))
    return np.stack([np.asarray(explain(cuts[layer], image, key)) for image, key in zip(seen, keys, strict=True)])


def seeds_of(maps: np.ndarray) -> np.ndarray:
    """The seeds of maps `[n h w]`: the highest pixels are the animal's, the lowest the background's.

    Example:
      >>> seeds_of(np.arange(10.0).reshape(1, 2, 5)).tolist()
      [[[0, 0, 0, -1, -1], [-1, -1, -1, -1, 1]]]
    """
    count = maps[0].size
    order = np.argsort(maps.reshape(len(maps), -1), axis=-1, kind="stable")
    seeds = np.full((len(maps), count), UNKNOWN, np.int8)
    np.put_along_axis(seeds, order[:, : round(BACKGROUND_SHARE * count)], BACKGROUND, -1)
    np.put_along_axis(seeds, order[:, -round(ANIMAL_SHARE * count) :], ANIMAL, -1)
    return seeds.reshape(maps.shape)


def seeds_of_masks(masks: np.ndarray) -> np.ndarray:
    """As many seeds from the true masks, at random places."""
    seeds = seeds_of(masks + np.random.default_rng(0).uniform(size=masks.shape))
    return np.where(seeds == masks, seeds, UNKNOWN)


def seed_loss(log_probabilities: jax.Array, seeds: jax.Array) -> jax.Array:
    """Minus the mean log-probability of the seeds' classes: the seeding loss.

    Example:
      >>> seed_loss(jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5]]])), jnp.array([[1, -1]])).round(4).item()
      0.2877
    """
    of_seeds = jnp.take_along_axis(log_probabilities, jnp.maximum(seeds, 0)[..., None].astype(jnp.int32), -1)[..., 0]
    known = seeds != UNKNOWN
    return -jnp.where(known, of_seeds, 0).sum() / jnp.maximum(known.sum(), 1)


def expand_loss(probabilities: jax.Array) -> jax.Array:
    """The expansion loss: minus the logs of the weighted rank pooling of the animal and of the background.

    Both are in every image. What is ranked are the means of 2 x 2 pixels.
    """
    h, w, classes = probabilities.shape
    pooled = probabilities.reshape(POOLED, h // POOLED, POOLED, w // POOLED, classes).mean((1, 3)).reshape(-1, classes)
    total = jnp.float32(0)
    for label, decay in DECAYS.items():
        weights = decay ** jnp.arange(len(pooled), dtype=jnp.float32)
        ranked = -jnp.sort(-pooled[:, label])
        total -= jnp.log((weights * ranked).sum() / weights.sum())
    return total / len(DECAYS)


def constrain_loss(log_probabilities: jax.Array, image: jax.Array) -> jax.Array:
    """The divergence of the probabilities from those of neighbors with near colors, in place of the paper's field."""
    probabilities = jnp.exp(log_probabilities)
    mean, total = jnp.zeros_like(probabilities), jnp.zeros(image.shape[:2], image.dtype)[..., None]
    for row in WINDOW:
        for column in WINDOW:
            shifted = jnp.roll(image, (row, column), (0, 1))
            distance = ((image - shifted) ** 2).sum(-1, keepdims=True)
            weight = jnp.exp(-distance / (2 * COLOR_DISTANCE**2))
            mean += weight * jnp.roll(probabilities, (row, column), (0, 1))
            total += weight
    smooth = jax.lax.stop_gradient(mean / total)
    return (smooth * (jnp.log(smooth + 1e-6) - log_probabilities)).sum(-1).mean()


def loss(model: nnx.Module, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The sum of the three losses, the mean over a batch."""
    images, seeds = batch

    def of_image(logits, image, seeds):
        log_probabilities = jax.nn.log_softmax(logits)
        return (
            seed_loss(log_probabilities, seeds)
            + expand_loss(jnp.exp(log_probabilities))
            + constrain_loss(log_probabilities, image)
        )

    return jax.vmap(of_image)(model(images), images, seeds).mean()  # type: ignore[operator]


def build() -> UNet:
    """The network that is trained."""
    return UNet(widths=(16, 32, 48, 64), plain=0, classes=2, image_shape=(SIDE, SIDE, 3), rngs=nnx.Rngs(0))


def trained(images: np.ndarray, seeds: np.ndarray, options: argparse.Namespace, folder: pathlib.Path) -> nnx.Module:
    """The network after training on the seeds, with mirrored photographs."""

    def draw_batch(rng, size):
        rows = rng.integers(0, len(images), size)
        mirrored = rng.random(size) < 0.5
        pictures, known = images[rows], seeds[rows]
        pictures[mirrored], known[mirrored] = pictures[mirrored][:, :, ::-1], known[mirrored][:, :, ::-1]
        return pictures, known

    settings = argparse.Namespace(**{**vars(options), "checkpoints": folder})
    return training.train(build(), draw_batch, loss, settings)


def ious_of(model: nnx.Module, photographs: Photographs) -> list[float]:
    """The IoU of the animal in each photograph, over the pixels that count."""
    predicted = training.in_batches(model, photographs.images, 25).argmax(-1) == ANIMAL
    ious = []
    for found, mask in zip(predicted, photographs.masks, strict=True):
        counts, true = mask != UNKNOWN, mask == ANIMAL
        ious.append(float((found & true).sum() / max(((found | true) & counts).sum(), 1)))
    return ious


def seeds_right(seeds: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """The share of the seeds of either kind that lie where they say, among the pixels that count."""
    return {
        word: float((masks[(seeds == label) & (masks != UNKNOWN)] == label).mean())
        for word, label in (("animal", ANIMAL), ("background", BACKGROUND))
    }


def measured(name: str, data: dict[str, Any], cuts: dict[str, jaxcam.Cut], options: argparse.Namespace) -> dict:
    """A row: from its file, or trained and written."""
    file = options.out / f"{name.replace(',', '').replace(' ', '_')}.json"
    if file.exists():
        return json.loads(file.read_text())
    train, test = data["train"], data["test"]
    seeds = seeds_of_masks(train.masks) if name == "true masks" else seeds_of(maps_of(name, data["seen"], cuts))
    model = trained(train.images, seeds, options, options.out / "checkpoints" / file.stem)
    row = {"ious": ious_of(model, test), "seeds": seeds_right(seeds, train.masks), "steps": options.steps}
    replace(file, json.dumps(row).encode())
    return row


def table(rows: dict[str, dict]) -> str:
    """The table as Markdown."""
    names = list(rows)
    matrix = np.array([rows[name]["ious"] for name in names]).T[:, None]
    estimates = paired_estimates(matrix, names.index(REFERENCE))[0]
    lines = [
        f"| seeds from | IoU | minus that of {REFERENCE} | animal's seeds right | background's seeds right |",
        "|---|---|---|---|---|",
    ]
    for name, estimate in zip(names, estimates, strict=True):
        interval = f"{estimate.difference:+.3f} [{estimate.difference_low:+.3f}, {estimate.difference_high:+.3f}]"
        right = rows[name]["seeds"]
        lines.append(
            f"| {name} | {estimate.mean:.3f} | {'–' if name == REFERENCE else interval} | {right['animal']:.3f} | "
            f"{right['background']:.3f} |"
        )
    return "\n".join(lines)


def main():
    """Train and measure every row, and print the table."""
    parser = training.parser_of(__doc__, steps=400, batch=16, test=150)
    parser.add_argument("--train", type=int, help="number of training photographs, spread evenly (default: all 450)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="(default: all)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the table's figures to this file")
    options = parser.parse_args()
    folder = real_photographs.assets(parser)
    options.out.mkdir(parents=True, exist_ok=True)
    if REFERENCE not in options.rows:
        parser.error(f"--rows needs {REFERENCE}, which the others are compared with")
    seen, train = read(folder, "train", options.train)
    test = read(folder, "test", options.test)[1]
    data = {"seen": seen, "train": train, "test": test}
    model = jaxcam.efficientnet_lite0()
    cuts = {layer: jaxcam.cut(model, layer) for layer in (LAST, EARLIER)}
    rows = {}
    for name in options.rows:
        rows[name] = measured(name, data, cuts, options)
        print(f"{name}: IoU {np.mean(rows[name]['ious']):.3f}", flush=True)
    print(f"\n{len(test.images)} photographs, {options.steps} steps\n\n{table(rows)}\n\n{PUBLISHED}")
    if options.json is not None:
        replace(options.json, (json.dumps({"published": PUBLISHED, "rows": rows}) + "\n").encode())


if __name__ == "__main__":
    main()
