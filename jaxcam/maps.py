"""Saliency maps from an activation and its channel weights: the weighted sum, selection, resizing, normalising."""

import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Select = Callable[[jax.Array], jax.Array]


def saliency(A: jax.Array, weights: jax.Array, *, select: Select | None = None) -> jax.Array:
    """relu(sum_k w_k A^k), `[*spatial]`, at least 0.

    Args:
      A: activation `[*spatial k]`.
      weights: of channels `[k]`, or of neurons `[*spatial k]`.
      select: takes the products w_k A^k, `[*spatial k]`, to their sum `[*spatial]`, or to several, `[m *spatial]`;
        `jaxcam.select` makes one. None sums over all channels.

    Example:
      >>> saliency(jnp.ones([2, 2, 3]), jnp.array([1.0, 2.0, -0.5])).tolist()
      [[2.5, 2.5], [2.5, 2.5]]
    """
    if weights.shape not in (A.shape, A.shape[-1:]):
        raise ValueError(f"weights have shape {weights.shape}: {A.shape[-1:]} or {A.shape} is wanted")
    products = A.astype(weights.dtype) * weights.reshape((1,) * (A.ndim - weights.ndim) + weights.shape)
    return jax.nn.relu(products.sum(-1) if select is None else select(products))


def select(
    *,
    filters: Sequence[int] | None = None,
    region: bool = False,
    subset: Sequence[Sequence[int]] | None = None,
) -> Select:
    """A choice of feature maps and neurons, for the option `select` of every method.

    The weights are those of the whole network; the choice says which products w_k A^k the map shows.

    Args:
      filters: feature maps. The result has one map for each, `[len(filters) *spatial]`, instead of their sum.
      region: whether `subset` is two opposite corners of a rectangle, both included, or a list of neurons.
      subset: coordinates on the layer, `[(row, column), ...]`. Everything outside them is clipped to zero.

    Raises:
      ValueError: nothing chosen; a region without its two corners; when the map is made, an index outside the layer.

    Omeiza et al., "Smooth Grad-CAM++", 2019, sections 3.5 and 3.6.

    Example:
      >>> A, w = jnp.ones([4, 4, 3]), jnp.array([1.0, 2.0, 3.0])
      >>> saliency(A, w, select=select(filters=[2, 0])).shape
      (2, 4, 4)
      >>> saliency(A, w, select=select(region=True, subset=[(0, 0), (1, 1)])).sum().item()
      24.0
    """
    if filters is None and subset is None and not region:
        raise ValueError("nothing is selected: give filters, subset, or both")
    if filters is not None and len(filters) == 0:
        raise ValueError("filters is empty: give at least one, or None for all")
    if subset is not None and len(subset) == 0:
        raise ValueError("subset is empty: give at least one neuron, or None for all")
    if region and (subset is None or len(subset) != 2):
        raise ValueError(f"a region is two opposite corners, subset=[(r0, c0), (r1, c1)]: got subset={subset}")
    return _select(
        None if filters is None else tuple(operator.index(k) for k in filters),
        bool(region),
        None if subset is None else tuple(tuple(operator.index(i) for i in point) for point in subset),
    )


@functools.cache
def _select(filters, region, subset):
    # Cached, because jit knows a function by its identity: an equal selection must not trace a method again.
    def choose(products):
        *spatial, channels = products.shape
        _check_selection(filters, subset, spatial, channels)
        if subset is not None:
            products = jnp.where(_mask(region, subset, spatial)[..., None], products, 0)
        return products.sum(-1) if filters is None else jnp.moveaxis(products[..., jnp.array(filters)], -1, 0)

    return choose


def _mask(region, subset, spatial):
    mask = jnp.zeros(spatial, bool)
    if region:
        return mask.at[tuple(slice(min(pair), max(pair) + 1) for pair in zip(*subset, strict=True))].set(True)
    return mask.at[tuple(jnp.array(axis) for axis in zip(*subset, strict=True))].set(True)


def _check_selection(filters, subset, spatial, channels):
    for k in filters or ():
        if not 0 <= k < channels:
            raise ValueError(f"filter {k} is outside the layer: it has {channels}, 0..{channels - 1}")
    for point in subset or ():
        if len(point) != len(spatial) or not all(0 <= i < n for i, n in zip(point, spatial, strict=True)):
            bounds = " x ".join(f"0..{n - 1}" for n in spatial)
            raise ValueError(f"neuron {point} is outside the layer: coordinates are {bounds}")


def resize(saliency_map: jax.Array, shape: Sequence[int]) -> jax.Array:
    """A map `[*spatial]`, or several `[m *spatial]`, at another resolution, bilinearly; values stay within its range.

    Args:
      saliency_map: the map or maps.
      shape: the new `spatial`, such as `image.shape[:2]`.

    Example:
      >>> resize(jnp.ones([14, 14]), [224, 224]).shape
      (224, 224)
    """
    leading = saliency_map.ndim - len(shape)
    if leading < 0:
        raise ValueError(f"shape {tuple(shape)} has more axes than the map, {saliency_map.shape}")
    return jax.image.resize(saliency_map, (*saliency_map.shape[:leading], *shape), "linear")


def normalize(saliency_map: jax.Array) -> jax.Array:
    """A map scaled to 0..1, `(map - min) / (max - min)`; a constant map, all zero for one, gives zeros and never NaN.

    Example:
      >>> normalize(jnp.array([[1.0, 2.0], [3.0, 5.0]])).tolist(), normalize(jnp.ones(2)).tolist()
      ([[0.0, 0.25], [0.5, 1.0]], [0.0, 0.0])
    """
    low, high = saliency_map.min(), saliency_map.max()
    flat = high == low
    return jnp.where(flat, 0, (saliency_map - low) / jnp.where(flat, 1, high - low))
