"""Where the persons and vehicles of a photograph are: a linear probe of EfficientNet-Lite0, trained on COCO's polygons.

BAR has no boxes of the actors. The probe gives each location of a 14 x 14 grid the probability that an actor fills at
least half of it, by logistic regression on the activations there. It learns from COCO's training photographs; its
penalty on large weights was chosen on the validation photographs, on which its IoU is measured.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcam
from examples import stored_pictures
from examples.bias import tuning
from jaxcam.cutting import activations

LAYERS = ("blocks/11/expand", "blocks/15/depthwise")
SIDE = 14
# Athletes, and the cars and motorcycles of races.
ACTORS = ("person", "bicycle", "car", "motorcycle", "truck")
STEPS, RATE, PENALTY = 100, 1e-2, 0.1


class Probe(NamedTuple):
    """The mean, scale and weights of the regression, and its IoU on the validation photographs."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: float
    iou: float

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Of an actor, from the values at the locations `[... k]`."""
        return 1 / (1 + np.exp(-((x.astype(np.float32) - self.mean) / self.scale @ self.weights + self.bias)))

    def masks(self, x: np.ndarray) -> np.ndarray:
        """The actors' locations, `[n 14 14]`. The most probable location of each photograph is always one of them."""
        probability = self.probabilities(x)
        return probability >= np.minimum(0.5, probability.max((1, 2), keepdims=True))


@jax.jit
def _features(cuts, image):
    both, _ = activations(cuts, image)
    fine, context = both[LAYERS[0]], both[LAYERS[1]]
    return jnp.concatenate([fine, jnp.repeat(jnp.repeat(context, 2, 0), 2, 1)], -1)


def values_of(photographs: np.ndarray) -> np.ndarray:
    """What the probe reads at each location: two layers, the coarser one repeated, `[n 14 14 k]` float16."""
    cuts = jaxcam.cut(jaxcam.efficientnet_lite0(), list(LAYERS))
    return np.stack([np.asarray(_features(cuts, image), np.float16) for image in photographs])


def read_coco(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The probe's values for a split's photographs, and whether an actor fills half of each location."""
    chosen, masks = stored_pictures.coco_masks(folder, split, tuning.SHAPE, ACTORS)
    photographs = stored_pictures.read(folder / "coco" / "images.npz", tuning.SHAPE, of=chosen)
    actor = np.logical_or.reduce(list(masks.values()))
    size = tuning.SHAPE[0] // SIDE
    return values_of(photographs), actor.reshape(len(actor), SIDE, size, SIDE, size).mean((2, 4)) >= 0.5


def overlap(masks: np.ndarray, actors: np.ndarray) -> float:
    """The IoU over all locations."""
    return float((masks & actors).sum() / (masks | actors).sum())


@jax.jit
def _fit(x, labels):
    optimizer = optax.adam(RATE)

    def loss(params):
        logits = x @ params["weights"] + params["bias"]
        entropy = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
        return entropy + PENALTY * (params["weights"] ** 2).sum()

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = {"weights": jnp.zeros(x.shape[-1]), "bias": jnp.zeros(())}
    return jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)[0][0]


def trained_probe(folder: pathlib.Path) -> Probe:
    """The probe, trained on COCO's training photographs and measured on its validation photographs."""
    x, labels = read_coco(folder, "train")
    flat = x.reshape(-1, x.shape[-1]).astype(np.float32)
    mean, scale = flat.mean(0), flat.std(0) + 1e-3
    fitted = _fit((flat - mean) / scale, labels.reshape(-1).astype(np.float32))
    probe = Probe(mean, scale, np.asarray(fitted["weights"]), float(fitted["bias"]), 0.0)
    x, labels = read_coco(folder, "val")
    return probe._replace(iou=overlap(probe.masks(x), labels))
