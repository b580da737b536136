"""A method as an evaluation calls it: from an image to its map at the image's resolution, the maximum 1."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.types import Method
from jaxcam.cutting import Cut, image_spatial
from jaxcam.formulas import maps
from jaxcam.methods import map_of, takes_key

SAME_MAP = 1e-6  # of the maximum, a few roundings: maps that differ by less are one map


def key_of(method: Method, key: jax.Array) -> dict[str, jax.Array]:
    """The key as a keyword argument; empty if the method draws no noise with its options, or has a key bound."""
    return {"key": key} if takes_key(method) else {}


def explainer(method: Method, cut: Cut, target: Any, key: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """From an image to its map at the image's resolution, the maximum 1."""

    def explain(image):
        spatial = image_spatial(cut, image)
        saliency = map_of(method(cut, image, target, **key_of(method, key)))
        if not isinstance(saliency, jax.Array) or saliency.ndim != len(spatial):
            name, shapes = getattr(method, "__name__", method), checks.describe_shapes(saliency)
            raise ValueError(f"expected one map with {len(spatial)} axes from {name}, got {shapes}")
        fine = maps.resize(saliency.astype(jnp.float32), spatial)
        top = jnp.where(fine.max() > 0, fine.max(), jnp.abs(fine).max())
        return fine / jnp.where(top > 0, top, 1)

    return explain


def first_methods(saliency: Mapping[str, np.ndarray]) -> dict[str, str]:
    """For each method the first that has the same map."""
    first_methods: dict[str, str] = {}
    for name, saliency_map in saliency.items():
        firsts = dict.fromkeys(first_methods.values())
        same = (first for first in firsts if np.abs(saliency[first] - saliency_map).max() <= SAME_MAP)
        first_methods[name] = next(same, name)
    return first_methods
