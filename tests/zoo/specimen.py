"""What a specimen of the zoo is, and how the state of a fresh model is made to matter."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Specimen(NamedTuple):
    """A model and what it is called with; shapes and inputs are of one example, without a batch axis."""

    build: Callable[[], Any]  # -> nnx.Module | (linen_module, variables) | keras.Model
    image_shape: tuple[int, ...] = (32, 32, 3)
    inputs: tuple | dict = ()  # after the image, by position or by name


def randomized(tree, seed=0):
    """The same tree of arrays, with random biases, scales, and running means and variances."""
    rng = np.random.default_rng(seed)

    def replace(path, array):
        return random_value(rng, path[-1].key, array)

    return jax.tree.map_with_path(replace, tree)


def random_value(rng, name, array):
    """What stands in for the parameter of this name; an array whose initial value is random already stays."""
    kind = name.removeprefix("moving_")
    if kind in ("bias", "beta", "mean"):
        value = rng.normal(0, 0.2, array.shape)
    elif kind in ("scale", "gamma"):
        value = rng.uniform(0.5, 1.5, array.shape)
    elif kind in ("var", "variance"):
        value = rng.uniform(0.4, 1.2, array.shape)
    else:
        return array
    return jax.numpy.asarray(value, array.dtype)
