"""Pairs of coefficients of located values, and arrays of which one location is held.

A located value has axes of locations (`_shared_local.py`). Where a part is the same at every location, it is held with
length 1 along these axes.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import at_least_float32
from jaxcam.derivatives._push import Coefficients, sum_of_present

ZERO: Coefficients = (None, None)


class Pair(NamedTuple):
    """The coefficients of a located value: the shared part `[directions *shape]`, and the local part.

    The local part of a uniform value has length 1 along the location axes.
    """

    shared: Coefficients
    local: Coefficients

    def at_own_location(self) -> Coefficients:
        """S + L, `[directions *shape]`."""
        first, second = (sum_of_present(*parts) for parts in zip(self.shared, self.local, strict=True))
        return first, second


class CurvedPair(NamedTuple):
    """The coefficients of a located value that is curved: shared at the nodes, and S + L at the own location."""

    nodes: Coefficients
    own: Coefficients


def with_locations_first(local, positions, summed):
    """`[directions *locations *the rest]`, summed over the other axes of the sum."""
    others = [axis for axis in range(1, local.ndim) if axis not in positions]
    moved = local.transpose(0, *positions, *others)
    return moved.sum(tuple(1 + len(positions) + i for i, axis in enumerate(others) if axis in summed))


def locations_alone(array, *, locations, offset):
    """`[directions *axis of tokens ...]` without the tokens that are no locations, if there are any."""
    if array.shape[1 : 1 + len(locations)] == tuple(locations):
        return array
    (count,) = locations
    return array[:, offset : offset + count]


def one_location_of(value, positions):
    """The value with length 1 along the location axes; a scalar as it is."""
    if jnp.ndim(value) == 0:
        return value
    return value[tuple(slice(0, 1) if axis in positions else slice(None) for axis in range(value.ndim))]


def zeros_at_one(value, positions):
    return jnp.zeros_like(one_location_of(value, positions))


def other_axes(plan, way, v):
    """The positions in a value of the independent axes that are not those of the locations."""
    return [positions[v] for axis, positions in plan.independent_axes.items() if axis not in way.axes]


def inner_product(gradient, coefficient, kept_axes):
    """<gradient, coefficient> for each direction and each index of the kept axes, in the order of their list."""
    if coefficient is None:
        return 0
    summed = tuple(1 + axis for axis in range(gradient.ndim) if axis not in kept_axes)
    # The gradient of a real function of complex values is already conjugate.
    products = (at_least_float32(gradient)[None] * at_least_float32(coefficient)).real
    return products.sum(summed).transpose(0, *(1 + np.argsort(np.argsort(kept_axes))))


def apply_and_add(stage, plain, inputs):
    """The rule of a stage; zero inputs make zero outputs."""
    if all(c is None for pair in inputs for c in pair):
        return [ZERO] * len(stage.outputs), None if stage.kind == "linear" else [ZERO] * len(stage.outputs)
    if stage.kind in ("elementwise", "quotient"):
        # Their rules read every first coefficient.
        like = next(c for pair in inputs for c in pair if c is not None)
        inputs = [(jnp.zeros_like(like), second) if first is None else (first, second) for first, second in inputs]
    return plain(inputs)


def at_one_location(coefficients, positions):
    positions = [1 + position for position in positions]
    return tuple(None if c is None else one_location_of(c, positions) for c in coefficients)


def at_every_location(shape, coefficients):
    return tuple(None if c is None else jnp.broadcast_to(c, (c.shape[0], *shape)) for c in coefficients)
