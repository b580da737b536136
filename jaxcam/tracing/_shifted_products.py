"""Depthwise and grouped convolutions as sums of shifted products, because XLA's CPU backend is slow at them.

XLA's CPU backend runs a convolution with `feature_group_count > 1` outside its fast kernels. The same sum, written as
one product for each position of the kernel, is fused into one loop over the output. The table `CASES` has what was
measured. Other backends have kernels for these convolutions, so there the program stays as it is.

The products are slices, multiplications and additions, so derivatives of every order, `vmap` and the certificate see
operations that they know.

    >>> import jax, jax.numpy as jnp
    >>> numbers = ("NHWC", "HWIO", "NHWC")
    >>> def depthwise(x):
    ...     kernel = jnp.ones([3, 3, 1, 4])
    ...     return jax.lax.conv_general_dilated(
    ...         x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=4)
    >>> program = jax.make_jaxpr(depthwise)(jnp.ones([1, 5, 5, 4]))
    >>> x, kernel = jnp.ones([1, 5, 5, 4]), jnp.ones([3, 3, 1, 4])
    >>> as_shifted_products(x, kernel, program.eqns[-1].params)[0, 2, 2].tolist()
    [9.0, 9.0, 9.0, 9.0]
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from jaxcam.tracing._jaxpr import inner_jaxpr, inner_jaxprs
from jaxcam.tracing._primitives import PLAIN_CALLS
from jaxcam.tracing._steps import Step, entering, evaluate, flatten

CONVOLUTION = "conv_general_dilated"


class _Window(NamedTuple):
    """The parameters of a convolution that the sum depends on, with their names in JAX."""

    dimension_numbers: Any
    feature_group_count: int
    window_strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    preferred_element_type: Any


class Case(NamedTuple):
    """A kind of convolution that is rewritten, and up to how many positions of the kernel.

    Attributes:
      channels: how many channels of the input a group has, at most.
      positions: of the kernel, at most.
    """

    channels: int
    positions: int


# `python -m benchmarks depthwise_is_fast` prints the ratios of the time as shifted products to that of XLA's own.
CASES = (
    Case(channels=1, positions=81),  # depthwise, with any multiplier: MobileNet, EfficientNet, ConvNeXt
    Case(channels=16, positions=25),  # grouped: ResNeXt, RegNet
)


def rewritten_convolution(step: Step, inputs: list[Any], _: dict[int, Any]) -> list[jax.Array] | None:
    """The outputs of a step whose slow convolutions are rewritten; None for a step without one, or off the CPU.

    A rule for `evaluate`. Calls are entered if there is such a convolution inside, but not loops, branches and
    functions with derivative rules of their own.
    """
    if jax.default_backend() != "cpu":
        return None
    if step.name == CONVOLUTION:
        x, kernel = inputs
        return [as_shifted_products(x, kernel, step.params)] if _is_slow(x, kernel, step.params) else None
    if step.name in PLAIN_CALLS and any(map(_has_slow_convolution, inner_jaxprs(step.params))):
        program = flatten(inner_jaxpr(step.params), entering(PLAIN_CALLS))
        values = evaluate(program.steps, program.given(inputs), rule=rewritten_convolution)
        return [values[v] for v in program.outputs]
    return None


def as_shifted_products(x: jax.Array, kernel: jax.Array, params: dict[str, Any]) -> jax.Array:
    """A grouped convolution as a sum over the positions of its kernel.

    Args:
      x: the input, with axes as `params["dimension_numbers"]` says.
      kernel: likewise.
      params: those of `jax.lax.conv_general_dilated`, with any strides, dilations, padding and groups, and
        `batch_group_count` 1.
    """
    return _sum_over_positions(x, kernel, _Window(*(params[name] for name in _Window._fields)))


# Jitted so that a network which repeats a convolution traces, differentiates and lowers it once.
@functools.partial(jax.jit, static_argnums=2)
def _sum_over_positions(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """`as_shifted_products`, with the parameters in a record that can be hashed."""
    x_axes, kernel_axes, out_axes = window.dimension_numbers
    dtype = window.preferred_element_type or x.dtype
    # Half precision is accumulated in float32, as XLA does.
    wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    # In the order [batch *spatial channels] and [*spatial in out].
    x = x.transpose(x_axes[0], *x_axes[2:], x_axes[1]).astype(wide)
    kernel = kernel.transpose(*kernel_axes[2:], kernel_axes[1], kernel_axes[0]).astype(wide)
    groups, strides, dilation = window.feature_group_count, window.window_strides, window.rhs_dilation
    sides = [(low, high, gap - 1) for (low, high), gap in zip(window.padding, window.lhs_dilation, strict=True)]
    x = jax.lax.pad(x, jnp.zeros((), wide), [(0, 0, 0), *sides, (0, 0, 0)])
    spatial, size = x.shape[1:-1], kernel.shape[:-2]
    reach = [step * (k - 1) + 1 for step, k in zip(dilation, size, strict=True)]
    counts = [max(0, (n - r) // s + 1) for n, r, s in zip(spatial, reach, strides, strict=True)]
    shape = (x.shape[0], *counts, kernel.shape[-1])
    total = jnp.zeros(shape, wide)
    if math.prod(shape):
        for position in itertools.product(*map(range, size)):
            first = [step * p for step, p in zip(dilation, position, strict=True)]
            last = [f + s * (n - 1) + 1 for f, s, n in zip(first, strides, counts, strict=True)]
            shifted = jax.lax.slice(x, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *strides, 1))
            total = total + _product(shifted, kernel[position], groups).reshape(shape)
    # Positions of the axes in the output: batch, channels, *spatial.
    order = [0] * total.ndim
    for place, axis in zip((0, total.ndim - 1, *range(1, total.ndim - 1)), out_axes, strict=True):
        order[axis] = place
    return total.transpose(order).astype(dtype)


def _product(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """`[b *spatial in]` times one position of the kernel, `[in / groups, out]`, summed over the channels of a group."""
    channels, out = kernel.shape
    in_front = (1,) * (x.ndim - 1)
    if channels == 1 and out == groups:
        return x * kernel.reshape(*in_front, out)
    by_group = kernel.reshape(channels, groups, out // groups)
    x = x.reshape(*x.shape[:-1], groups, channels)
    if channels == 1:
        return x * by_group.reshape(*in_front, groups, out // groups)
    return jnp.einsum("...gi,igo->...go", x, by_group, precision="highest")


def _is_slow(x: Any, kernel: Any, params: dict[str, Any]) -> bool:
    """Whether a convolution is one of `CASES`, from the shapes of its operands."""
    is_grouped = params["feature_group_count"] > 1 and params["batch_group_count"] == 1
    if not is_grouped or not jnp.issubdtype(x.dtype, jnp.floating):
        return False
    _, channels_axis, *spatial = params["dimension_numbers"].rhs_spec
    positions = math.prod(kernel.shape[axis] for axis in spatial)
    return any(kernel.shape[channels_axis] <= case.channels and positions <= case.positions for case in CASES)


def _has_slow_convolution(jaxpr: Jaxpr) -> bool:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == CONVOLUTION:
            x, kernel = (v.aval for v in eqn.invars)
            if _is_slow(x, kernel, eqn.params):
                return True
        elif eqn.primitive.name in PLAIN_CALLS and any(map(_has_slow_convolution, inner_jaxprs(eqn.params))):
            return True
    return False
