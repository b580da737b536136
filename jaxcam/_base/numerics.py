"""Arithmetic that several packages share: safe division, wide floats, and sizes of chunks."""

from typing import overload

import jax
import jax.numpy as jnp


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """`numerator / denominator`, and 0 where the denominator is 0; its derivatives are 0 there, not NaN.

    Example:
      >>> safe_divide(jnp.array([1.0, 1.0]), jnp.array([2.0, 0.0])).tolist()
      [0.5, 0.0]
    """
    zero = denominator == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, denominator))


def at_least_float32(x: jax.Array) -> jax.Array:
    """Widens half precision to float32: squares and cubes of half-precision gradients underflow."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def as_floats(x: jax.typing.ArrayLike) -> jax.Array:
    """An array of any type as floats of at least 32 bits."""
    array = jnp.asarray(x)
    return at_least_float32(array) if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.float32)


def even_chunks(count: int, at_most: int) -> int:
    """The chunk size that splits `count` evenly into as few chunks as `at_most` allows.

    Example:
      >>> even_chunks(10, 8)
      5
    """
    chunks = -(-count // at_most)
    return -(-count // chunks)


def on_cpu() -> bool:
    """Whether JAX computes on a CPU by default. There one sample fills the machine; an accelerator takes several."""
    return jax.default_backend() == "cpu"


@overload
def batch_size_or_default(batch_size: int | None, *, cpu: int, accelerator: int) -> int: ...


@overload
def batch_size_or_default(batch_size: int | None, *, cpu: int | None, accelerator: int | None) -> int | None: ...


def batch_size_or_default(batch_size: int | None, *, cpu: int | None, accelerator: int | None) -> int | None:
    """The user's `batch_size`, or the default of the backend.

    Example:
      >>> batch_size_or_default(4, cpu=1, accelerator=16)
      4
    """
    return batch_size or (cpu if on_cpu() else accelerator)
