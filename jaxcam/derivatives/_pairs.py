"""Pairs of coefficients of located values, and arrays of which one location is held.

A located value has axes of locations (`_shared_local.py`). Where a part is the same at every location, it is held with
length 1 along these axes.
"""

from typing import NamedTuple

import jax.numpy as jnp

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


def one_location_of(value, positions):
    """The value with length 1 along the location axes; a scalar as it is."""
    if jnp.ndim(value) == 0:
        return value
    return value[tuple(slice(0, 1) if axis in positions else slice(None) for axis in range(value.ndim))]


def zeros_at_one(value, positions):
    return jnp.zeros_like(one_location_of(value, positions))


def at_one_location(coefficients, positions):
    positions = [1 + position for position in positions]
    return tuple(None if c is None else one_location_of(c, positions) for c in coefficients)


def at_every_location(shape, coefficients):
    return tuple(None if c is None else jnp.broadcast_to(c, (c.shape[0], *shape)) for c in coefficients)
