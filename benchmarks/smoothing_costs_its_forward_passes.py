"""Smooth Grad-CAM++ costs little more than its n + 1 forward passes: at most 1.15 times, for n = 5 and 50.

VGG-16 with random weights at 224 x 224, cut at block5_conv3. The floor, in the same run and in turn with it, is the
bare features of n noisy images and of the clean one, jitted: what any smoothed method must at least compute. It is
taken one image at a time and eight at a time, and the better of the two counts. Above the floor lie the
head's gradient for every sample, the noise, the weights and the map.
"""

import functools
import statistics

import jax
from flax import nnx

import jaxcam
from benchmarks import timing

BOUND = 1.15


@functools.partial(jax.jit, static_argnames="at_a_time")
def forward_passes(cut, images, *, at_a_time):
    """The bare features of all images, and all of them kept: nothing can be left out."""
    return jax.lax.map(lambda x: cut.features(cut.params, x), images, batch_size=at_a_time)


@functools.partial(jax.jit, static_argnames="n")
def smooth(cut, image, key, *, n):
    """The map, class given."""
    return jaxcam.smooth_grad_cam_pp(cut, image, 3, key, n_samples=n)


def measure(*, small: bool = False) -> dict:
    """Ratios of the map's time over its floor's; small runs the digits network."""
    if small:
        model, layer, counts = jaxcam.digits(), "block3_conv2", {5: 3}
    else:
        model, layer, counts = jaxcam.vgg16(rngs=nnx.Rngs(0)), "block5_conv3", {5: 9, 50: 3}
    cut, shape = jaxcam.cut(model, layer), model.image_shape
    image = jax.random.uniform(jax.random.key(0), shape)
    key = jax.random.key(1)
    ratios, seconds = {}, {}
    for n, repeats in counts.items():
        images = image + 0.3 * jax.random.normal(key, (n + 1, *shape))
        floors = {f"forward passes, {size} at a time": size for size in (1, min(n, 8))}
        rivals = {"map": functools.partial(smooth, cut, image, key, n=n)}
        for name, size in floors.items():
            rivals[name] = functools.partial(forward_passes, cut, images, at_a_time=size)
        times = timing.in_turn(rivals, repeats=repeats)
        floor = min(floors, key=lambda name: statistics.median(times[name]))
        ratios[f"n = {n}: map / {n + 1} {floor}"] = timing.median_ratio(times, "map", floor)
        seconds[f"n = {n}"] = timing.summary(times)
    return {"ratios": ratios, "bound": BOUND, "seconds": seconds}
