"""TODO."""

import jax
import jax.numpy as jnp


def even_chunks(count: int, at_most: int) -> int:
    """The size of the chunks that split `count` evenly into as few as `at_most` allows: 10 by 8 goes as 5 and 5."""
    chunks = -(-count // at_most)
    return -(-count // chunks)


def at_least_float32(x: jax.Array) -> jax.Array:
    """The array in float32, or as it is where it is wider: squares and cubes of half-precision gradients underflow."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def as_floats(x):
    x = jnp.asarray(x)
    return at_least_float32(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
