"""What training the captioner and the answerer needs: scenes on disk, the trunk's values, epochs that resume."""

import functools
import pathlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.progress import track

import jaxcam
from examples.captions import scenes

PIECE = 256  # scenes that are drawn at once


class Data(NamedTuple):
    """Training scenes: their ground truth, the images as uint8, and the trunk's values `[n 8 8 64]`, float16."""

    scenes: list[scenes.Scene]
    images: np.ndarray
    trunk: np.ndarray


def replace(path: pathlib.Path, content: Any) -> None:
    """Pickles `content`, to another name first, so that a killed run leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(content))
    part.replace(path)


def with_trunk_of_digits(model):
    """The model, with the convolutions of the embedded digits network in its trunk."""
    arrays, digits = jaxcam.pretrained.to_arrays(model), jaxcam.pretrained.to_arrays(jaxcam.digits())
    arrays |= {f"encoder/trunk/{name}": array for name, array in digits.items() if name.startswith("block")}
    return jaxcam.pretrained.from_arrays(lambda: model, arrays)


def training_data(trunk, count: int, folder: pathlib.Path) -> Data:
    """`count` scenes of the training split. The pieces that are in the folder are not drawn again."""
    run = nnx.jit(lambda trunk, images: trunk(images.astype(jnp.float32) / 255).astype(jnp.float16))
    drawn, images, values = [], [], []
    for piece in track(range(count // PIECE), "scenes"):
        file = folder / f"scenes{piece}.pickle"
        if not file.exists():
            several = scenes.draw_many(piece, "train", PIECE)
            pixels = np.array([np.round(255 * scene.image).astype(np.uint8) for scene in several])
            without_images = [(None, *scene[1:]) for scene in several]
            replace(file, (without_images, pixels, np.asarray(run(trunk, pixels))))
        several, pixels, trunk_values = pickle.loads(file.read_bytes())
        drawn += [scenes.Scene(*truth) for truth in several]
        images.append(pixels)
        values.append(trunk_values)
    return Data(drawn, np.concatenate(images), np.concatenate(values))


def fit(
    model,
    loss: Callable[..., jax.Array],
    batches: Callable[[int], Iterator[tuple]],
    *,
    epochs: int,
    steps: int,
    checkpoint: pathlib.Path,
    rate: float = 2e-3,
):
    """Trains everything behind the trunk with AdamW. A run that was stopped goes on after its last whole epoch.

    Args:
      model: the network.
      loss: `(model, *batch) -> (loss, parts)`, and the parts are printed.
      batches: the number of an epoch -> its batches.
      epochs: of the whole training.
      steps: batches of one epoch.
      checkpoint: the file of what was learned so far.
      rate: the highest learning rate.
    """
    parts: Any = nnx.split(model, nnx.Not(nnx.PathContains("trunk")), ...)
    graphdef, learned, fixed = parts
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, epochs * steps // 20 + 1, epochs * steps + 2)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2))
    state, first = optimizer.init(learned), 0
    if checkpoint.exists():
        first, leaves = pickle.loads(checkpoint.read_bytes())
        learned, state = jax.tree.unflatten(jax.tree.structure((learned, state)), leaves)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(learned, state, batch):
        def loss_of(learned):
            return loss(nnx.merge(graphdef, learned, fixed), *batch)

        (_, parts), gradient = jax.value_and_grad(loss_of, has_aux=True)(learned)
        updates, state = optimizer.update(gradient, state, learned)
        return optax.apply_updates(learned, updates), state, parts

    for epoch in range(first, epochs):
        parts = []
        for batch in track(batches(epoch), f"epoch {epoch + 1} of {epochs}", total=steps):
            learned, state, values = step(learned, state, batch)
            parts.append(values)
        replace(checkpoint, (epoch + 1, [np.asarray(leaf) for leaf in jax.tree.leaves((learned, state))]))
        means = {name: f"{np.mean([values[name] for values in parts]):.4f}" for name in parts[0]}
        print(f"epoch {epoch + 1}: {means}", flush=True)
    return nnx.merge(graphdef, learned, fixed)


def rounded(model):
    """The model's parameters as they are stored, in float16, and the model that has them."""
    arrays = {name: array.astype(np.float16) for name, array in jaxcam.pretrained.to_arrays(model).items()}
    read = {name: array.astype(np.float32) for name, array in arrays.items()}
    return arrays, jaxcam.pretrained.from_arrays(lambda: model, read)
