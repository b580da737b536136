"""Saliency maps from an activation and its channel weights: the sum, selection, resizing, normalising, fusing."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

Select = Callable[[jax.Array], jax.Array]
FUSIONS: dict[str, Callable[..., jax.Array]] = {"mean": jnp.mean, "maximum": jnp.max}


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
    weights = jnp.asarray(weights)
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
    """A choice of feature maps and neurons, for the option `select` of the methods at a layer.

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

    # What a results folder records of this function.
    made_by = functools.partial(select, filters=filters, region=region, subset=subset)
    choose.made_by = made_by  # type: ignore[attr-defined]
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


def fuse(
    maps: Mapping[str, jax.Array] | Sequence[jax.Array], *, shape: Sequence[int] | None = None, how: str = "mean"
) -> jax.Array:
    """One map of several, those of several layers say: the mean or the maximum of M / max(M), at one resolution.

    Each map is divided by its own maximum, so that no layer outweighs another by its scale, and then resized. A map of
    zeros stays one; in a mean it counts.

    Args:
      maps: a dict or a sequence of maps `[*spatial]`, at least 0, each at a resolution of its own; for more of them use
        `jax.vmap`.
      shape: the `spatial` of the result; None for the largest of the maps, along each axis.
      how: "mean" or "maximum", at each location.

    Returns:
      `[*spatial]`, in 0..1.

    Raises:
      ValueError: no maps, another `how`, or maps and a shape that have not the same number of axes.

    The maximum is how Jiang et al. fuse, "LayerCAM: exploring hierarchical class activation maps for localization",
    IEEE Transactions on Image Processing 2021; they first scale the maps of early layers, and only these, to
    tanh(gamma M / max(M)) with gamma = 2, which lifts what is weak. Here every map is scaled alike, and linearly. The
    mean is how pytorch-grad-cam fuses, after it has subtracted each map's minimum.

    Example:
      >>> coarse, fine = jnp.array([[2.0]]), jnp.array([[0.0, 4.0], [1.0, 0.0]])
      >>> fuse([coarse, fine]).tolist()
      [[0.5, 1.0], [0.625, 0.5]]
      >>> fuse({"block5": coarse, "block4": fine}, how="maximum").tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    if how not in FUSIONS:
        raise ValueError(f"how is {how!r}: it must be {' or '.join(map(repr, FUSIONS))}")
    if hasattr(maps, "_fields") or hasattr(maps, "ndim"):
        raise TypeError(f"maps is a {type(maps).__name__}: a dict or a list of maps is wanted; of a Smoothed, its .map")
    several = list(maps.values() if isinstance(maps, Mapping) else maps)
    if not several:
        raise ValueError("no maps: give at least one to fuse")
    shapes = [jnp.shape(each) for each in several]
    axes = {len(each) for each in (*shapes, *([] if shape is None else [shape]))}
    if len(axes) > 1:
        wanted = "one number of axes" if shape is None else f"the {len(shape)} of shape={tuple(shape)}"
        raise ValueError(f"maps have shapes {', '.join(map(str, shapes))}: {wanted} is wanted; use jax.vmap for more")
    shape = tuple(map(max, zip(*shapes, strict=True))) if shape is None else shape
    return FUSIONS[how](jnp.stack([resize(_over_maximum(each), shape) for each in several]), axis=0)


def _over_maximum(saliency_map):
    saliency_map = jnp.asarray(saliency_map)
    top = saliency_map.max()
    return saliency_map / jnp.where(top > 0, top, 1)
