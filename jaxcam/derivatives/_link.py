"""The derivatives of u, and from them those of Y = link(u), which the formulas of the methods take."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import Scaled, at_least_float32, exponent_of_unit, times_power_of_two

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


class ScaledDerivatives(NamedTuple):
    """The score u and its derivatives, of which the second and third may lie outside the range of floats."""

    u: jax.Array
    u1: jax.Array
    u2: Scaled
    u3: Scaled


def through_link_scaled(
    derivatives: ScaledDerivatives, *, link: str
) -> tuple[jax.Array, tuple[jax.Array, Scaled, Scaled]]:
    """`through_link` for derivatives of any size: the squares and cubes neither underflow nor overflow.

    Y2 and Y3 are derivatives along a step of another length, 2**j, for which the derivatives are of an ordinary size:
    2**(2j) Y2 and 2**(3j) Y3. With j = 0 they are those of `through_link`, to the last bit.

    Args:
      derivatives: `ScaledDerivatives(u, u1, u2, u3)`.
      link: "identity" or "exp".

    Raises:
      ValueError: link is another name.

    Example:
      >>> zero = Scaled(jnp.zeros([1, 1]), 0)
      >>> u = ScaledDerivatives(jnp.float32(0.0), jnp.full([1, 1], 1e-23), zero, zero)
      >>> _, (y1, y2, y3) = through_link_scaled(u, link="exp")
      >>> f"{y1.item():.1e} {y2.array.item():.1e} {int(y2.exponent)} {y2.value().item()}"
      '1.0e-23 3.4e-08 -128 0.0'
    """
    u, u1 = at_least_float32(derivatives.u), at_least_float32(derivatives.u1)
    u2, u3 = (scaled._replace(array=at_least_float32(scaled.array)) for scaled in derivatives[2:])
    j = exponent_of_unit(_size(u1, u2, u3))
    in_unit = (times_power_of_two(scaled.array, scaled.exponent + order * j) for order, scaled in ((2, u2), (3, u3)))
    scale, (_, Y2, Y3) = through_link(Derivatives(u, times_power_of_two(u1, j), *in_unit), link=link)
    return scale, (u1, Scaled(Y2, -2 * j), Scaled(Y3, -3 * j))


def _size(u1, u2, u3):
    """The size of the derivatives along a step of length 1, as that of a first derivative."""
    largest = [jnp.abs(jax.lax.stop_gradient(array)).max() for array in (u1, u2.array, u3.array)]
    roots = [largest[0], jnp.sqrt(largest[1]), jnp.cbrt(largest[2])]
    exponents: list[jax.Array | int] = [0, jnp.asarray(u2.exponent) // 2, jnp.asarray(u3.exponent) // 3]
    sizes = [times_power_of_two(root, exponent) for root, exponent in zip(roots, exponents, strict=True)]
    # Not a stack: under vmap over a sharded axis JAX's rule for it refuses values of which one alone has the axis.
    return jnp.maximum(jnp.maximum(sizes[0], sizes[1]), sizes[2])
