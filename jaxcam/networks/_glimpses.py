"""Attention over the locations of an encoder's map."""

import jax
import jax.numpy as jnp
from flax import nnx

WIDTH = 64  # channels of a location


class Locations(nnx.Module):
    """A linear layer of the normalized features at each location, plus a learned embedding of the location.

    Args:
      channels: number of channels of the map.
      locations: rows times columns of the map.
      rngs: where the initial parameters come from.
    """

    def __init__(self, channels: int, locations: int, *, rngs: nnx.Rngs):
        self.features = nnx.Linear(channels, WIDTH, rngs=rngs)
        self.place = nnx.Param(0.3 * jax.random.normal(rngs.params(), (locations, WIDTH)))

    def __call__(self, A: jax.Array) -> jax.Array:
        """The locations `[n rows*columns width]` of maps `[n rows columns k]`."""
        features = A.reshape(len(A), -1, A.shape[-1])
        features = features * jax.lax.rsqrt((features**2).mean((1, 2), keepdims=True) + 1e-6)
        return self.features(features) + self.place[None]


def glimpses(locations: jax.Array, queries: jax.Array) -> jax.Array:
    """Attention of several queries: the mean of the locations by softmax weights, and the number of matches.

    A softmax does not count: two equal matches have the mean of one. The number of matches is the sum over locations of
    the logistic function of the same products.

    Args:
      locations: `[n locations width]`.
      queries: `[n queries * width]`.

    Returns:
      `[n queries * (width + 1)]`.
    """
    queries = queries.reshape(len(queries), -1, locations.shape[-1])
    matches = jnp.einsum("nqw,nlw->nql", queries, locations)
    means = jnp.einsum("nql,nlw->nqw", jax.nn.softmax(matches), locations)
    counts = jax.nn.sigmoid(matches).sum(-1, keepdims=True)
    return jnp.concatenate([means, counts], -1).reshape(len(queries), -1)
