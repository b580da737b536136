"""The derivatives of u, and from them those of Y = link(u), which the formulas of the methods take."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32

LINKS = ("identity", "exp")


class Derivatives(NamedTuple):
    """The score u, a scalar, and its derivatives along each element of A, each `[*spatial k]`."""

    u: jax.Array
    u1: jax.Array
    u2: jax.Array
    u3: jax.Array


def through_link(derivatives: Derivatives, *, link: str) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """The derivatives of Y = link(u), as `(scale, (Y1, Y2, Y3))`. Each Y_p must be read as times e^scale.

    - "identity", Y = u: scale is 0 and the derivatives are those of u.
    - "exp", Y = e^u: Y1 = Y u1, Y2 = Y (u2 + u1^2), Y3 = Y (u3 + 3 u1 u2 + u1^3). The factor Y overflows float32 at
      u > 88, so it is carried as scale = u. It cancels in alpha, and counts only where samples of different u are
      averaged.

    The results are at least float32, because cubes of half-precision gradients underflow.

    Args:
      derivatives: `Derivatives(u, u1, u2, u3)`.
      link: "identity" or "exp".

    Raises:
      ValueError: link is another name.

    Example:
      >>> one = jnp.ones([1, 1])
      >>> scale, (y1, y2, y3) = through_link(Derivatives(jnp.float32(500.0), 2 * one, 0 * one, 0 * one), link="exp")
      >>> float(scale), y1.item(), y2.item(), y3.item()
      (500.0, 2.0, 4.0, 8.0)
    """
    u, u1, u2, u3 = (at_least_float32(d) for d in derivatives)
    if link == "identity":
        return jnp.zeros_like(u), (u1, u2, u3)
    if link == "exp":
        return u, (u1, u2 + u1**2, u3 + 3 * u1 * u2 + u1**3)
    raise ValueError(f"link is {link!r}: choose one of {', '.join(LINKS)}")
