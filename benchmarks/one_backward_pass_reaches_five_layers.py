"""Maps at five layers, the last of each block, cost at most 1.3 times what the earliest of them alone does.

VGG-16 with random weights at 224 x 224: Grad-CAM++ and Smooth Grad-CAM++ with n = 5 on a `jaxcam.Cuts`, beside a `Cut`
at block1_conv2, and beside torch-cam with a list of the five layers, which takes them by one backward pass too.
`difference` is that of the earliest layer's map, together and alone, over its maximum.
"""

import functools

import jax
import jax.numpy as jnp

import jaxcam
from benchmarks import peers, timing

BOUND = 1.3
SAMPLES = 5


@jax.jit
def grad_cam_pp(cut, image, key):
    """The map, or maps by layer; it takes no noise."""
    del key
    return jaxcam.grad_cam_pp(cut, image, peers.TARGET)


@jax.jit
def smooth_grad_cam_pp(cut, image, key):
    """The map, or maps by layer."""
    return jaxcam.smooth_grad_cam_pp(cut, image, peers.TARGET, key, n_samples=SAMPLES)


METHODS = {
    "Grad-CAM++": (grad_cam_pp, "GradCAMpp", {}),
    f"Smooth Grad-CAM++, n = {SAMPLES}": (smooth_grad_cam_pp, "SmoothGradCAMpp", {"num_samples": SAMPLES}),
}


def measure(*, small: bool = False) -> dict:
    """Ratios of five layers over one, and over torch-cam's five; small runs the digits network, which has three."""
    model, last = peers.vgg(small=small)
    pools = [index for index, name in enumerate(model.layers) if name.endswith("_pool")]
    layers = [model.layers[index - 1] for index in pools]
    assert layers[-1] == last
    cuts, earliest, net = jaxcam.cut(model, layers), jaxcam.cut(model, layers[0]), peers.network(model)
    image, key = jax.random.uniform(jax.random.key(0), model.image_shape), jax.random.key(1)
    x = peers.images(image[None])
    count = f"{len(layers)} layers"
    ratios, bounds, seconds, differences = {}, {}, {}, {}
    for name, (method, torch_cam, options) in METHODS.items():
        rivals = {
            "together": functools.partial(method, cuts, image, key),
            "alone": functools.partial(method, earliest, image, key),
            "torch-cam": peers.torch_cam(torch_cam, net, layers, x, **options),
        }
        times = timing.in_turn(rivals, repeats=2 if small else 3)
        bound, beside = f"{name}: {count} / {layers[0]} alone", f"{name}: {count}, jaxcam / torch-cam"
        ratios[bound] = timing.median_ratio(times, "together", "alone")
        ratios[beside] = timing.median_ratio(times, "together", "torch-cam")
        bounds[bound] = BOUND
        together, alone = rivals["together"]()[layers[0]], rivals["alone"]()
        differences[name] = float(jnp.abs(together - alone).max() / alone.max())
        seconds[name] = timing.summary(times)
    return {"ratios": ratios, "bounds": bounds, "difference": differences, "seconds": seconds}
