"""Tiny networks as cuts, and their maps by plain `jax.grad`, which shares no code with jaxcam's derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam

CLASSES = 4


def parameters(seed, *, side=3, channels=3, hidden=5, dtype="float64"):
    """Parameters for images `[side side 2]`."""
    rng = np.random.default_rng(seed)
    size = side * side * channels
    arrays = {
        "W": rng.normal(size=(2, channels)),
        "V": rng.normal(size=(size, hidden)) / np.sqrt(size),
        "b": 0.3 * rng.normal(size=hidden),
        "Z": rng.normal(size=(hidden, CLASSES)),
    }
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), arrays)


def features(params, x):
    return jax.nn.relu(x @ params["W"])


def relu_head(params, A, x):
    return jax.nn.relu(A.ravel() @ params["V"] + params["b"]) @ params["Z"]


def gelu_head(params, A, x):
    return jax.nn.gelu(A.ravel() @ params["V"] + params["b"]) @ params["Z"]


def coarse_features(params, x):
    """For a student whose layer is at half the resolution; the image is [6 6 2]."""
    return features(params, x.reshape(3, 2, 3, 2, 2).mean((1, 3)))


def cut_of(params, head=relu_head, features=features, **options):
    return jaxcam.Cut(params, features, head, "toy", **options)


def image(seed, side=3, dtype="float64"):
    return jnp.asarray(np.random.default_rng(100 + seed).normal(size=(side, side, 2)), dtype)


def plain_maps(params, x, target, head=relu_head, features=features):
    """The maps of Grad-CAM and Grad-CAM++ with nested `jax.grad` along every direction; for float64."""
    A = features(params, x)

    def u(flat):
        return head(params, flat.reshape(A.shape), x)[target]

    def along(direction):
        line = lambda t: u(A.ravel() + t * direction)
        first = jax.grad(line)
        second = jax.grad(first)
        return first(0.0), second(0.0), jax.grad(second)(0.0)

    u1, u2, u3 = (part.reshape(A.shape) for part in jax.vmap(along)(jnp.eye(A.size)))
    Y2, Y3 = u2 + u1**2, u3 + 3 * u1 * u2 + u1**3
    denominator = 2 * Y2 + A.sum((0, 1), keepdims=True) * Y3
    alpha = jnp.where(denominator == 0, 0, Y2 / jnp.where(denominator == 0, 1, denominator))
    plus_plus = (alpha * jax.nn.relu(u1)).sum((0, 1), keepdims=True)
    plain = u1.mean((0, 1), keepdims=True)
    return {name: jax.nn.relu((w * A).sum(-1)) for name, w in (("grad_cam", plain), ("grad_cam_pp", plus_plus))}
