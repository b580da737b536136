"""Ten classes of one image, smoothed, cost at most 1.4 times what one class does: their features are computed once.

VGG-16 with random weights at 224 x 224, block5_conv3, Smooth Grad-CAM++ with n = 5, by `jax.vmap` over the classes with
cut, image and key unbatched. Beside it torch-cam, which has no such sharing: ten calls, or one with a batch of ten
copies of the image; the better of the two counts. That ten classes together give the maps that they give one by one is
checked: `difference` is the largest, over the maximum.
"""

import functools

import jax
import jax.numpy as jnp

import jaxcam
from benchmarks import peers, timing

BOUND = 1.4
SAMPLES = 5
CLASSES = 10


@jax.jit
def one_class(cut, image, key, target):
    """The map of one class."""
    return jaxcam.smooth_grad_cam_pp(cut, image, target, key, n_samples=SAMPLES)


@jax.jit
def ten_classes(cut, image, key, targets):
    """The maps of several classes."""
    return jax.vmap(functools.partial(one_class, cut, image, key))(targets)


def measure(*, small: bool = False) -> dict:
    """Ratios of ten classes over one, and over torch-cam's ten; small runs the digits network."""
    model, layer = peers.vgg(small=small)
    cut, net = jaxcam.cut(model, layer), peers.network(model)
    image, key, targets = jax.random.uniform(jax.random.key(0), model.image_shape), jax.random.key(1), range(CLASSES)
    x, options = peers.images(image[None]), {"num_samples": SAMPLES}
    calls = [peers.torch_cam("SmoothGradCAMpp", net, layer, x, target, **options) for target in targets]
    theirs = {
        "ten calls": lambda: [call() for call in calls],
        "a batch": peers.torch_cam(
            "SmoothGradCAMpp", net, layer, x.expand(CLASSES, -1, -1, -1), list(targets), **options
        ),
    }
    ours = {
        "one class": functools.partial(one_class, cut, image, key, jnp.int32(peers.TARGET)),
        "ten classes": functools.partial(ten_classes, cut, image, key, jnp.arange(CLASSES)),
    }
    times = timing.in_turn({**ours, **theirs}, repeats=2 if small else 3)
    rival = timing.fastest(times, theirs)
    together, alone = ours["ten classes"]()[peers.TARGET], ours["one class"]()
    ahead = f"ten classes: jaxcam / torch-cam, {rival}"
    return {
        "ratios": {
            "ten classes / one class": timing.median_ratio(times, "ten classes", "one class"),
            ahead: timing.median_ratio(times, "ten classes", rival),
        },
        "bounds": {"ten classes / one class": BOUND, ahead: 1},
        "difference": float(jnp.abs(together - alone).max() / alone.max()),
        "seconds": timing.summary(times),
    }
