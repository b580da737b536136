"""The map of a clip of 16 frames, over the network's forward pass on it: in time and space, for each method.

The embedded 3-D CNN on 16 frames of 64 x 64, cut at `conv3`, and C3D of the paper's widths with random weights on 16
frames of 112 x 112, cut at its last convolution. The floor is the jitted forward pass in the same run. There is no
bound: the paper gives no time. Smooth Grad-CAM++ takes n = 5 noisy copies and the clean clip.
"""

import functools
from collections.abc import Callable

import jax
from flax import nnx

import jaxcam
from benchmarks import timing
from jaxcam.networks import C3D

METHODS: dict[str, Callable[..., jax.Array]] = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++": jaxcam.grad_cam_pp,
    "HiResCAM": jaxcam.hires_cam,
    "Smooth Grad-CAM++": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=5),
}
WIDTHS = (64, 128, 256, 512)  # of the first four blocks of C3D
CLASSES = 487  # of Sports-1M


@jax.jit
def forward(cut, clip):
    """The logits."""
    return cut.head(cut.params, cut.features(cut.params, clip), clip)


@functools.partial(jax.jit, static_argnums=0)
def explain(name, cut, clip, target, key):
    """The map of a class."""
    keys = (key,) if name.startswith("Smooth") else ()
    return METHODS[name](cut, clip, target, *keys)


def measure(*, small: bool = False) -> dict:
    """Ratios of a map's time over the forward pass; small runs the embedded network alone."""
    networks = {"16 x 64 x 64": (jaxcam.pretrained.motions(), "conv3")}
    if not small:
        large = C3D(widths=WIDTHS, classes=CLASSES, image_shape=(16, 112, 112, 3), rngs=nnx.Rngs(0))
        large.eval()
        networks["16 x 112 x 112"] = (large, "conv4")
    ratios, seconds = {}, {}
    for size, (model, layer) in networks.items():
        cut, clip = jaxcam.cut(model, layer), jax.random.uniform(jax.random.key(0), model.image_shape)
        rivals = {"forward pass": functools.partial(forward, cut, clip)}
        for name in METHODS:
            rivals[name] = functools.partial(explain, name, cut, clip, jax.numpy.int32(1), jax.random.key(1))
        times = timing.in_turn(rivals, repeats=1 if small else 3)
        for name in METHODS:
            ratios[f"{size}: {name} / forward pass"] = timing.median_ratio(times, name, "forward pass")
        seconds[size] = timing.summary(times)
    return {"ratios": ratios, "seconds": seconds}
