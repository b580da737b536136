"""An evaluation of 24 images by MobileNetV2, three methods, drop, deletion and insertion, takes at most 100 seconds.

Keras's MobileNetV2 with random weights at 224 x 224, cut at out_relu; Grad-CAM, Grad-CAM++ and Smooth Grad-CAM++
(n = 5), and the controls; the whole call of `jaxcam.evaluate`, with compilation. It took 355 s when depthwise
convolutions were XLA's own. The share is that of the forward passes that cannot be avoided, at the time of one of the
same cut in the same run: for an image 1 for the maps and the probabilities, n for the smoothed method, 2 for the ends
of the curves, and for each map that is another 9 of deletion, 9 of insertion and 1 of the masked image.
"""

import os
import statistics
import time

import jax
import numpy as np

import jaxcam
from jaxcam.cutting import activations

SECONDS, N = 100, 5
METHODS = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++": jaxcam.grad_cam_pp,
    "Smooth Grad-CAM++": jaxcam.smooth_grad_cam_pp,
}
METRICS = ["drop", "deletion", "insertion"]


def measure(*, small: bool = False) -> dict:
    """Seconds, and the share of the forward passes; small takes two images of 64 x 64."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    side, count, repeats = (64, 2, 2) if small else (224, 24, 30)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(side, side, 3))
    rng = np.random.default_rng(0)
    images = [rng.uniform(-1, 1, (side, side, 3)).astype(np.float32) for _ in range(count)]
    # With the statistics that it starts with, all probabilities are equal, and so are all curves.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.stack(images[:4]), training=True)
    cut = jaxcam.cut(model, "out_relu", strip_activation=True)
    examples = [jaxcam.Example(image, name=str(i)) for i, image in enumerate(images)]

    start = time.perf_counter()
    evaluation = jaxcam.evaluate(cut, examples, METHODS, METRICS)
    seconds = time.perf_counter() - start

    forward = jax.jit(lambda cut, x: activations(cut, x)[1])
    forward(cut, images[0]).block_until_ready()
    times = []
    for i in range(repeats):
        began = time.perf_counter()
        forward(cut, images[i % count]).block_until_ready()
        times.append(time.perf_counter() - began)
    maps = [
        len({str({**row, "win": None}) for row in record["rows"].values()}) for record in evaluation.images.values()
    ]
    passes = sum(1 + N + 2 + (9 + 9 + 1) * each for each in maps)
    one = statistics.median(times)
    return {
        "ratios": {f"seconds of the evaluation / {SECONDS}": seconds / SECONDS},
        "bound": 1,
        "share of the forward passes": passes * one / seconds,
        "forward passes": passes,
        "maps that differ, of an image": statistics.mean(maps),
        "seconds": {"evaluation, with compilation": seconds, "one forward pass": one},
    }
