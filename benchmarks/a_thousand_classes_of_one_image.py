"""Grad-CAM of all 1000 classes of one image takes at most 3 times as long as that of one class, on VGG-16.

VGG-16 with random weights at 224 x 224, block5_conv3, by `jaxcam.explain_classes`: 512 forward directions, one for each
channel, give the weights of every class. And with average pooling and one linear layer in the place of the three dense
layers, where the bound is 1.2. Ten classes: at most 1.15. The rival is `jax.vmap` of `grad_cam` over the classes, one
backward pass each; `difference` is the largest between the two, over the maximum. Grad-CAM++ needs the derivatives at
every location, the head's whole Jacobian: at most 1.3 times as long as the features and the Jacobian's matrix products
in the same run.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam
from benchmarks import peers, timing

BOUNDS = {
    "VGG-16, Grad-CAM: 1000 classes / one": 3,
    "VGG-16, Grad-CAM: 10 classes / one": 1.15,
    "pooled, Grad-CAM: 1000 classes / one": 1.2,
    "pooled, Grad-CAM: 10 classes / one": 1.15,
    "VGG-16, Grad-CAM++: 1000 classes / features and matrix products": 1.3,
}


@jax.jit
def one_class(cut, image, target):
    """The map of one class."""
    return jaxcam.grad_cam(cut, image, target)


@jax.jit
def by_vmap(cut, image, targets):
    """The maps of many classes, a backward pass for each."""
    return jax.vmap(functools.partial(jaxcam.grad_cam, cut, image))(targets)


@functools.partial(jax.jit, static_argnums=0)
def many_classes(method, cut, image, targets):
    """The maps of many classes."""
    return jaxcam.explain_classes(method, cut, image, targets)


@jax.jit
def jacobian_products(cut, image, dense, rows):
    """The features, and the matrix products of a backward pass for each row: dense layers, the last one first."""
    A = cut.features(cut.params, image)
    return A, functools.reduce(lambda rows, kernel: rows @ kernel.T, reversed(dense), rows)


def measure(*, small: bool = False) -> dict:
    """Ratios of many classes over one; small runs the digits network with its ten classes."""
    image_shape, repeats = ((64, 64, 3), 1) if small else ((224, 224, 3), 2)
    image, ten = jax.random.uniform(jax.random.key(0), image_shape), jnp.arange(10)
    ratios, seconds, differences = {}, {}, {}
    for name in ("VGG-16", "pooled"):
        build = jaxcam.vgg_digits if small else jaxcam.vgg16
        model = build(rngs=nnx.Rngs(0), **({} if name == "VGG-16" else {"top": "average"}))
        cut = jaxcam.cut(model, "block3_conv2" if small else "block5_conv3")
        every = jnp.arange(10 if small else 1000)
        rivals = {
            "one": functools.partial(one_class, cut, image, jnp.int32(peers.TARGET)),
            "10 classes": functools.partial(many_classes, jaxcam.grad_cam, cut, image, ten),
            "1000 classes": functools.partial(many_classes, jaxcam.grad_cam, cut, image, every),
            "1000 classes, vmap": functools.partial(by_vmap, cut, image, every),
        }
        if name == "VGG-16":
            names = [layer for layer in model.layers if layer.startswith(("fc", "predictions"))]
            dense = [getattr(model, layer).kernel[...] for layer in names]
            rivals["1000 classes, Grad-CAM++"] = functools.partial(many_classes, jaxcam.grad_cam_pp, cut, image, every)
            rivals["features and matrix products"] = functools.partial(
                jacobian_products, cut, image, dense, jnp.eye(every.size)
            )
        times = timing.in_turn(rivals, repeats=repeats)
        for which in ("10 classes", "1000 classes", "1000 classes, vmap"):
            ratios[f"{name}, Grad-CAM: {which} / one"] = timing.median_ratio(times, which, "one")
        if name == "VGG-16":
            ratios[f"{name}, Grad-CAM++: 1000 classes / features and matrix products"] = timing.median_ratio(
                times, "1000 classes, Grad-CAM++", "features and matrix products"
            )
        ours, theirs = rivals["1000 classes"](), rivals["1000 classes, vmap"]()
        differences[name] = float(jnp.abs(ours - theirs).max() / theirs.max())
        seconds[name] = timing.summary(times)
    return {"ratios": ratios, "bounds": BOUNDS, "difference": differences, "seconds": seconds}
