"""Coefficients that depend on one number of each direction, as a norm over space depends on its variance.

A curved value is a function y(t, c) of the step t and of one number c, which moves by c(t) = c1 t + c2 t^2 + ... along
the direction of location p. Pushed along c = s t, its coefficients are polynomials in s: the first of degree 1, the
second of degree 2, and what a stage adds to the third of degree 3. Four values of s, the nodes, determine them. For the
direction's own c1 and c2, with ' for the derivative in s,

    y_1 = y_1(s = c1),    y_2 = y_2(s = c1) + c2 y_1'(c1),
    added_2 = added_2(s = c1),    added_3 = added_3(s = c1) + c2 added_2'(c1).

c is measured in units of its largest c1 or c2, so that s is between -1 and 1 and the interpolation loses no digits.

    >>> import numpy as np
    >>> curve = Curve.of(jnp.array([[0.5]]), jnp.array([[2.0]]))
    >>> nodes = jnp.asarray(NODES_AT)[:, None]  # y = t^2 + 3 c t: added_2 = 1 + 3 s
    >>> [value.round(4).tolist() for value in curve.of_added(1 + 3 * nodes[..., None], 0 * nodes[..., None])]
    [[[2.5]], [[6.0]]]
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.derivatives._push import Coefficients
from jaxcam.derivatives._shared_local import NODES

NODES_AT = np.linspace(-1, 1, NODES)
# The coefficients of the polynomials that are 1 at one node and 0 at the others: `[power node]`.
_LAGRANGE = np.linalg.inv(np.vander(NODES_AT, increasing=True))


class Curve(NamedTuple):
    """The weights of the nodes for each direction and location, `[node directions *locations *other axes]`.

    Attributes:
      weights: of the polynomials at c1.
      slopes: of their derivatives at c1, times c2.
    """

    weights: jax.Array
    slopes: jax.Array

    @classmethod
    def of(cls, c1: jax.Array, c2: jax.Array | None) -> "Curve":
        """The curve of the numbers c1 and c2 in units of the nodes, `[directions *locations *other axes]`."""
        powers = [jnp.ones_like(c1), c1, c1**2, c1**3]
        weights = sum(_along_nodes(_LAGRANGE[m], c1) * powers[m][None] for m in range(NODES))
        if c2 is None:
            return cls(weights, jnp.zeros_like(weights))
        slopes = sum(_along_nodes(m * _LAGRANGE[m], c1) * powers[m - 1][None] for m in range(1, NODES))
        return cls(weights, slopes * c2[None])

    def of_added(self, second: Any, third: Any) -> tuple[Any, Any]:
        """Added coefficients at each direction and location, from those at the nodes: `[node directions ...]`."""
        return (self.weights * second).sum(0), (self.weights * third + self.slopes * second).sum(0)

    def of_coefficients(self, nodes: Coefficients, positions: Sequence[int], shape: Sequence[int]) -> Coefficients:
        """The first and second coefficient at each direction and location.

        Args:
          nodes: of the value at the nodes, `[node * directions *shape]`.
          positions: for each axis of locations and other axes, in their order, its position in the result.
          shape: of the value, with length 1 along axes that it does not have.
        """
        weights, slopes = (_placed(array, positions, len(shape)) for array in (self.weights, self.slopes))
        first, second = (None if c is None else c.reshape(NODES, -1, *shape) for c in nodes)
        if first is None:
            return None, None
        dtype = first.dtype
        y1 = (weights * first).sum(0).astype(dtype)
        y2 = (slopes * first).sum(0) if second is None else (weights * second + slopes * first).sum(0)
        return y1, y2.astype(dtype)


def start_curve(
    shared: Coefficients, local: Coefficients, elements: jax.Array, shape: Sequence[int]
) -> tuple[Coefficients, Curve]:
    """The coefficients of the primary sum at the nodes, `[node * directions *shape]`, and the curve.

    Args:
      shared: the sum over locations of the shared part, `[directions *shape]`.
      local: the local part at each location, `[directions *locations elements of the sum]`.
      elements: the elements of the sum that a direction moves, flat, `[directions *other axes]`.
      shape: of the sum.
    """
    first, second = _picked(local[0], elements), None if local[1] is None else _picked(local[1], elements)
    others = elements.ndim - 1
    locations = tuple(range(1, first.ndim - others))
    # Of the size of both: where c1 is tiny, c2 / c1 would lose the digits of y_1'.
    sizes = [jnp.abs(jax.lax.stop_gradient(c)).max(locations, keepdims=True) for c in (first, second) if c is not None]
    unit = functools.reduce(jnp.maximum, sizes)
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
    curve = Curve.of(first / unit, None if second is None else second / unit)
    count = elements.shape[0]
    step = jnp.zeros((count, int(np.prod(shape))), first.dtype)
    step = step.at[jnp.arange(count)[:, None], elements.reshape(count, -1)].add(unit.reshape(count, -1))
    along = _along_nodes(NODES_AT, step) * step[None]
    along = along.reshape((NODES, count, *shape))
    if shared[0] is not None:
        along = along + shared[0][None]
    rows = along.reshape(-1, *shape)
    return (rows, at_nodes(shared[1])), curve


def at_nodes(coefficient: Any) -> Any:
    """The same coefficient at every node: `[node * directions *shape]`."""
    return None if coefficient is None else jnp.tile(coefficient, (NODES, *[1] * (coefficient.ndim - 1)))


def _picked(local, elements):
    """`[directions *locations elements]` at the elements of each direction: `[directions *locations *other axes]`."""
    count, *locations, _ = local.shape
    picked = jnp.take_along_axis(local.reshape(count, -1, local.shape[-1]), elements.reshape(count, 1, -1), axis=2)
    return picked.reshape(count, *locations, *elements.shape[1:])


def _along_nodes(numbers, like):
    return jnp.asarray(numbers, like.dtype).reshape(NODES, *[1] * like.ndim)


def _placed(array, positions, rank):
    """`[node directions *axes]` with its axes at these positions of `rank` axes, and length 1 elsewhere."""
    order = np.argsort(positions)
    array = array.transpose(0, 1, *(2 + order))
    sizes = dict(zip(sorted(positions), array.shape[2:], strict=True))
    return array.reshape(*array.shape[:2], *(sizes.get(axis, 1) for axis in range(rank)))
