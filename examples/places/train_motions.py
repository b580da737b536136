"""Train the embedded network for clips: six motions of handwritten digits and of pieces cut out of photographs.

    python -m examples.places.train_motions --out jaxcam/pretrained/clips --checkpoints build/clips
    python -m examples.places.train_motions --out build/quick --steps 20 --test 20        (a quick test)

It prints the accuracy on held-out clips of 16 frames, which show other digits, pieces and textures than those of the
training, and on held-out clips of other lengths.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.places import moving, training
from jaxcam.networks import C3D


def build(rngs: nnx.Rngs | None = None) -> C3D:
    """The network that is trained."""
    return C3D(classes=len(moving.MOTIONS), class_names=moving.MOTIONS, rngs=nnx.Rngs(0) if rngs is None else rngs)


def draw_batch(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips `[size 16 64 64 3]` with some noise, and their motions; of each four, three are another one changed."""
    clips: list[np.ndarray] = []
    labels: list[int] = []
    while len(clips) < size:
        frames, label, _ = moving.draw(rng, "train")
        for _ in range(4):
            changed, motion = changed_clip(rng, frames, label)
            clips.append(changed)
            labels.append(motion)
    frames = np.stack(clips[:size])
    frames = frames + rng.normal(0, 0.02, (*frames.shape[:-1], 1)).astype(np.float32)
    return np.clip(frames, 0, 1), np.array(labels[:size], np.int32)


# What becomes of each motion, in the order of MOTIONS, if time is reversed, rows or columns are, or they are exchanged.
REVERSED, UPSIDE_DOWN, MIRRORED, EXCHANGED = (
    (1, 0, 3, 2, 5, 4),
    (0, 1, 3, 2, 4, 5),
    (1, 0, 2, 3, 4, 5),
    (2, 3, 0, 1, 4, 5),
)


def changed_clip(rng: np.random.Generator, frames: np.ndarray, label: int) -> tuple[np.ndarray, int]:
    """The clip with time, rows and columns reversed or exchanged at random, and its motion."""
    changes = [
        (lambda frames: frames[::-1], REVERSED),
        (lambda frames: frames[:, ::-1], UPSIDE_DOWN),
        (lambda frames: frames[:, :, ::-1], MIRRORED),
        (lambda frames: frames.swapaxes(1, 2), EXCHANGED),
    ]
    for change, motions in changes:
        if rng.integers(2):
            frames, label = change(frames), motions[label]
    return frames, label


def loss(model, batch):
    """The mean cross-entropy."""
    clips, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(model(clips), labels).mean()


def by_planes(x, kernel, strides, padding, **options):
    """A 3-D convolution as a 2-D one of the planes of neighboring frames, [b t h w c] -> [b t h w k].

    XLA's CPU backend takes a third of the time for it, and for the gradient of the kernel.
    """
    del options
    batch, frames, rows, columns, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    planes = jnp.concatenate([x[:, i : i + frames] for i in range(3)], -1)
    planes = planes.reshape(batch * frames, rows, columns, 3 * channels)
    kernel = jnp.concatenate(list(kernel), -2)
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(planes, kernel, strides[1:], padding[1:], dimension_numbers=dimensions)
    return y.reshape(batch, frames, *y.shape[1:])


def with_convolutions_by_planes(model: C3D) -> C3D:
    """The model, whose convolutions are computed by `by_planes`."""
    for number in range(len(model.pools) + 1):
        getattr(model, f"conv{number + 1}").conv.conv_general_dilated = by_planes
    return model


def accuracy(model: nnx.Module, clips: list[moving.Clip]) -> float:
    """The share of clips whose motion is the most probable class."""
    predicted = training.in_batches(model, [clip.frames for clip in clips], 20).argmax(-1)
    return round(float(np.mean(predicted == [clip.label for clip in clips])), 4)


def main():
    """Train, score and write."""
    options = training.parser_of(__doc__, steps=1000, batch=16, test=600).parse_args()
    model = training.train(with_convolutions_by_planes(build(nnx.Rngs(options.seed))), draw_batch, loss, options)
    model, arrays = training.rounded(model, build)
    scores = {"steps": options.steps, "batch": options.batch, "seed": options.seed, "test_clips": options.test}
    for name, photograph in (("digits", False), ("cut_outs", True)):
        clips = moving.draw_many(training.TEST_SEED, "test", options.test // 2, photograph=photograph)
        scores[f"accuracy_{name}"] = accuracy(model, clips)
    scores["accuracy"] = round((scores["accuracy_digits"] + scores["accuracy_cut_outs"]) / 2, 4)
    for frames in (12, 24):
        clips = moving.draw_many(training.TEST_SEED + frames, "test", options.test // 4, frames=frames)
        scores[f"accuracy_{frames}_frames"] = accuracy(model, clips)
    training.write(options.out, arrays, scores)


if __name__ == "__main__":
    main()
