"""Sums of values with factors e^scale, which may be far outside the range of floats.

A value may be a `jaxcam._base.numerics.Scaled`, an array times a power of two. The sum has the power of the largest
term, its factor included.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import Scaled, is_scaled

# `(scale, values)`, which stands for e^scale * values.
ScaledValues = tuple[jax.Array, Any]
LOG_2 = math.log(2)


def add_scaled(a: ScaledValues, b: ScaledValues) -> ScaledValues:
    """The sum of two `(scale, values)`, each of which stands for e^scale * values, in the same form.

    Example:
      >>> scale, value = add_scaled((jnp.float32(500), jnp.float32(2)), (jnp.float32(500), jnp.float32(3)))
      >>> float(scale), float(value)
      (500.0, 5.0)
    """
    # Not a stack: under vmap over a sharded axis JAX's rule for it refuses values of which one alone has the axis.
    logs = _below_top(jnp.concatenate([a[0][None], b[0][None]]), jnp.where(a[0] >= b[0], 0, 1))

    def add(value_a, value_b):
        if not is_scaled(value_a):
            return _factor(logs[0]) * value_a + _factor(logs[1]) * value_b
        a_is_larger = _log_of(a[0], value_a.exponent) >= _log_of(b[0], value_b.exponent)
        exponent = jnp.where(a_is_larger, value_a.exponent, value_b.exponent)
        factor_a, factor_b = (
            _factor(log, v.exponent - exponent) for log, v in zip(logs, (value_a, value_b), strict=True)
        )
        return Scaled(factor_a * value_a.array + factor_b * value_b.array, exponent)

    return jnp.maximum(a[0], b[0]), jax.tree.map(add, a[1], b[1], is_leaf=is_scaled)


def weighted_sum(scales: jax.Array, values: Any, weights: jax.Array | float = 1) -> ScaledValues:
    """The sum over the leading axis of weights * e^scales * values, as `(largest scale, values)`.

    Example:
      >>> scale, value = weighted_sum(jnp.full(2, 500.0), jnp.array([2.0, 3.0]))
      >>> float(scale), float(value)
      (500.0, 5.0)
    """
    top = scales.argmax()
    logs = _below_top(scales, top)

    def add(value):
        if not is_scaled(value):
            return _dot(weights * _factor(logs), value)
        exponent = value.exponent[_log_of(scales, value.exponent).argmax()]
        return Scaled(_dot(weights * _factor(logs, value.exponent - exponent), value.array), exponent)

    return scales[top], jax.tree.map(add, values, is_leaf=is_scaled)


def sum_over_devices(partial: ScaledValues, axes: Any) -> ScaledValues:
    """The sum of the `(scale, values)` of all devices of the mapped axes, in the same form."""
    scale, values = partial
    scales = jax.lax.all_gather(scale, axes).ravel()  # pmax has no derivative
    top = scales.argmax()
    log = _below_top(scales, top)[jax.lax.axis_index(axes)]

    def add(value):
        if not is_scaled(value):
            return jax.lax.psum(_factor(log) * value, axes)
        exponents = jax.lax.all_gather(value.exponent, axes).ravel()
        exponent = exponents[_log_of(scales, exponents).argmax()]
        return Scaled(jax.lax.psum(_factor(log, value.exponent - exponent) * value.array, axes), exponent)

    return scales[top], jax.tree.map(add, values, is_leaf=is_scaled)


def divided(values: Any, count: jax.Array | int) -> Any:
    """The values divided by a number.

    Example:
      >>> divided({"mean": jnp.float32(6)}, 2)["mean"].item()
      3.0
    """

    def divide(value):
        return Scaled(value.array / count, value.exponent) if is_scaled(value) else value / count

    return jax.tree.map(divide, values, is_leaf=is_scaled)


def _log_of(scales, exponents):
    """The logarithm of e^scales * 2^exponents."""
    return jax.lax.stop_gradient(scales) + LOG_2 * exponents.astype(scales.dtype)


def _below_top(scales, top):
    """The scales minus the largest one, at most 0, and 0 for the largest.

    A compiled program may compute a scale twice, with other roundings. At 1e10 the difference between the two is
    thousands, so e to the power of it would be zero or infinite.
    """
    logs = scales - scales[top]
    return jnp.where((jnp.arange(scales.size) == top) | (logs > 0), 0, logs)


def _factor(log, exponent=None):
    """e^log * 2^exponent, which may be in the range of floats where its factors are not."""
    return jnp.exp(log if exponent is None else log + LOG_2 * exponent.astype(log.dtype))


def _dot(factors, value):
    return jnp.tensordot(factors, value, 1, precision="highest")
