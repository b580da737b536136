"""The embedded network for clips, and sample clips for it."""

import functools
import importlib.resources
import json

import numpy as np

from jaxcam.networks import C3D
from jaxcam.pretrained._embedded import embedded_network

MOTIONS = ("left", "right", "up", "down", "grows", "shrinks")


def motions() -> C3D:
    """The embedded 3-D CNN: in which of six ways an object moves in a clip of 16 frames of 64 x 64 pixels.

    It takes clips of any number of frames, at least 4. It is trained by `examples/places/train_motions.py`, and
    `jaxcam/pretrained/clips/scores.json` has what the script printed.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.pretrained.motions(), "conv3")
      >>> clip, boxes, motion = jaxcam.pretrained.motion_clip(0)
      >>> clip.shape, boxes.shape, MOTIONS[motion]
      ((16, 64, 64, 3), (16, 4), 'left')
      >>> jaxcam.grad_cam(cut, clip, motion).shape
      (8, 8, 8)
    """
    return embedded_network("clips/weights.npz", functools.partial(C3D, classes=len(MOTIONS), class_names=MOTIONS))


def motion_clip(number: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Sample clip `number` of the test split, as `(clip, boxes, motion)`.

    The clip is `[16 64 64 3]`, float32 in 0..1; the boxes of the moving object are `[16 4]`, row0, column0, row1,
    column1 in each frame, the last two excluded; the motion is an index into the network's class names.

    Raises:
      ValueError: there is no such clip.
    """
    from PIL import Image

    folder = importlib.resources.files("jaxcam.pretrained") / "clips"
    clips = json.loads((folder / "clips.json").read_text())
    if not 0 <= number < len(clips):
        raise ValueError(f"clip {number} does not exist: choose one of 0..{len(clips) - 1}")
    boxes = np.array(clips[number]["boxes"])
    with (folder / clips[number]["file"]).open("rb") as file, Image.open(file) as picture:
        strip = np.asarray(picture.convert("RGB"), np.float32) / 255
    return np.stack(np.split(strip, len(boxes), 1)), boxes, clips[number]["motion"]
