"""EfficientNet-Lite0 with its last layers trained anew, on activations that are computed once for each photograph.

What is trained is the projection of the last block, the last convolution and a new linear layer, some 0.8 million
parameters. The layers before them and batch norm's running statistics stay as they are, so that a step needs neither
photographs nor the network before the cut. `Tail` is a network of its own, whose images are those activations, and its
layer "head", 7 x 7, is EfficientNet-Lite0's.
"""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxcam
from examples.bias.penalized import mean_loss
from jaxcam.networks.efficientnet import EfficientNetLite

KEPT, LAYER = "blocks/15/depthwise", "head"
SHAPE, GRID = (224, 224), (7, 7)
BATCH, RATE = 32, 1e-3
# The canvases' penalty, 1e-3 for 64 x 64 locations, for 7 x 7.
PENALTY = 1e-3 * 64 * 64 / 49


class Tail(nnx.Module):
    """The layers of EfficientNet-Lite0 that are trained: activations `[b 7 7 1152]` to the logits of new classes."""

    def __init__(self, model: EfficientNetLite, classes: int, *, rngs: nnx.Rngs):
        self.project, self.head = model.blocks[15].project, model.head
        self.classifier = nnx.Linear(model.classifier.in_features, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits, `[b classes]`."""
        return self.classifier(self.head(self.project(x)).mean((1, 2)))


@jax.jit
def _features(cut, images):
    return jax.lax.map(functools.partial(cut.features, cut.params), images)


def activations_of(cut: jaxcam.Cut, photographs: Iterable[np.ndarray]) -> np.ndarray:
    """The activations at a cut, `[n h w k]`."""
    return np.concatenate([np.asarray(_features(cut, photograph[None])) for photograph in photographs])


@functools.partial(jax.jit, static_argnames=("penalized", "steps"))
def _step(cut, state, x, labels, masks, *, penalized, steps):
    """One step of Adam on the cross-entropy of a batch, with the penalty on maps outside the masks if asked."""

    def loss(params):
        return mean_loss(cut, params, x, labels, masks, penalty=PENALTY if penalized else 0)

    value, gradient = jax.value_and_grad(loss)(cut.params)
    trained = jax.tree_util.tree_map_with_path(
        lambda path, g: jnp.zeros_like(g) if _is_statistic(path) else g, gradient
    )
    updates, state = _optimizer(steps).update(trained, state)
    return dataclasses.replace(cut, params=optax.apply_updates(cut.params, updates)), state, value


def _is_statistic(path):
    """Whether a parameter is a running statistic of batch norm."""
    return any(getattr(key, "key", None) in ("mean", "var") for key in path)


def _optimizer(steps):
    return optax.adam(optax.cosine_decay_schedule(RATE, steps))


def train(
    x: np.ndarray, labels: np.ndarray, *, classes: int, steps: int, seed: int, masks: np.ndarray | None = None
) -> jaxcam.Cut:
    """The trained layers, cut at "head".

    Args:
      x: activations at `KEPT`.
      labels: the classes. Each class is drawn equally often.
      classes: their number.
      steps: of `BATCH` examples.
      seed: of the new layer and of the batches.
      masks: where the evidence may lie, `[n 7 7]` bool; None trains without a penalty on maps.
    """
    tail = Tail(jaxcam.efficientnet_lite0(), classes, rngs=nnx.Rngs(seed))
    cut = jaxcam.cut(tail, LAYER, image_shape=x.shape[1:])
    state, rng = _optimizer(steps).init(cut.params), np.random.default_rng(seed)
    of_class = [np.flatnonzero(labels == label) for label in range(classes)]
    allowed = np.ones((len(x), *GRID), bool) if masks is None else masks
    for _ in range(steps):
        rows = np.array([rng.choice(of_class[label]) for label in rng.integers(0, classes, BATCH)])
        cut, state, _ = _step(
            cut,
            state,
            x[rows].astype(np.float32),
            labels[rows],
            allowed[rows],
            penalized=masks is not None,
            steps=steps,
        )
    return cut


@jax.jit
def _outputs(cut, x):
    floats = x.astype(jnp.float32)
    return jax.lax.map(lambda x: cut.head(cut.params, cut.features(cut.params, x), x), floats)


def predictions(cut: jaxcam.Cut, x: np.ndarray) -> np.ndarray:
    """The classes of the largest logits, `[n]`."""
    return np.asarray(_outputs(cut, x).argmax(-1))


@jax.jit
def _maps(cut, x, labels):
    return jax.lax.map(lambda pair: jaxcam.grad_cam(cut, *pair), (x.astype(jnp.float32), labels))


def maps_of(cut: jaxcam.Cut, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Grad-CAM of a class of each, `[n 7 7]`."""
    return np.asarray(_maps(cut, x, labels))


def coarse(masks: np.ndarray) -> np.ndarray:
    """The locations of the layer that a mask touches: `[n h w]` to `[n 7 7]`, h and w multiples of 7.

    Example:
      >>> mask = np.zeros([1, 14, 14], bool)
      >>> mask[0, 3, 5] = True
      >>> np.argwhere(coarse(mask)).tolist()
      [[0, 1, 2]]
    """
    count, height, width = masks.shape
    rows, columns = GRID
    return np.any(masks.reshape(count, rows, height // rows, columns, width // columns), (2, 4))
