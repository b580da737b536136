"""What can be known about a function's linearity while it is traced, before any number is computed."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal


def is_affine(f: Callable[[Any], jax.Array], x: Any) -> bool:
    """Whether the gradient of f, as JAX takes it, is proved not to depend on its argument, so that f'' = f''' = 0.

    Sound, not complete: the gradient is traced, not run, and True means that its outputs cannot be reached from `x`.
    False may also be said of an affine function that is written in a way which hides it. What JAX gives a derivative of
    zero, such as rounding or `stop_gradient`, counts as constant.

    Args:
      f: from a pytree of float arrays to a scalar.
      x: the argument, or its shapes and dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.ones(3)
      >>> is_affine(lambda x: 2 * x[1] + 1, x), is_affine(lambda x: (x**2).sum(), x)
      (True, False)
    """
    jaxpr = jax.make_jaxpr(jax.grad(f))(x).jaxpr
    if jaxpr.effects:
        return False  # what is written to a ref is reached in ways that variables do not show
    reached = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return not any(not isinstance(v, Literal) and v in reached for v in jaxpr.outvars)
