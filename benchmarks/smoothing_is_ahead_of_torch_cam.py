"""Smooth Grad-CAM++ is ahead of torch-cam's, for one image and for eight, and at most 1.15 times its forward passes.

VGG-16 with random weights at 224 x 224, block5_conv3, n = 5. torch-cam takes eight images as one batch and one after
the other; jaxcam takes them by `jax.vmap` and by `jax.lax.map`; of both the better counts, and is named. The floor is
that of smoothing_costs_its_forward_passes: the bare features of the n noisy images and the clean one, for each image.

torch-cam's map is another one: it takes the gradient and the activation of the last noisy image.
"""

import functools

import jax

import jaxcam
from benchmarks import peers, timing
from benchmarks.smoothing_costs_its_forward_passes import BOUND, forward_passes

SAMPLES = 5
IMAGES = 8


def smooth(cut, image, key):
    """The map of one image."""
    return jaxcam.smooth_grad_cam_pp(cut, image, peers.TARGET, key, n_samples=SAMPLES)


@jax.jit
def one(cut, image, key):
    """One image."""
    return smooth(cut, image, key)


@jax.jit
def by_vmap(cut, images, keys):
    """All images together."""
    return jax.vmap(functools.partial(smooth, cut))(images, keys)


@jax.jit
def by_map(cut, images, keys):
    """One image after the other, in one program."""
    return jax.lax.map(lambda each: smooth(cut, *each), (images, keys))


def measure(*, small: bool = False) -> dict:
    """Ratios of the map's time over its rivals'; small runs the digits network."""
    model, layer = peers.vgg(small=small)
    cut, net = jaxcam.cut(model, layer), peers.network(model)
    ratios: dict[str, float] = {}
    bounds: dict[str, float] = {}
    seconds = {}
    for count in (1, IMAGES):
        images = jax.random.uniform(jax.random.key(0), (count, *model.image_shape))
        keys = jax.random.split(jax.random.key(1), count)
        x = peers.images(images)
        torch_cam = functools.partial(peers.torch_cam, "SmoothGradCAMpp", net, layer, num_samples=SAMPLES)
        noise = jax.random.normal(jax.random.key(2), (count, SAMPLES + 1, *model.image_shape))
        noisy = (images[:, None] + 0.3 * noise).reshape(-1, *model.image_shape)
        if count == 1:
            ours = {"jaxcam": functools.partial(one, cut, images[0], keys[0])}
            theirs = {"torch-cam": torch_cam(x)}
        else:
            ours = {
                "jax.vmap": functools.partial(by_vmap, cut, images, keys),
                "jax.lax.map": functools.partial(by_map, cut, images, keys),
            }
            theirs = {"a batch": torch_cam(x), "one by one": one_by_one([torch_cam(each[None]) for each in x])}
        floors = {
            f"{size} at a time": functools.partial(forward_passes, cut, noisy, at_a_time=size)
            for size in (1, min(len(noisy), 8))
        }
        times = timing.in_turn({**ours, **theirs, **floors}, repeats=2 if small else 5 if count == 1 else 2)
        best, rival, floor = (timing.fastest(times, group) for group in (ours, theirs, floors))
        what = "one image" if count == 1 else f"{count} images, {best}"
        passes = f"{what}: map / {len(noisy)} forward passes, {floor}"
        ahead = f"{what}: jaxcam / torch-cam" + ("" if count == 1 else f", {rival}")
        ratios[ahead], bounds[ahead] = timing.median_ratio(times, best, rival), 1
        ratios[passes], bounds[passes] = timing.median_ratio(times, best, floor), BOUND
        seconds[f"{count} images"] = timing.summary(times)
    return {"ratios": ratios, "bounds": bounds, "seconds": seconds}


def one_by_one(calls):
    """A rival that makes the calls one after the other."""
    return lambda: [call() for call in calls]
