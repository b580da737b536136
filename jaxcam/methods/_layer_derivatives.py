"""The derivatives of Y at the layers of a cut, in closed form where that is proved exact or is asked for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import Scaled
from jaxcam._base.types import Score
from jaxcam.derivatives import (
    Derivatives,
    ScaledDerivatives,
    certify,
    closed_form,
    exact_scaled,
    score_is_affine,
    through_link,
    through_link_scaled,
)

DERIVATIVES = ("exact", "closed_form", "sampled")
ORDERS = (1, 3)
Where = jax.Array | Callable[[jax.Array], jax.Array]
# A point of the head: the activation of each layer, or a displacement from it.
Point = dict[Any, jax.Array]


def derivatives_at_layers(
    head: Callable[[Point], Any],
    point: Point,
    target: Any,
    *,
    score: Score,
    link: str,
    order: int,
    derivatives: str,
    batch_size: int | None,
    where: dict[Any, Where] | None = None,
    n_locations: int | None = None,
) -> tuple[jax.Array, dict[Any, tuple[Any, ...]]]:
    """`(scale, {layer: (Y1, Y2, Y3)})` of one input, or `(Y1,)` for order 1. Each Y_p must be read as times e^scale.

    Y2 and Y3 are `Scaled`: arrays times a power of two.

    Args:
      head: from a dict of arrays by layer to the outputs.
      point: the dict at which the derivatives are taken, one layer at a time.
      target: the second argument of the score.
      score: `(outputs, target) -> u`.
      link: Y = u for "identity", e^u for "exp".
      order: 1 or 3.
      derivatives: of order 3: "exact" or "closed_form"; "sampled" is "exact", at drawn elements if `where` has them.
      batch_size: directions at a time.
      where: by layer, the `where` of `jaxcam.derivatives.exact`; None for all elements. The closed form ignores it.
      n_locations: of "sampled": no channel has more elements in `where`, if that is given.

    Raises:
      ValueError: an option is not known; for order 3, link="identity" with an affine score, where Y2 = Y3 = 0.

    Example:
      >>> head = lambda point: point["layer"].sum(0)
      >>> options = dict(score=lambda outputs, t: outputs[t], link="exp", order=3, derivatives="exact", batch_size=None)
      >>> scale, Y = derivatives_at_layers(head, {"layer": jnp.ones([2, 3])}, 0, **options)
      >>> float(scale), Y["layer"][1].value().tolist()
      (2.0, [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    """
    if derivatives not in DERIVATIVES:
        raise ValueError(f"derivatives is {derivatives!r}: choose one of {', '.join(DERIVATIVES)}")

    def score_at(point):
        return score(head(point), target)

    if order == 1:
        u, u1 = jax.value_and_grad(score_at)(point)
        return _first_order(u, u1, link=link)
    piecewise_linear = derivatives == "closed_form" or certify(head, point).affine
    if link == "identity" and piecewise_linear and score_is_affine(head, point, score, target):
        raise ValueError(
            "link='identity' with an affine score makes Y2 = Y3 = 0 at every location of a piecewise linear network: "
            "alpha is 0/0 and the map is zero. Use link='exp', or another score"
        )
    if piecewise_linear:
        by_layer = _in_closed_form(head, point, score, target, batch_size)
    else:
        by_layer = _layer_by_layer(score_at, point, batch_size, where or {}, n_locations if where else None)
    by_layer = {layer: of_u._replace(u1=_where_defined(of_u.u, of_u.u1)) for layer, of_u in by_layer.items()}
    linked = {layer: through_link_scaled(of_u, link=link) for layer, of_u in by_layer.items()}
    scale, _ = next(iter(linked.values()))
    return scale, {layer: Y for layer, (_, Y) in linked.items()}


def _where_defined(u: jax.Array, u1: jax.Array) -> jax.Array:
    """The gradient; NaN where the score is NaN, whose gradient may be finite, as that of log below 0."""
    return jnp.where(jnp.isnan(u), jnp.nan, u1)


def _first_order(u, u1, *, link):
    u1 = {layer: _where_defined(u, gradient) for layer, gradient in u1.items()}
    zeros = jax.tree.map(jnp.zeros_like, u1)
    linked = {layer: through_link(Derivatives(u, u1[layer], zeros[layer], zeros[layer]), link=link) for layer in u1}
    scale, _ = next(iter(linked.values()))
    return scale, {layer: Y[:1] for layer, (_, Y) in linked.items()}


def _in_closed_form(head, point, score, target, batch_size):
    """The derivatives of u by layer. One backward pass reaches all layers, which are one vector for it."""
    flat, as_point = _as_one_array(point)
    u, *orders = closed_form(lambda flat: head(as_point(flat)), flat, score, target, batch_size=batch_size)
    # In the type of the derivatives: half precision would lose squares and cubes.
    u1, u2, u3 = (as_point(order, in_own_type=False) for order in orders)
    return {layer: ScaledDerivatives(u, u1[layer], Scaled(u2[layer], 0), Scaled(u3[layer], 0)) for layer in point}


def _layer_by_layer(score_at, point, batch_size, where, n_locations):
    """The derivatives of u by layer, of any head."""

    def score_of_layer(layer, A):
        return score_at({**point, layer: A})

    return {
        layer: exact_scaled(
            functools.partial(score_of_layer, layer),
            A,
            where=where.get(layer),
            at_most=None if n_locations is None else n_locations * A.shape[-1],
            batch_size=batch_size,
        )
        for layer, A in point.items()
    }


def _as_one_array(point):
    """The point as one array, and the function from such an array to a point."""
    if len(point) == 1:
        ((layer, A),) = point.items()
        return A, lambda A, in_own_type=True: {layer: A}
    arrays = list(point.values())
    with jax.numpy_dtype_promotion("standard"):
        common_type = jnp.result_type(*arrays)
    ends = np.cumsum([array.size for array in arrays])[:-1].tolist()

    def as_point(flat, in_own_type=True):
        parts = zip(point, arrays, jnp.split(flat, ends), strict=True)
        return {
            layer: part.reshape(array.shape).astype(array.dtype if in_own_type else part.dtype)
            for layer, array, part in parts
        }

    return jnp.concatenate([array.ravel().astype(common_type) for array in arrays]), as_point
