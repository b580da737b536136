"""Convolutions with the order of axes that XLA's CPU backend is fast with, inside loops as well.

The derivative of a convolution is a convolution with another order of axes. Outside a loop XLA transposes them into
the order of its fast kernels, [batch *spatial channels]. Inside a loop it does not, and uses a slow kernel.

    >>> import jax, jax.numpy as jnp
    >>> def f(x):
    ...     kernel, numbers = jnp.ones([3, 3, 2, 4]), ("NHWC", "HWIO", "NHWC")
    ...     return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers).sum()
    >>> x = jnp.ones([1, 8, 8, 2])
    >>> bool(jnp.allclose(in_order(jax.grad(f))(x), jax.grad(f)(x)))
    True
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr

from jaxcam.tracing._jaxpr import inner_jaxprs
from jaxcam.tracing._primitives import PLAIN_CALLS
from jaxcam.tracing._steps import Step, entering, evaluate, flatten

CONVOLUTION = "conv_general_dilated"


def for_loops(f: Callable[..., Any]) -> Callable[..., Any]:
    """`in_order(f)` on a CPU, f itself on other devices: for a loop body that differentiates a function."""
    return in_order(f) if jax.default_backend() == "cpu" else f


def in_order(f: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with its convolutions in the order [batch *spatial channels].

    Args:
      f: of arrays or pytrees of arrays. Its convolutions inside jit are transposed as well, but not those inside its
        loops, branches and functions with custom derivative rules.
    """

    def ordered(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        program = flatten(closed, entering(PLAIN_CALLS))
        values = evaluate(program.steps, program.given(jax.tree.leaves(args)), rule=_convolution_in_order)
        return jax.tree.unflatten(jax.tree.structure(shapes), [values[v] for v in program.outputs])

    return ordered


def convolves(f: Callable[..., Any], *args: Any) -> bool:
    """Whether the function has a convolution anywhere inside."""
    return _has_convolution(jax.make_jaxpr(f)(*args).jaxpr)


def _has_convolution(jaxpr: Jaxpr) -> bool:
    return any(
        eqn.primitive.name == CONVOLUTION or any(map(_has_convolution, inner_jaxprs(eqn.params))) for eqn in jaxpr.eqns
    )


def _convolution_in_order(step: Step, inputs: list[Any], _: dict[int, Any]) -> list[jax.Array] | None:
    """The convolution on transposed operands, with its result transposed back; None for any other step."""
    if step.name != CONVOLUTION:
        return None
    x, kernel = inputs
    params = step.params
    x_axes, kernel_axes, out_axes = params["dimension_numbers"]
    spatial = tuple(range(1, x.ndim - 1))
    ordered = jax.lax.ConvDimensionNumbers(
        (0, x.ndim - 1, *spatial), (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)), (0, x.ndim - 1, *spatial)
    )
    cropped = any(side < 0 for sides in params["padding"] for side in sides)
    if cropped or ordered == params["dimension_numbers"]:
        return None
    # Specifications are (batch, channels, *spatial) for x and (out, in, *spatial) for the kernel.
    x = x.transpose(x_axes[0], *x_axes[2:], x_axes[1])
    kernel = kernel.transpose(*kernel_axes[2:], kernel_axes[1], kernel_axes[0])
    out = jax.lax.conv_general_dilated_p.bind(x, kernel, **{**params, "dimension_numbers": ordered})
    return [out.transpose(*np.argsort((out_axes[0], *out_axes[2:], out_axes[1])))]
