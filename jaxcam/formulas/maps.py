"""Saliency maps from an activation and its channel weights: weighted sum, selection, resizing, scaling and fusing."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import relu, safe_divide

Select = Callable[[jax.Array], jax.Array]
FUSIONS: dict[str, Callable[..., jax.Array]] = {"mean": jnp.mean, "maximum": jnp.max}


def weighted_sum(A: jax.Array, weights: jax.Array, *, select: Select | None = None) -> jax.Array:
    """relu(sum_k w_k A^k), `[*spatial]`, at least 0.

    Args:
      A: activation `[*spatial k]`.
      weights: one for each channel, `[k]`, or for each neuron, `[*spatial k]`.
      select: a function from the products w_k A^k, `[*spatial k]`, to their sum, `[*spatial]`, or to m of them,
        `[m *spatial]`; `jaxcam.select` makes one. None sums over all channels.

    Raises:
      ValueError: the weights have another shape.

    Example:
      >>> weighted_sum(jnp.ones([2, 2, 3]), jnp.array([1.0, 2.0, -0.5])).tolist()
      [[2.5, 2.5], [2.5, 2.5]]
    """
    weights = jnp.asarray(weights)
    if weights.shape not in (A.shape, A.shape[-1:]):
        raise ValueError(f"expected weights of shape {A.shape[-1:]} or {A.shape}, got {weights.shape}")
    products = A.astype(weights.dtype) * weights.reshape((1,) * (A.ndim - weights.ndim) + weights.shape)
    return relu(products.sum(-1) if select is None else select(products))


# The name of earlier versions; `jaxcam.saliency` is another function, the input gradient of Simonyan et al.
saliency = weighted_sum


def select(
    *,
    filters: Sequence[int] | None = None,
    region: bool = False,
    subset: Sequence[Sequence[int]] | None = None,
) -> Select:
    """A choice of feature maps and neurons, for the option `select` of the methods at a layer.

    The weights are those of the whole network. The choice decides which products w_k A^k the map shows.

    Args:
      filters: channels. The result has one map for each, `[len(filters) *spatial]`, instead of their sum.
      region: whether `subset` is two opposite corners of a rectangle, both included, or a list of neurons.
      subset: coordinates on the layer, `[(row, column), ...]`. Everything outside them is set to zero.

    Raises:
      ValueError: nothing is chosen; a region does not have two corners; when the map is made, an index is outside the
        layer.

    Omeiza et al., "Smooth Grad-CAM++", 2019, sections 3.5 and 3.6.

    Example:
      >>> A, w = jnp.ones([4, 4, 3]), jnp.array([1.0, 2.0, 3.0])
      >>> weighted_sum(A, w, select=select(filters=[2, 0])).shape
      (2, 4, 4)
      >>> weighted_sum(A, w, select=select(region=True, subset=[(0, 0), (1, 1)])).sum().item()
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
    return _cached_selection(
        None if filters is None else tuple(operator.index(k) for k in filters),
        bool(region),
        None if subset is None else tuple(tuple(operator.index(i) for i in point) for point in subset),
    )


@functools.cache
def _cached_selection(filters, region, subset):
    # Cached, because jit compares functions by identity: an equal selection must not trace a method again.
    def choose(products):
        *spatial, channels = products.shape
        _check_selection(filters, subset, spatial, channels)
        if subset is not None:
            products = jnp.where(_neuron_mask(region, subset, spatial)[..., None], products, 0)
        return products.sum(-1) if filters is None else jnp.moveaxis(products[..., jnp.array(filters)], -1, 0)

    # What a results folder records of this function.
    made_by = functools.partial(select, filters=filters, region=region, subset=subset)
    choose.made_by = made_by  # type: ignore[attr-defined]
    return choose


def _neuron_mask(region, subset, spatial):
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
    """A map `[*spatial]`, or m maps `[m *spatial]`, resized bilinearly; values stay within the map's range.

    Args:
      saliency_map: the map or maps.
      shape: the new `spatial`, such as `image.shape[:2]`.

    Raises:
      ValueError: the shape has more axes than the map.

    Example:
      >>> resize(jnp.ones([14, 14]), [224, 224]).shape
      (224, 224)
    """
    leading = saliency_map.ndim - len(shape)
    if leading < 0:
        raise ValueError(f"shape {tuple(shape)} has more axes than the map, {saliency_map.shape}")
    return jax.image.resize(saliency_map, (*saliency_map.shape[:leading], *shape), "linear")


def normalize(saliency_map: jax.Array) -> jax.Array:
    """A map scaled to 0..1, `(map - min) / (max - min)`. A constant map gives zeros, not NaN.

    Example:
      >>> normalize(jnp.array([[1.0, 2.0], [3.0, 5.0]])).tolist(), normalize(jnp.ones(2)).tolist()
      ([[0.0, 0.25], [0.5, 1.0]], [0.0, 0.0])
    """
    low, high = saliency_map.min(), saliency_map.max()
    return safe_divide(saliency_map - low, high - low)


def fuse(
    maps: Mapping[str, jax.Array] | Sequence[jax.Array], *, shape: Sequence[int] | None = None, how: str = "mean"
) -> jax.Array:
    """One map from several, such as those of several layers: the mean or the maximum of M / max(M).

    Each map is divided by its own maximum, so that no layer outweighs another by its scale, and is then resized. A map
    of zeros stays zero; it counts in the mean.

    Args:
      maps: a dict or a sequence of maps `[*spatial]`, at least 0, which may differ in resolution; for batches use
        `jax.vmap`.
      shape: the `spatial` of the result; None for the largest size along each axis.
      how: "mean" or "maximum", at each location.

    Returns:
      `[*spatial]`, in 0..1.

    Raises:
      TypeError: `maps` is an array or a `Smoothed`.
      ValueError: there are no maps, `how` is another name, or the maps and the shape differ in their number of axes.

    The maximum is how Jiang et al. fuse, "LayerCAM: exploring hierarchical class activation maps for localization",
    IEEE Transactions on Image Processing 2021. They first scale the maps of early layers, and only these, to
    tanh(gamma M / max(M)) with gamma = 2, which raises small values; here every map is scaled linearly. The mean is how
    pytorch-grad-cam fuses, after it has subtracted the minimum of each map.

    Example:
      >>> coarse, fine = jnp.array([[2.0]]), jnp.array([[0.0, 4.0], [1.0, 0.0]])
      >>> fuse([coarse, fine]).tolist()
      [[0.5, 1.0], [0.625, 0.5]]
      >>> fuse({"block5": coarse, "block4": fine}, how="maximum").tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    if how not in FUSIONS:
        raise ValueError(f"how is {how!r}: choose one of {', '.join(FUSIONS)}")
    if hasattr(maps, "_fields") or hasattr(maps, "ndim"):
        raise TypeError(f"expected a dict or a list of maps, got {type(maps).__name__}; for a Smoothed give its .map")
    several = list(maps.values() if isinstance(maps, Mapping) else maps)
    if not several:
        raise ValueError("no maps: give at least one to fuse")
    sizes = [jnp.shape(saliency_map) for saliency_map in several]
    if len({len(size) for size in (*sizes, *([] if shape is None else [shape]))}) > 1:
        expected = "the same number of axes" if shape is None else f"the {len(shape)} of shape={tuple(shape)}"
        raise ValueError(f"expected maps with {expected}, got {', '.join(map(str, sizes))}; use jax.vmap for batches")
    shape = tuple(map(max, zip(*sizes, strict=True))) if shape is None else shape
    scaled = [resize(_divided_by_maximum(saliency_map), shape) for saliency_map in several]
    return FUSIONS[how](jnp.stack(scaled), axis=0)


def _divided_by_maximum(saliency_map):
    saliency_map = jnp.asarray(saliency_map)
    return safe_divide(saliency_map, saliency_map.max())
