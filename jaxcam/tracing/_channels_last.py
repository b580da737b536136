"""Convolutions in the order of axes that XLA's CPU backend is fast at, inside loops too.

The derivative of a convolution is a convolution with its axes in another order. Outside a loop XLA puts them into the
order that its fast kernels take, [batch *spatial channels]; inside one it does not, and takes a slow one.

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
from jax.extend.core import Literal

from jaxcam.tracing._jaxpr import binder, inner_jaxpr, inner_jaxprs

CONVOLUTION = "conv_general_dilated"
ENTERED = frozenset("jit pjit closed_call".split())


def for_loops(f: Callable[..., Any]) -> Callable[..., Any]:
    """`in_order(f)` on a CPU, f itself elsewhere: for the body of a loop in which something is differentiated."""
    return in_order(f) if jax.default_backend() == "cpu" else f


def in_order(f: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with each convolution that it traces to in the order [batch *spatial channels].

    Args:
      f: of arrays or pytrees of them. Convolutions inside jit are reached; those inside loops of its own, branches and
        functions with rules of their own are left as they are.
    """

    def ordered(*args):
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        out = _run(closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    return ordered


def convolves(f: Callable[..., Any], *args: Any) -> bool:
    """Whether the function has a convolution, anywhere in it."""
    return _has_convolution(jax.make_jaxpr(f)(*args).jaxpr)


def _has_convolution(jaxpr):
    return any(
        eqn.primitive.name == CONVOLUTION or any(map(_has_convolution, inner_jaxprs(eqn.params))) for eqn in jaxpr.eqns
    )


def _run(closed, args):
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(closed.jaxpr.invars, args, strict=True))
    for eqn in closed.jaxpr.eqns:
        inputs = [atom.val if isinstance(atom, Literal) else known[atom] for atom in eqn.invars]
        if eqn.primitive.name in ENTERED:
            out = _run(inner_jaxpr(eqn.params), inputs)
        elif eqn.primitive.name == CONVOLUTION:
            out = [_convolution(eqn, *inputs)]
        else:
            out = binder(eqn)(*inputs)
        known.update(zip(eqn.outvars, out, strict=True))
    return [atom.val if isinstance(atom, Literal) else known[atom] for atom in closed.jaxpr.outvars]


def _convolution(eqn, x, kernel):
    """The convolution with its operands' axes put in order, and the result's put back."""
    of_x, of_kernel, of_out = eqn.params["dimension_numbers"]
    spatial = tuple(range(1, x.ndim - 1))
    ordered = jax.lax.ConvDimensionNumbers(
        (0, x.ndim - 1, *spatial), (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)), (0, x.ndim - 1, *spatial)
    )
    cropped = any(side < 0 for sides in eqn.params["padding"] for side in sides)
    if cropped or ordered == eqn.params["dimension_numbers"]:
        return eqn.primitive.bind(x, kernel, **eqn.params)
    # Specifications are (batch, channels, *spatial) for x and (out, in, *spatial) for the kernel.
    x = x.transpose(of_x[0], *of_x[2:], of_x[1])
    kernel = kernel.transpose(*of_kernel[2:], of_kernel[1], of_kernel[0])
    out = eqn.primitive.bind(x, kernel, **{**eqn.params, "dimension_numbers": ordered})
    return out.transpose(*np.argsort((of_out[0], *of_out[2:], of_out[1])))
