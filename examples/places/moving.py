"""Clips: an object that moves in one of six ways in front of a background that does not, with its mask in each frame.

The object is a handwritten digit or a piece cut out of a photograph, from the pools of `examples.digits.canvases` and
their splits. A second object of the same kind stands still, so that only the motion tells which one counts.

    clip = draw(numpy.random.default_rng(0), "test")
    clip.frames   # [16 64 64 3] float32 in 0..1
    clip.label    # the motion, an index into MOTIONS
    clip.masks    # [16 64 64] bool: the moving object
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from examples.digits import canvases
from examples.digits.canvases import SIDE
from jaxcam.pretrained import MOTIONS

FRAMES = 16
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


class Clip(NamedTuple):
    """One clip with its ground truth, in the shapes of the module's docstring."""

    frames: np.ndarray
    label: int
    masks: np.ndarray


def draw(
    rng: np.random.Generator,
    split: str,
    *,
    label: int | None = None,
    photograph: bool | None = None,
    frames: int = FRAMES,
) -> Clip:
    """One clip of a split, "train" or "test". By default the motion is random, and the object a digit or a cut-out."""
    label = int(rng.integers(len(MOTIONS))) if label is None else label
    photograph = bool(rng.integers(2)) if photograph is None else photograph
    background = canvases._background(rng, split)
    moving, still = (_object(rng, split, photograph) for _ in range(2))
    row, column = rng.uniform(12, SIDE - 12, 2)
    _paint(background, still, row, column, rng.uniform(0.7, 1.1))
    rows, columns, scales = _path(rng, MOTIONS[label], frames)
    clip, masks = np.repeat(background[None], frames, 0), np.zeros((frames, SIDE, SIDE), bool)
    for t in range(frames):
        masks[t] = _paint(clip[t], moving, rows[t], columns[t], scales[t])
    return Clip(np.clip(clip, 0, 1).astype(np.float32), label, masks)


def draw_many(seed: int, split: str, count: int, **options) -> list[Clip]:
    """`count` clips. The same seed gives the same clips."""
    rng = np.random.default_rng(seed)
    return [draw(rng, split, **options) for _ in range(count)]


def _path(rng, motion, frames):
    """The center's rows and columns in pixels and the scales of all frames: speeds and starts are random."""
    time = np.linspace(-0.5, 0.5, frames)
    if motion in DIRECTIONS:
        way = rng.uniform(14, 36)
        reach = SIDE / 2 - way / 2 - 6  # of the middle of the way
        middle = SIDE / 2 + rng.uniform(-1, 1, 2) * np.where(np.array(DIRECTIONS[motion]) != 0, max(reach, 0), 20)
        rows, columns = (middle[i] + DIRECTIONS[motion][i] * way * time for i in (0, 1))
        return rows, columns, np.full(frames, rng.uniform(0.7, 1.1))
    factor = rng.uniform(1.7, 2.5) ** (1 if motion == "grows" else -1)
    row, column = SIDE / 2 + rng.uniform(-14, 14, 2)
    return np.full(frames, row), np.full(frames, column), rng.uniform(0.75, 1.0) * factor**time


def _object(rng, split, photograph):
    """A picture `[28 28 4]` in 0..1, the last channel its opacity: a digit in one color, or a cut-out."""
    if not photograph:
        ink = canvases._digit(rng, split, int(rng.integers(10)))
        opacity = np.zeros((28, 28), np.float32)
        top, left = (28 - ink.shape[0]) // 2, (28 - ink.shape[1]) // 2
        opacity[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        color = np.broadcast_to(rng.uniform(0.5, 1.0, 3), (28, 28, 3))
        return np.concatenate([color, opacity[..., None]], -1).astype(np.float32)
    pool = canvases.photographs(split)
    picture = pool[rng.integers(len(pool))]
    y, x = (rng.integers(0, side - 56 + 1) for side in picture.shape[:2])
    small = picture[y : y + 56, x : x + 56].reshape(28, 2, 28, 2, 3).mean((1, 3))
    angles, radii = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)
    for wave in (2, 3):
        radii = radii + rng.uniform(0, 0.25) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    radii *= rng.uniform(8, 11) / radii.mean()
    rows, columns = np.mgrid[:28, :28] - 13.5
    outline = np.interp(np.arctan2(rows, columns) % (2 * np.pi), angles, radii, period=2 * np.pi)
    opacity = np.clip(outline - np.hypot(rows, columns) + 0.5, 0, 1)
    return np.concatenate([np.clip(1.2 * small + 0.1, 0, 1), opacity[..., None]], -1).astype(np.float32)


def _paint(image, picture, row, column, scale):
    """Paint a picture with its center at a row and a column, in place; returns where it is opaque, `[64 64]` bool."""
    half = 14
    affine = (1 / scale, 0, half - column / scale, 0, 1 / scale, half - row / scale)
    layers = [
        np.asarray(
            Image.fromarray(picture[..., i]).transform(
                (SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
            )
        )
        for i in range(4)
    ]
    opacity = layers[3][..., None]
    image += opacity * (np.stack(layers[:3], -1) - image)
    return opacity[..., 0] > 0.5
