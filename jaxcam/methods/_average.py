"""Averages of finished maps over noise: SmoothGrad, its variance and its square, for any method.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> smooth_layer_cam = average_maps(jaxcam.layer_cam)
    >>> smooth_layer_cam(cut, image, None, jax.random.key(0), n_samples=4, std=0.15).shape
    (16, 16)

The gradient-weighted methods can also average their derivatives, as Smooth Grad-CAM++ does: that is their own option
`n_samples`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32, batch_size_or_default
from jaxcam.cutting import activations, resolve_target
from jaxcam.methods._call import explanation_method
from jaxcam.methods._sampled import Sampled
from jaxcam.methods._signature import canonical_partial, score_of, takes_key
from jaxcam.methods._types import AverageMethod, GradientMethod, Maps
from jaxcam.perturbations import Smoothed, map_over_noise, noise

MapT = TypeVar("MapT")
METHODS_OWN_NOISE = 2**31 - 1  # no sample of an average has this number


class Statistic(NamedTuple):
    """A statistic of maps over noise: `finish` of the means of what `prepare` returns.

    `prepare` takes a map and a reference map, which is a map of one noisy sample if `has_reference` is true.
    """

    prepare: Callable[[jax.Array, jax.Array], Any]
    finish: Callable[[Any], jax.Array]
    has_reference: bool = False


def _map_itself(saliency: jax.Array, reference: jax.Array) -> jax.Array:
    return saliency


def _squared_map(saliency: jax.Array, reference: jax.Array) -> jax.Array:
    return jnp.square(saliency)


def _powers_of_deviation(saliency: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Deviations from a map of the sample, and not the maps themselves, so that the variance does not cancel.
    deviation = saliency - reference
    return deviation, deviation**2


def _mean_itself(mean: jax.Array) -> jax.Array:
    return mean


def _variance(means: tuple[jax.Array, jax.Array]) -> jax.Array:
    mean, mean_square = means
    return jnp.maximum(mean_square - mean**2, 0)


STATISTICS = {
    "mean": Statistic(_map_itself, _mean_itself),
    "variance": Statistic(_powers_of_deviation, _variance, has_reference=True),
    "square": Statistic(_squared_map, _mean_itself),
}


@overload  # a GradientMethod is also a Callable: the first overload that fits is taken
def average_maps(  # type: ignore[overload-overlap]
    method: GradientMethod, *, statistic: str = "mean"
) -> GradientMethod: ...


@overload
def average_maps(method: Callable[..., MapT], *, statistic: str = "mean") -> AverageMethod[MapT]: ...


def average_maps(method: Callable[..., Any], *, statistic: str = "mean") -> GradientMethod | AverageMethod[Any]:
    """The method whose map is the average of another method's maps over noisy copies of the image.

    Args:
      method: `(cut, image, target) -> map`, a named method or your own; bind its options with `functools.partial`. If
        it takes a key, it is given one, the same for every noisy copy.
      statistic: of the maps: their "mean", their "variance" over the noise, or the mean of their "square".

    Returns:
      A method `(cut, image, target=None, key, *, n_samples=50, std=0.15, relative=True, standard_error=None,
      batch_size=None, mesh=None)`, with options as in `jaxcam.gradient_cam`. The target is that of the clean image.
      Sample m has the noise of `jaxcam.noise.noisy`, so all averages with one key see the same images.

    Raises:
      ValueError: the statistic is not known.

    Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017 (mean); Adebayo et al., "Local explanation
    methods for deep neural networks lack sensitivity to parameter values", 2018 (VarGrad); Hooker et al., "A benchmark
    for interpretability methods in deep neural networks", 2019 (SmoothGrad-Squared).

    Example:
      >>> average_maps(jax.jit, statistic="median")
      Traceback (most recent call last):
        ...
      ValueError: statistic is 'median': choose one of mean, variance, square
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic is {statistic!r}: choose one of {', '.join(STATISTICS)}")
    return _cached_average(canonical_partial(method), statistic)


@functools.lru_cache(maxsize=256)  # jit compares functions by identity
def _cached_average(method, statistic):
    hands_key = takes_key(method)

    def average(
        cut,
        image,
        target=None,
        key=None,
        *,
        n_samples: int = 50,
        std: jax.Array | float = 0.15,
        relative: bool = True,
        standard_error: float | None = None,
        batch_size: int | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Maps:
        if target is None:
            target = resolve_target(activations(cut, image)[1], None).target
        # A method that draws noise has its own key, the same for every copy of the image.
        keys = (jax.random.fold_in(key, METHODS_OWN_NOISE),) if hands_key and key is not None else ()

        def map_of(x):
            saliency = method(cut, x, target, *keys)
            return saliency.map if isinstance(saliency, Sampled) else saliency

        return _statistic_over_noise(
            map_of, STATISTICS[statistic], image, key if n_samples else None,
            n_samples=n_samples, std=std, relative=relative, standard_error=standard_error,
            batch_size=batch_size_or_default(batch_size, cpu=1, accelerator=None), mesh=mesh,
        )  # fmt: skip

    name = getattr(getattr(method, "func", method), "__name__", "a method")
    average.__name__ = f"average_maps({name})"
    average.__doc__ = f"The {statistic} over noise of the maps of {name}; see `jaxcam.average_maps`."
    # What a results folder records of this function.
    average.made_by = functools.partial(average_maps, method, statistic=statistic)  # type: ignore[attr-defined]
    return explanation_method(several=True, score=score_of(method))(average)


def _statistic_over_noise(map_of, statistic, image, key, *, std, relative, **options):
    """The statistic of `map_of` over noisy copies of the image; of the clean image alone if there is no key."""
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, jax.eval_shape(map_of, image))

    def in_dtype_of_map(saliency):
        return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), saliency, dtypes)

    def wide_map_of(x):
        # A running sum of half-precision numbers stops growing after some hundreds of them.
        return jax.tree.map(at_least_float32, map_of(x))

    def finish(means):
        return jax.tree.map(lambda _, mean: statistic.finish(mean), dtypes, means)

    if key is None:
        clean = wide_map_of(image)
        return in_dtype_of_map(finish(jax.tree.map(statistic.prepare, clean, clean)))
    reference = None
    if statistic.has_reference:
        reference = wide_map_of(noise.noisy(image, key, 0, std=std, relative=relative))

    def prepared_map_of(x, _):
        saliency = wide_map_of(x)
        prepared = jax.tree.map(statistic.prepare, saliency, saliency if reference is None else reference)
        no_scale = jnp.zeros((), jnp.result_type(*jax.tree.leaves(saliency)))
        return no_scale, prepared

    average = map_over_noise(
        lambda x: jnp.zeros(()), prepared_map_of, finish, image, key, std=std, relative=relative, **options
    )
    if isinstance(average, Smoothed):
        return average._replace(map=in_dtype_of_map(average.map))
    return in_dtype_of_map(average)
