"""The map of a network in training: checks of the call, and the scales that maps are compared on."""

from typing import Any

import jax

from jaxcam._base.checks import check_function, one_line
from jaxcam._base.numerics import as_floats, exponent_of_unit, safe_divide, times_power_of_two
from jaxcam._base.types import Image, Method, Target
from jaxcam.cutting import Cut

NORMALIZATIONS = (None, "max")


def check_normalize(normalize: Any) -> None:
    """Raises a ValueError if `normalize` is not one of `NORMALIZATIONS`."""
    if not isinstance(normalize, str | None) or normalize not in NORMALIZATIONS:
        raise ValueError(f"expected None or 'max' for normalize, got {one_line(normalize)}")


def check_one_layer(role: str, cut: Any, others: str = "") -> None:
    """Raises a TypeError if the cut of a role, such as "student", is not a `Cut`."""
    if not isinstance(cut, Cut):
        kind = type(cut).__name__
        raise TypeError(f"expected a cut at one layer, jaxcam.cut(model, layer), for {role}{others}, got {kind}")


def check_target_given(target: Target) -> None:
    """Raises a TypeError if the target is None, the largest output, which changes while a network is trained."""
    if target is None:
        raise TypeError(
            "expected a target, such as the example's class, got None: the largest output changes during training, "
            "and two networks may differ in it"
        )


def map_in_training(role: str, cut: Cut, image: Image, target: Target, key: jax.Array | None, method: Method):
    """The map of a method as floats of at least 32 bits.

    Raises:
      TypeError: the cut is not a `Cut`, the method no function, or its result no map.
    """
    check_one_layer(role, cut)
    check_function("method", method)
    saliency = method(cut, image, target) if key is None else method(cut, image, target, key)
    if not isinstance(saliency, jax.Array):
        raise TypeError(
            f"expected a method that returns a map [*spatial], got a {type(saliency).__name__}: leave standard_error= "
            "out, which cannot be differentiated in reverse mode"
        )
    return as_floats(saliency)


def scaled(saliency: jax.Array, normalize: str | None) -> jax.Array:
    """The map as it is, or divided by its maximum; a map of zeros stays zero, and so does its derivative.

    Example:
      >>> import jax.numpy as jnp
      >>> scaled(jnp.array([1.0, 4.0]), "max").tolist(), scaled(jnp.zeros(2), "max").tolist()
      ([0.25, 1.0], [0.0, 0.0])
    """
    check_normalize(normalize)
    if normalize is None:
        return saliency
    # The derivative of a quotient has the square of the maximum, which leaves the range of floats for small maps.
    saliency = times_power_of_two(saliency, exponent_of_unit(saliency.max()))
    return safe_divide(saliency, saliency.max())
