"""Networks whose weights ship with the package."""

import importlib.resources
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from flax import nnx

from jaxcam.pretrained._arrays import from_arrays, half_as_float32

Model = TypeVar("Model", bound=nnx.Module)


def embedded_network(file: str, build: Callable[..., Model]) -> Model:
    """The network that `build(rngs=...)` describes, with the weights of a file of this package."""
    path = importlib.resources.files("jaxcam.pretrained") / file
    with path.open("rb") as opened, np.load(opened) as arrays:
        return from_arrays(lambda: build(rngs=nnx.Rngs(0)), {name: half_as_float32(arrays[name]) for name in arrays})
