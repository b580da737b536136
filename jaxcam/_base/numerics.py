"""Arithmetic that several packages share: safe division, wide floats, powers of two, and sizes of chunks."""

from typing import NamedTuple, overload

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


class Scaled(NamedTuple):
    """An array that stands for `array * 2**exponent`, which may lie outside the range of floats.

    Attributes:
      array: floats of any shape.
      exponent: an integer, one for the whole array.
    """

    array: jax.Array
    exponent: jax.Array | int

    def value(self) -> jax.Array:
        """The array itself; it may underflow or overflow."""
        return times_power_of_two(self.array, self.exponent)


def is_scaled(value: object) -> bool:
    """Whether a value is a `Scaled`, for `jax.tree.map(..., is_leaf=is_scaled)`."""
    return isinstance(value, Scaled)


def times_power_of_two(x: jax.Array, exponent: jax.Array | int) -> jax.Array:
    """`x * 2**exponent`, exact unless the result leaves the range of floats; |exponent| is at most 360.

    Example:
      >>> times_power_of_two(jnp.float32(3e-38), 200).item() > 1e22
      True
    """
    if isinstance(exponent, int) and exponent == 0:
        return x
    # 2**exponent itself may be out of range, so it is multiplied by in three steps.
    exponent = jnp.asarray(exponent, jnp.int32)
    one = jax.lax.full_like(x, 1, shape=())
    step, last = (jnp.ldexp(one, e) for e in (exponent // 3, exponent - 2 * (exponent // 3)))
    return x * step * step * last


def exponent_of_unit(size: jax.Array, *, step: int = 32, limit: int = 96) -> jax.Array:
    """The multiple j of `step`, at most `limit` in size, for which `size * 2**j` is nearest to 1.

    Multiples of 32 leave numbers of an ordinary size as they are. 0 if the size is zero or not finite.

    Example:
      >>> [exponent_of_unit(jnp.float32(size)).item() for size in (0.0, 1e-3, 1e-20, 1e20)]
      [0, 0, 64, -64]
    """
    usable = jnp.isfinite(size) & (size > 0)
    log2 = jnp.log2(at_least_float32(jax.lax.stop_gradient(jnp.where(usable, size, 1))))
    return -step * jnp.clip(jnp.round(log2 / step), -(limit // step), limit // step).astype(jnp.int32)


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), and NaN where x is NaN.

    XLA's CPU backend may make 0 of NaN in a maximum that is fused with a sum, and a map that is not finite would look
    like a map of zeros.

    Example:
      >>> relu(jnp.array([-1.0, 2.0, jnp.nan])).tolist()
      [0.0, 2.0, nan]
    """
    return jnp.where(jnp.isnan(x), x, jax.nn.relu(x))
