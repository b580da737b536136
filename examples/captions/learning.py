"""Training scenes of the captioner and the answerer, on disk, with the values of the blocks that are not trained."""

import pathlib
import pickle
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.progress import track

from examples.captions import scenes

PIECE = 256  # scenes that are drawn at once


class Data(NamedTuple):
    """Training scenes: their ground truth, the images as uint8, and block2's values `[n 16 16 32]`, float16."""

    scenes: list[scenes.Scene]
    images: np.ndarray
    block2: np.ndarray


def replace(path: pathlib.Path, content: Any) -> None:
    """Pickles `content`, to another name first, so that a killed run leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(content))
    part.replace(path)


def training_data(encoder: Any, count: int, folder: pathlib.Path) -> Data:
    """`count` scenes of the training split. The pieces that are in the folder are not drawn again."""
    run = nnx.jit(lambda encoder, images: encoder.up_to_block2(images.astype(jnp.float32) / 255).astype(jnp.float16))
    drawn, images, values = [], [], []
    for piece in track(range(count // PIECE), "scenes"):
        file = folder / f"scenes{piece}.pickle"
        if not file.exists():
            several = scenes.draw_many(piece, "train", PIECE)
            pixels = np.array([np.round(255 * scene.image).astype(np.uint8) for scene in several])
            without_images = [(None, *scene[1:]) for scene in several]
            replace(file, (without_images, pixels, np.asarray(run(encoder, pixels))))
        several, pixels, block2 = pickle.loads(file.read_bytes())
        drawn += [scenes.Scene(*truth) for truth in several]
        images.append(pixels)
        values.append(block2)
    return Data(drawn, np.concatenate(images), np.concatenate(values))
