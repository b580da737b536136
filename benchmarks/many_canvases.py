"""Digit canvases, of which no two are the same, and the cut that explains them."""

import numpy as np

import jaxcam

SIDE = 64
CANVASES = [jaxcam.pretrained.digits_canvas(kind)[0] for kind in range(3)]


def canvas(number: int) -> np.ndarray:
    """An embedded canvas, shifted and dimmed as no other number's."""
    place, kind = divmod(number, len(CANVASES))
    dim, shift = divmod(place, SIDE**2)
    return np.roll(CANVASES[kind], divmod(shift, SIDE), axis=(0, 1)) * np.float32(1 - 0.1 * dim)


def make_cut() -> jaxcam.Cut:
    """The embedded network, cut at its last layer."""
    return jaxcam.cut(jaxcam.digits(), "block3_conv2")
