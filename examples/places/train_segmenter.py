"""Train the embedded U-Net on scenes of handwritten digits: a class for each pixel, ten digits and the background. The
first three blocks are those of the embedded digits network, and stay as they are.

    python -m examples.places.train_segmenter --out jaxcam/pretrained/masks --checkpoints build/masks
    python -m examples.places.train_segmenter --out build/quick --steps 20 --test 20        (a quick test)

It prints the intersection over union of each class on held-out scenes, which show other digits and textures than those
of the training.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.places import scenes, training
from jaxcam.networks import UNet
from jaxcam.pretrained import SEGMENTER_CLASSES as CLASSES

BACKGROUND_WEIGHT = 0.3  # of a pixel in the loss: 19 of 20 pixels are background


def build(rngs: nnx.Rngs | None = None) -> UNet:
    """The network that is trained."""
    rngs = nnx.Rngs(0) if rngs is None else rngs
    return UNet(up_widths=(8, 16, 48), classes=len(CLASSES), class_names=CLASSES, rngs=rngs)


def draw_batch(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `[size 64 64 3]` and the classes of their pixels."""
    drawn = [scenes.draw(rng, "train") for _ in range(size)]
    return np.stack([scene.image for scene in drawn]), np.stack([scene.classes() for scene in drawn]).astype(np.int32)


def loss(model, batch):
    """The mean cross-entropy of the pixels, in which the background counts less."""
    images, classes = batch
    weights = jnp.where(classes == scenes.BACKGROUND, BACKGROUND_WEIGHT, 1.0)
    values = optax.softmax_cross_entropy_with_integer_labels(model(images), classes)
    return (weights * values).sum() / weights.sum()


def intersection_over_union(predicted: np.ndarray, classes: np.ndarray) -> list[float]:
    """The IoU of each class over all pixels of all images, in the order of `CLASSES`."""
    return [
        float(((predicted == c) & (classes == c)).sum() / ((predicted == c) | (classes == c)).sum())
        for c in range(len(CLASSES))
    ]


def main():
    """Train, score and write."""
    options = training.parser_of(__doc__, steps=1500, batch=32, test=500).parse_args()
    model: nnx.Module = build(nnx.Rngs(options.seed))
    frozen = training.with_blocks_of_digits(model)
    model = training.train(model, draw_batch, loss, options, frozen=frozen)
    model, arrays = training.rounded(model, build)
    test = scenes.draw_many(training.TEST_SEED, "test", options.test)
    predicted = training.in_batches(model, [scene.image for scene in test]).argmax(-1)
    ious = intersection_over_union(predicted, np.stack([scene.classes() for scene in test]))
    scores = {"steps": options.steps, "batch": options.batch, "seed": options.seed, "test_scenes": options.test}
    scores |= {"iou_of_digits": round(float(np.mean(ious[:10])), 4), "iou_of_background": round(ious[10], 4)}
    scores["iou"] = {name: round(iou, 4) for name, iou in zip(CLASSES, ious, strict=True)}
    training.write(options.out, arrays, scores)


if __name__ == "__main__":
    main()
