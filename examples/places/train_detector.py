"""Train the embedded detector on scenes of handwritten digits: a score, a box and a class at each of 16 x 16 locations.
The first three blocks are those of the embedded digits network, and stay as they are.

    python -m examples.places.train_detector --out jaxcam/pretrained/boxes --checkpoints build/boxes
    python -m examples.places.train_detector --out build/quick --steps 20 --test 20        (a quick test)

It prints the average precision of each class at an intersection over union of 0.5 and 0.75, and its mean over 0.5,
0.55, ..., 0.95 (COCO's), on held-out scenes, which show other digits and textures than those of the training.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.places import scenes, training
from jaxcam.metrics import average_precision, distinct_boxes, overlap
from jaxcam.networks import Detector
from jaxcam.networks.boxes import location_centers
from jaxcam.pretrained import DIGITS_CLASSES as CLASSES

MOST_DIGITS = 4
THRESHOLDS = np.arange(0.5, 1.0, 0.05)


def build(rngs: nnx.Rngs | None = None) -> Detector:
    """The network that is trained."""
    return Detector(classes=len(CLASSES), class_names=CLASSES, rngs=nnx.Rngs(0) if rngs is None else rngs)


def draw_batch(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images `[size 64 64 3]`, boxes `[size 4 4]` and labels `[size 4]`; a missing digit has label -1."""
    drawn = [scenes.draw(rng, "train") for _ in range(size)]
    boxes, labels = np.zeros((size, MOST_DIGITS, 4), np.float32), np.full((size, MOST_DIGITS), -1, np.int32)
    for i, scene in enumerate(drawn):
        boxes[i, : len(scene.boxes)], labels[i, : len(scene.labels)] = scene.boxes, scene.labels
    return np.stack([scene.image for scene in drawn]), boxes, labels


def loss(model, batch):
    """Focal loss of the classes at all locations; 1 - IoU, and the distance of the sides, near the digits' centers."""
    images, boxes, labels = batch
    outputs = model(images)
    centers = location_centers((16, 16), 4)
    middle, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    reach = jnp.maximum(2.0, sides / 4)
    is_near = (jnp.abs(centers[None, :, None] - middle[:, None]) <= reach[:, None]).all(-1) & (labels >= 0)[:, None]
    digit = is_near.argmax(-1)  # boxes do not overlap: a location is near one digit
    counts = is_near.any(-1)
    of_location = jnp.take_along_axis(boxes, digit[..., None], 1)
    label = jnp.where(counts, jnp.take_along_axis(labels, digit, 1), -1)
    hot = jax.nn.one_hot(label, outputs["classes"].shape[-1])
    focal = optax.sigmoid_focal_loss(outputs["classes"], hot, alpha=0.5, gamma=2.0).sum()
    apart = jnp.abs(outputs["boxes"] - of_location).mean(-1) / 8
    misplaced = jnp.where(counts, 1 - overlap_of_pairs(outputs["boxes"], of_location) + apart, 0).sum()
    return (focal + misplaced) / jnp.maximum(counts.sum(), 1)


@functools.partial(jnp.vectorize, signature="(4),(4)->()")
def overlap_of_pairs(a, b):
    """The IoU of boxes `[... 4]`, pair by pair."""
    return overlap(a, b[None])[0]


def main():
    """Train, score and write."""
    options = training.parser_of(__doc__, steps=1500, batch=32, test=500).parse_args()
    model: nnx.Module = build(nnx.Rngs(options.seed))
    frozen = training.with_blocks_of_digits(model)
    model = training.train(model, draw_batch, loss, options, frozen=frozen)
    model, arrays = training.rounded(model, build)
    test = scenes.draw_many(training.TEST_SEED, "test", options.test)
    outputs = training.in_batches(model, [scene.image for scene in test])
    kept = np.asarray(jax.vmap(distinct_boxes)(outputs["scores"], outputs["boxes"]))
    precision = []  # [classes thresholds]
    for c in range(len(CLASSES)):
        of_class = kept & (outputs["classes"].argmax(-1) == c)
        detections = [(outputs["scores"][i][of_class[i]], outputs["boxes"][i][of_class[i]]) for i in range(len(test))]
        truth = [scene.boxes[scene.labels == c] for scene in test]
        precision.append([average_precision(detections, truth, min_overlap=t) for t in THRESHOLDS])
    means = np.mean(precision, 0)
    scores = {"steps": options.steps, "batch": options.batch, "seed": options.seed, "test_scenes": options.test}
    scores |= {"average_precision_50": round(float(means[0]), 4), "average_precision_75": round(float(means[5]), 4)}
    scores["average_precision"] = round(float(means.mean()), 4)
    scores["average_precision_50_of"] = {
        name: round(float(values[0]), 4) for name, values in zip(CLASSES, precision, strict=True)
    }
    training.write(options.out, arrays, scores)


if __name__ == "__main__":
    main()
