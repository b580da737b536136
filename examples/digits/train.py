"""Train the embedded default: a small VGG on canvases of handwritten digits.

    python -m examples.digits.train --out jaxcam/pretrained/digits        (about half an hour on 2 cores)
    python -m examples.digits.train --out /tmp/digits --canvases 256 --epochs 1 --test 100       (a quick test)
    python -m examples.digits.train --out build/gelu --activation gelu       (the same network with a smooth head)
    python -m examples.digits.train --out build/silu --activation silu --start embedded --canvases 4096 --epochs 2
                                                          (minutes: from the weights of the embedded relu network)
    python -m examples.digits.train --out build/vit --network vit --canvases 16384 --epochs 24
                                                          (a small vision transformer, 8 x 8 patches)
    python -m examples.digits.train --out build/hybrid --network hybrid --canvases 4096 --epochs 3
                          (minutes: two blocks of a vision transformer on the convolutions of the embedded network)

It writes the weights in float16, the scores on test canvases, which show other digits and textures than those of the
training, and three sample canvases with their boxes. It prints the scores.
"""

import argparse
import concurrent.futures
import functools
import json
import multiprocessing
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image

import jaxcam
from examples.digits import canvases
from jaxcam import networks

TEST_SEED, SAMPLE_SEED = 1_000_000, 2_000_000
SAMPLE_COPIES = (1, 2, 3)


def vision_transformer(*, rngs: nnx.Rngs) -> nnx.Module:
    """A vision transformer for canvases: 8 x 8 patches, 4 blocks of width 96."""
    return networks.ViT(patch=8, width=96, depth=4, heads=4, classes=10, image_shape=(64, 64, 3), rngs=rngs)


class Convolutions(nnx.Module):
    """The tokens of a hybrid: the values behind the last pooling of the embedded network, projected."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.network = jaxcam.vgg_digits(top="average", rngs=rngs)
        self.project = nnx.Linear(64, width, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """The tokens `[b 64 width]` of the images `[b 64 64 3]`, row by row."""
        A = nnx.max_pool(self.network.features(image, until="block3_conv2"), (2, 2), strides=(2, 2))
        return self.project(A.reshape(len(A), -1, A.shape[-1]))


def hybrid_transformer(*, rngs: nnx.Rngs) -> nnx.Module:
    """A hybrid of Dosovitskiy et al. 2021, section 3.1: 2 blocks of width 64, whose patches are of a feature map."""
    model: Any = networks.ViT(
        patch=8, width=64, depth=2, heads=4, classes=10, image_shape=(64, 64, 3), preprocess=None, rngs=rngs
    )
    model.patch_embed = Convolutions(64, rngs=rngs)
    return model


def started_hybrid() -> nnx.Module:
    """The hybrid with the convolutions of the embedded network, and the rest at random."""
    model: Any = hybrid_transformer(rngs=nnx.Rngs(0))
    embedded = jaxcam.digits()
    for name in model.patch_embed.network.layers:
        if "conv" in name:
            setattr(model.patch_embed.network, name, getattr(embedded, name))
    return model


TRANSFORMERS: dict[str, Callable[..., nnx.Module]] = {"vit": vision_transformer, "hybrid": hybrid_transformer}


def batch_of(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` training canvases, uint8, and their labels. Two in five have a single copy, the hardest kind."""
    rng = np.random.default_rng(seed)
    drawn = [canvases.draw(rng, "train", copies=int(rng.choice([1, 1, 2, 3, 4]))) for _ in range(count)]
    return np.array([np.round(255 * c.image).astype(np.uint8) for c in drawn]), np.array([c.label for c in drawn])


@nnx.jit
def step(model, optimizer, images, labels, key):
    """One step of AdamW on a batch, with permuted channels and a random brightness of each image."""
    order, light = jax.random.split(key)
    x = images[..., jax.random.permutation(order, 3)].astype(jnp.float32) / 255
    x = jnp.clip(x * jax.random.uniform(light, (len(x), 1, 1, 1), minval=0.7, maxval=1.3), 0, 1)

    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


def accuracy(model, drawn) -> float:
    """The share of canvases whose digit has the largest logit."""
    forward = nnx.jit(lambda model, images: model(images).argmax(-1))
    predicted = [forward(model, np.array([c.image for c in drawn[i : i + 100]])) for i in range(0, len(drawn), 100)]
    return float((np.concatenate(predicted) == [c.label for c in drawn]).mean())


def train(images, labels, *, epochs: int, batch_size: int = 32, rate: float = 1e-3, model=None, seed: int = 0):
    """Train a network on uint8 images `[n 64 64 3]` and their labels; by default a new one with relu."""
    model = jaxcam.vgg_digits(rngs=nnx.Rngs(seed)) if model is None else model
    steps = epochs * (len(images) // batch_size)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 20 + 1, steps + 1)
    optimizer = nnx.Optimizer(model, optax.adamw(schedule, weight_decay=1e-2), wrt=nnx.Param)
    shuffle, key, done = np.random.default_rng(seed), jax.random.key(seed), 0
    for epoch in range(epochs):
        order = shuffle.permutation(len(images))
        losses: list = []
        for i in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[i : i + batch_size]
            losses.append(step(model, optimizer, images[rows], labels[rows], jax.random.fold_in(key, done)))
            done += 1
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    return model


def main():
    """Draw canvases, train, score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--canvases", type=int, default=64_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--network", choices=("vgg", *TRANSFORMERS), default="vgg")
    parser.add_argument("--activation", choices=("relu", "gelu", "silu"), default="relu")
    parser.add_argument("--start", choices=("random", "embedded"), default="random", help="the weights to start from")
    arguments = parser.parse_args()
    if arguments.network in TRANSFORMERS and (arguments.activation != "relu" or arguments.start != "random"):
        parser.error(f"--network {arguments.network} takes neither --activation nor --start")

    pieces = [(seed, 128) for seed in range(arguments.canvases // 128)]
    with concurrent.futures.ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(batch_of, *zip(*pieces, strict=True), chunksize=8))
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    activation = getattr(jax.nn, arguments.activation)
    build = TRANSFORMERS.get(arguments.network, functools.partial(jaxcam.vgg_digits, activation=activation))
    if arguments.network == "hybrid":
        model, rate = started_hybrid(), 3e-4
    elif arguments.start == "embedded":
        model, rate = jaxcam.digits(activation=activation), 3e-4
    else:
        model, rate = build(rngs=nnx.Rngs(0)), 1e-3
    model = train(images, labels, epochs=arguments.epochs, rate=rate, model=model)

    arrays = {name: array.astype(np.float16) for name, array in jaxcam.pretrained.to_arrays(model).items()}
    rounded = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = jaxcam.pretrained.from_arrays(lambda: build(rngs=nnx.Rngs(0)), rounded)
    scores = {"test_canvases": arguments.test, "training_canvases": len(images), "epochs": arguments.epochs}
    scores["accuracy"] = accuracy(model, canvases.draw_many(TEST_SEED, "test", arguments.test))
    for copies in range(1, 5):
        drawn = canvases.draw_many(TEST_SEED + copies, "test", arguments.test, copies=copies)
        scores[f"accuracy_{copies}_copies"] = accuracy(model, drawn)

    # The files are written to another folder and moved when complete, so that a killed run leaves the old files whole.
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        complete_files = pathlib.Path(folder)
        np.savez_compressed(complete_files / "weights.npz", **arrays)  # type: ignore[arg-type]
        (complete_files / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        samples = []
        for number, copies in enumerate(SAMPLE_COPIES):
            canvas = canvases.draw(np.random.default_rng(SAMPLE_SEED + number), "test", copies=copies)
            Image.fromarray(np.round(255 * canvas.image).astype(np.uint8)).save(complete_files / f"canvas{number}.png")
            samples.append({"file": f"canvas{number}.png", "label": canvas.label, "boxes": canvas.boxes.tolist()})
        (complete_files / "canvases.json").write_text(json.dumps(samples, indent=2) + "\n")
        for file in complete_files.iterdir():
            file.replace(arguments.out / file.name)
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
