"""A row of the poster's table: what a student learns from, and its loss."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.metrics import average_precision_score

import jaxcam
from examples.distillation.pools import Pool
from examples.places import training
from jaxcam.losses import TeacherTargets


class Row(NamedTuple):
    """What a student learns from besides the labels.

    Attributes:
      maps: the method of the maps, its name in `MAPS`; None for no maps.
      distilled: whether it learns from the teacher's logits.
      as_heavy: whether the weight of the maps is not 0.01, but that at which they weigh as much as Grad-CAM++'s.
    """

    maps: str | None
    distilled: bool
    as_heavy: bool = False

    @property
    def without_maps(self) -> str:
        """The row that differs in the maps alone."""
        return "KD" if self.distilled else "cross-entropy"


MAPS = {"Grad-CAM++": jaxcam.grad_cam_pp, "Grad-CAM": jaxcam.grad_cam}
ROWS = {
    "cross-entropy": Row(None, False),
    "Grad-CAM++ loss": Row("Grad-CAM++", False),
    "Grad-CAM loss": Row("Grad-CAM", False),
    "KD": Row(None, True),
    "KD, Grad-CAM++ loss": Row("Grad-CAM++", True),
    "KD, Grad-CAM loss": Row("Grad-CAM", True),
    # Not in the poster: Grad-CAM++'s maps are far larger than Grad-CAM's, so 0.01 is another weight for them.
    "Grad-CAM loss, as heavy": Row("Grad-CAM", False, as_heavy=True),
}
WEIGHT = 0.01


def as_floats(images: Any) -> jax.Array:
    """Bytes to floats in 0..1."""
    return jnp.asarray(images, jnp.float32) / 255


def taught(teacher: nnx.Module, layer: str, pool: Pool, *, size: int = 50) -> dict[str, np.ndarray]:
    """The teacher's logits `[n 10]` and its maps of each method `[n h w]` of a pool."""
    cut = jaxcam.cut(teacher, layer)

    @jax.jit
    @jax.vmap
    def of_example(image, target):
        image = as_floats(image)
        answers = {"logits": cut.head(cut.params, cut.features(cut.params, image), image)}
        return answers | {name: method(cut, image, target) for name, method in MAPS.items()}

    parts = [
        jax.tree.map(np.asarray, of_example(pool.images[i : i + size], pool.targets[i : i + size]))
        for i in range(0, len(pool.images), size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def weight_of(row: Row, answers: dict[str, np.ndarray]) -> float:
    """The weight of the maps' loss; for maps as heavy as Grad-CAM++'s, 0.01 times the ratio of the maps' squares."""
    if not row.maps:
        return 0
    ratio = np.square(answers["Grad-CAM++"]).mean() / np.square(answers[row.maps]).mean() if row.as_heavy else 1
    return WEIGHT * float(ratio)


def loss_of(
    row: Row, layer: str, *, several: bool, weight: float
) -> Callable[[nnx.Module, dict[str, jax.Array]], jax.Array]:
    """The loss of a row, `(model, batch) -> scalar`: with softmax, or, for several classes, with sigmoids."""
    of_example = functools.partial(sigmoid_loss if several else softmax_loss, row=row, weight=weight)

    def loss(model, batch):
        return jax.vmap(functools.partial(of_example, jaxcam.cut(model, layer)))(batch).mean()

    return loss


def softmax_loss(cut: jaxcam.Cut, example: dict[str, jax.Array], *, row: Row, weight: float) -> jax.Array:
    """The loss of the poster for one example: cross-entropy + weight * interpretation + distillation."""
    method = MAPS[row.maps] if row.maps else jaxcam.grad_cam
    given = TeacherTargets(example.get(row.maps), example.get("logits"))  # type: ignore[arg-type]
    return jaxcam.losses.student_loss(
        cut, given, as_floats(example["image"]), example["target"], method=method,
        interpretation_weight=weight, distillation_weight=1 if row.distilled else 0,
    )  # fmt: skip


def sigmoid_loss(cut: jaxcam.Cut, example: dict[str, jax.Array], *, row: Row, weight: float) -> jax.Array:
    """The same with sigmoids: sums over the classes of the binary cross-entropy and of the binary distillation."""
    image = as_floats(example["image"])
    logits = cut.head(cut.params, cut.features(cut.params, image), image)
    loss = optax.sigmoid_binary_cross_entropy(logits, example["present"]).sum()
    if row.maps:
        saliency = MAPS[row.maps](cut, image, example["target"])
        loss += weight * jaxcam.losses.map_distance(saliency, example[row.maps])
    if row.distilled:
        loss += binary_distillation(logits, example["logits"])
    return loss


def binary_distillation(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """The distillation of each class's sigmoid at temperature 4, the sum over classes.

    A sigmoid is a softmax over the logit and 0.

    Example:
      >>> float(binary_distillation(jnp.array([1.0, -2.0]), jnp.array([1.0, -2.0])))
      0.0
    """
    student_pairs, teacher_pairs = (jnp.stack([x, jnp.zeros_like(x)], -1) for x in (student_logits, teacher_logits))
    return jax.vmap(jaxcam.losses.distillation)(student_pairs, teacher_pairs).sum()


def trained(model: nnx.Module, row: Row, layer: str, pool: Pool, kept: dict[str, np.ndarray], options) -> nnx.Module:
    """The model after training on a row's loss; `options` are those of `examples.places.training`, and `several`.

    Batches depend on the seed alone, so that the students of a seed see the same images in every row.
    """
    columns = {"image": pool.images, "target": pool.targets, "present": pool.present, **kept}

    def draw_batch(rng, size):
        chosen = rng.integers(0, len(pool.images), size)
        return {name: column[chosen] for name, column in columns.items()}

    loss = loss_of(row, layer, several=options.several, weight=weight_of(row, kept))
    return training.train(model, draw_batch, loss, options)


def figures_of(model: nnx.Module, pool: Pool, *, several: bool) -> dict[str, float]:
    """The error in percent, or, for several classes, 100 times the mean average precision."""
    logits = training.in_batches(model, np.asarray(as_floats(pool.images)), 100)
    if several:
        return {"mean average precision": 100 * float(average_precision_score(pool.present, logits, average="macro"))}
    return {"error": 100 * float((logits.argmax(-1) != pool.targets).mean())}


def agreement(maps: np.ndarray, others: np.ndarray) -> float:
    """The mean over examples of the correlation of two maps `[n h w]`; 0 for a map that is the same everywhere.

    Example:
      >>> maps = np.arange(8.0).reshape(2, 2, 2)
      >>> round(agreement(maps, np.stack([2 * maps[0], np.zeros([2, 2])])), 6)
      0.5
    """
    a, b = (x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(-1, keepdims=True) for x in (maps, others))
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(np.divide((a * b).sum(-1), norms, out=np.zeros(len(a)), where=norms > 0).mean())
