"""As many noisy samples as a map needs: averages that grow until the map's standard error is under a bound.

The samples stand in eight groups, and the map is made nine times over: of all, and of all but one group. How far these
differ is the standard error of the map (the jackknife), whatever the map does with the averages; for a map that is an
average itself it is the usual standard error.

Efron & Stein, "The jackknife estimate of variance", Annals of Statistics 1981.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam.perturbations import noise
from jaxcam.tracing import for_loops

GROUPS = 8


class Smoothed(NamedTuple):
    """A map, `[*spatial]`, its standard error at every location, and the number of samples that it is made of."""

    map: Any
    standard_error: Any
    n_samples: jax.Array


def grown(
    features: Callable[[jax.Array], jax.Array],
    f: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]],
    finish: Callable[[Any], Any],
    image: jax.Array,
    key: jax.Array,
    *,
    standard_error: jax.Array | float,
    n_samples: int,
    std: jax.Array | float,
    relative: bool = True,
    batch_size: int | None = None,
) -> Smoothed:
    """`finish` of the mean of e^scale * values over noisy copies, as many as it takes.

    Args:
      features: as in `jaxcam.noise.mean_over_noise`.
      f: as there.
      finish: from the mean values to the map, or a pytree of maps. A common factor of the values may scale the maps by
        that factor, and do no more.
      image: one example.
      key: a `jax.random.key`; the samples are those of `mean_over_noise`, so n of them give the same map.
      standard_error: the samples grow until the standard error is nowhere above this share of the map's maximum; 0
        takes them all.
      n_samples: the most; they grow eight at a time, so the multiple of eight at or below it counts.
      std: as in `jaxcam.noise.noisy`.
      relative: as there.
      batch_size: samples at a time, eight at most.

    Returns:
      `Smoothed`. It is a loop of unknown length: it can be jitted and vmapped, not differentiated in reverse.

    Raises:
      ValueError: fewer than 16 samples are allowed.

    Example:
      >>> f = lambda x, A: (jnp.float32(0), A)
      >>> same = lambda mean: mean
      >>> image = jnp.linspace(0, 1, 10)
      >>> found = grown(jnp.sin, f, same, image, jax.random.key(0), standard_error=0.02, n_samples=1000, std=0.1)
      >>> int(found.n_samples) < 1000, bool(found.standard_error.max() <= 0.02 * found.map.max())
      (True, True)
    """
    if n_samples < 2 * GROUPS:
        raise ValueError(f"n_samples is {n_samples}: standard_error= grows the samples up to it, at least {2 * GROUPS}")

    def one(m):
        x = noise.noisy(image, key, m, std=std, relative=relative)
        return f(x, features(x))

    def add_round(state):
        rounds, groups, *_ = state
        # Sample m is in group m mod 8: each group has one more after every round.
        samples = rounds * GROUPS + jnp.arange(GROUPS)
        if pace == 1:
            new = jax.lax.map(for_loops(one), samples)
        else:
            new = jax.lax.map(one, samples, batch_size=pace)
        groups = jax.vmap(noise.join)(groups, new)
        return rounds + 1, groups, *summary(groups, rounds + 1)

    def summary(groups, rounds):
        scales, values = groups
        factors = jnp.exp(scales - scales.max())

        def of(factors, count):
            mean = jax.tree.map(lambda v: jnp.tensordot(factors, v, 1, precision="highest") / count, values)
            return finish(mean)

        n = (rounds * GROUPS).astype(factors.dtype)
        without = 1 - jnp.eye(GROUPS, dtype=factors.dtype)
        partial = jax.vmap(lambda keep: of(keep * factors, n * (GROUPS - 1) / GROUPS))(without)
        error = jax.tree.map(lambda maps: jnp.sqrt((GROUPS - 1) * maps.var(0)), partial)
        return of(factors, n), error

    def wanting(state):
        rounds, _, found, error = state
        over = jax.tree.map(lambda m, e: e.max() > standard_error * jnp.abs(m).max(), found, error)
        short = jnp.stack(jax.tree.leaves(over)).any() | (standard_error == 0)
        return (rounds < 2) | ((rounds < n_samples // GROUPS) & short)

    pace = min(batch_size or (1 if jax.default_backend() == "cpu" else GROUPS), GROUPS)
    shapes = jax.eval_shape(one, jnp.int32(0))
    low = jnp.full((GROUPS,), jnp.finfo(shapes[0].dtype).min, shapes[0].dtype)
    empty = low, jax.tree.map(lambda leaf: jnp.zeros((GROUPS, *leaf.shape), leaf.dtype), shapes[1])
    start = jnp.int32(0), empty, *jax.tree.map(jnp.zeros_like, jax.eval_shape(summary, empty, jnp.int32(1)))
    rounds, _, found, error = jax.lax.while_loop(wanting, add_round, start)
    return Smoothed(found, error, rounds * GROUPS)
