"""Maps of averages over noise: of a fixed number of samples, or of as many as the map needs.

The number grows until the standard error of the map is below a bound. The samples are dealt to eight groups, and the
map is computed nine times: from all groups, and from all but each one. The spread of these maps is the standard error
(the jackknife), whatever the map computes from the averages. For a map that is itself an average it is the usual
standard error.

Efron & Stein, "The jackknife estimate of variance", Annals of Statistics 1981.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import batch_size_or_default
from jaxcam.perturbations import noise
from jaxcam.perturbations._sums import add_scaled, divided, weighted_sum
from jaxcam.tracing import for_loops

GROUPS = 8
MapT = TypeVar("MapT")
MapT_co = TypeVar("MapT_co", covariant=True)


class Smoothed(NamedTuple, Generic[MapT_co]):
    """A map, `[*spatial]`, its standard error at every location, and the number of samples that it is made of."""

    map: MapT_co
    standard_error: MapT_co
    n_samples: jax.Array


def map_over_noise(
    features: Callable[[jax.Array], jax.Array],
    scaled_values: Callable[[jax.Array, jax.Array], noise.ScaledValues],
    map_from: Callable[[Any], MapT],
    image: jax.Array,
    key: jax.Array,
    *,
    n_samples: int,
    std: jax.Array | float,
    relative: bool,
    standard_error: jax.Array | float | None,
    batch_size: int | None,
    mesh: jax.sharding.Mesh | None,
) -> MapT | Smoothed[MapT]:
    """`map_from` of the mean over noisy copies of an image; a `Smoothed` if `standard_error` is given.

    The arguments are those of `jaxcam.noise.mean_over_noise` and `grow_average`.

    Raises:
      ValueError: both `standard_error` and `mesh` are given.

    Example:
      >>> scaled, image = lambda x, A: (jnp.float32(0), A), jnp.linspace(0, 1, 10)
      >>> options = dict(n_samples=20, std=0.1, relative=True, standard_error=None, batch_size=None, mesh=None)
      >>> map_over_noise(jnp.sin, scaled, jnp.abs, image, jax.random.key(0), **options).shape
      (10,)
    """
    if standard_error is None:
        _, mean = noise.mean_over_noise(
            features,
            scaled_values,
            image,
            key,
            n_samples=n_samples,
            std=std,
            relative=relative,
            batch_size=batch_size,
            mesh=mesh,
        )
        return map_from(mean)
    if mesh is not None:
        raise ValueError("standard_error grows the samples on one device: give it or mesh, not both")
    return grow_average(
        features,
        scaled_values,
        map_from,
        image,
        key,
        standard_error=standard_error,
        n_samples=n_samples,
        std=std,
        relative=relative,
        batch_size=batch_size,
    )


def grow_average(
    features: Callable[[jax.Array], jax.Array],
    scaled_values: Callable[[jax.Array, jax.Array], noise.ScaledValues],
    map_from: Callable[[Any], MapT],
    image: jax.Array,
    key: jax.Array,
    *,
    standard_error: jax.Array | float,
    n_samples: int,
    std: jax.Array | float,
    relative: bool = True,
    batch_size: int | None = None,
) -> Smoothed[MapT]:
    """`map_from` of the mean of e^scale * values over as many noisy copies as the standard error needs.

    Args:
      features: as in `jaxcam.noise.mean_over_noise`.
      scaled_values: as in `jaxcam.noise.mean_over_noise`.
      map_from: from the mean values to a map or a pytree of maps. A common factor of the values may scale the maps, and
        must have no other effect.
      image: one example.
      key: a `jax.random.key`; n samples are the first n of `mean_over_noise`, and give the same map.
      standard_error: the samples grow until no location's standard error is above this share of the map's maximum; 0
        takes all samples.
      n_samples: the upper bound. Samples grow eight at a time, so it is rounded down to a multiple of eight.
      std: as in `jaxcam.noise.noisy`.
      relative: as in `jaxcam.noise.noisy`.
      batch_size: samples at a time, eight at most.

    Returns:
      A `Smoothed`. The loop's length is not known in advance: it can be jitted and vmapped, but not differentiated in
      reverse mode.

    Raises:
      ValueError: n_samples is below 16.

    Example:
      >>> scaled, image = lambda x, A: (jnp.float32(0), A), jnp.linspace(0, 1, 10)
      >>> options = dict(standard_error=0.02, n_samples=1000, std=0.1)
      >>> smoothed = grow_average(jnp.sin, scaled, lambda mean: mean, image, jax.random.key(0), **options)
      >>> int(smoothed.n_samples) < 1000, bool(smoothed.standard_error.max() <= 0.02 * smoothed.map.max())
      (True, True)
    """
    if n_samples < 2 * GROUPS:
        raise ValueError(f"expected n_samples of at least {2 * GROUPS} with standard_error=, got {n_samples}")
    at_a_time = min(batch_size_or_default(batch_size, cpu=1, accelerator=GROUPS), GROUPS)

    def values_of_sample(m):
        x = noise.noisy(image, key, m, std=std, relative=relative)
        return scaled_values(x, features(x))

    def add_round(state):
        rounds, groups, *_ = state
        # Sample m is in group m mod 8, so each group has one sample more after every round.
        samples = rounds * GROUPS + jnp.arange(GROUPS)
        if at_a_time == 1:
            new = jax.lax.map(for_loops(values_of_sample), samples)
        else:
            new = jax.lax.map(values_of_sample, samples, batch_size=at_a_time)
        groups = jax.vmap(add_scaled)(groups, new)
        return rounds + 1, groups, *_map_and_error(map_from, groups, rounds + 1)

    def needs_another_round(state):
        rounds, _, saliency, error = state
        exceeds = jax.tree.map(lambda m, e: e.max() > standard_error * jnp.abs(m).max(), saliency, error)
        not_precise = jnp.stack(jax.tree.leaves(exceeds)).any() | (standard_error == 0)
        return (rounds < 2) | ((rounds < n_samples // GROUPS) & not_precise)

    scale, values = jax.eval_shape(values_of_sample, jnp.int32(0))
    no_scale = jnp.full((GROUPS,), jnp.finfo(scale.dtype).min, scale.dtype)
    no_groups = no_scale, jax.tree.map(lambda leaf: jnp.zeros((GROUPS, *leaf.shape), leaf.dtype), values)
    map_shapes = jax.eval_shape(lambda groups: _map_and_error(map_from, groups, jnp.int32(1)), no_groups)
    start = jnp.int32(0), no_groups, *jax.tree.map(jnp.zeros_like, map_shapes)
    rounds, _, saliency, error = jax.lax.while_loop(needs_another_round, add_round, start)
    return Smoothed(saliency, error, rounds * GROUPS)


def _map_and_error(map_from, groups, rounds):
    """The map of all groups, and its standard error from the maps of all groups but one."""
    scales, values = groups

    def map_of(kept, count):
        return map_from(divided(weighted_sum(scales, values, kept)[1], count))

    n = (rounds * GROUPS).astype(scales.dtype)
    all_but_one = 1 - jnp.eye(GROUPS, dtype=scales.dtype)
    partial_maps = jax.vmap(lambda kept: map_of(kept, n * (GROUPS - 1) / GROUPS))(all_but_one)
    # Efron & Stein: the variance is (G - 1) / G times the sum of squared deviations of the G partial maps.
    error = jax.tree.map(lambda maps: (GROUPS - 1) ** 0.5 * _deviation(maps), partial_maps)
    return map_of(1, n), error


def _deviation(maps):
    """The standard deviation over the first axis, scaled because squares of small or large maps are out of range."""
    top = jnp.abs(maps).max()
    scale = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return scale * jnp.sqrt((maps / scale).var(0))
