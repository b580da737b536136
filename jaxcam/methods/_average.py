"""Averages of finished maps over noise: SmoothGrad, and its variance and square, done to any method.

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
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32
from jaxcam.cutting import activations, resolve_target
from jaxcam.methods._call import method as checked
from jaxcam.methods._call import shared
from jaxcam.perturbations import grown, noise

STATISTICS = ("mean", "variance", "square")
OWN = 2**31 - 1  # no sample has this number


def average_maps(method: Callable[..., Any], *, statistic: str = "mean") -> Callable[..., Any]:
    """The method whose map is the average of another method's maps over noisy copies of the image.

    Args:
      method: `(cut, image, target) -> map`, a named method or one of your own; bind its options with
        `functools.partial`. One that takes a key is given one, the same for every noisy copy.
      statistic: of the maps: their "mean", their "variance" over the noise, or the mean of their "square".

    Returns:
      A method `(cut, image, target=None, key, *, n_samples=50, std=0.15, relative=True, standard_error=None,
      batch_size=None, mesh=None)`, with options as in `jaxcam.gradient_cam`. The target is that of the clean image.
      Sample m has the noise that `jaxcam.noise.noisy` gives, so all averages of one key see the same images.

    Raises:
      ValueError: a statistic that is not known.

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
    return _average_maps(shared(method), statistic)


@functools.lru_cache(maxsize=256)  # jit knows a function by its identity
def _average_maps(method, statistic):
    taken = inspect.signature(method).parameters
    keyed = "key" in taken and not (isinstance(method, functools.partial) and "key" in method.keywords)

    def averaged(
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
    ):
        index = resolve_target(activations(cut, image)[1], None)[0] if target is None else target

        def wide(found):
            # A running sum of half-precision numbers stands still after some hundred of them.
            return jax.tree.map(at_least_float32, found)

        def of(x):
            # A method that draws noise of its own has a key of its own, the same for every copy of the image.
            keys = (jax.random.fold_in(key, OWN),) if keyed and key is not None else ()
            return method(cut, x, index, *keys)

        if n_samples == 0 or key is None:
            clean = of(image)
            return {"mean": lambda m: m, "variance": jnp.zeros_like, "square": jnp.square}[statistic](clean)
        dtypes = jax.tree.map(lambda leaf: leaf.dtype, jax.eval_shape(of, image))
        # Powers of differences from a map among them keep the variance's digits.
        shift = None
        if statistic == "variance":
            shift = wide(of(noise.noisy(image, key, 0, std=std, relative=relative)))

        def f(x, _):
            found = wide(of(x))
            if statistic == "variance":
                found = jax.tree.map(lambda m, s: (m - s, (m - s) ** 2), found, shift)
            elif statistic == "square":
                found = jax.tree.map(jnp.square, found)
            return jnp.zeros((), jnp.result_type(*jax.tree.leaves(found))), found

        def finish(mean):
            if statistic != "variance":
                return mean
            return jax.tree.map(lambda _, pair: jnp.maximum(pair[1] - pair[0] ** 2, 0), shift, mean)

        def as_given(found):
            return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), found, dtypes)

        size = batch_size or (1 if jax.default_backend() == "cpu" else None)
        how: dict[str, Any] = {"n_samples": n_samples, "std": std, "relative": relative, "batch_size": size}
        if standard_error is None:
            _, mean = noise.mean_over_noise(lambda x: jnp.zeros(()), f, image, key, mesh=mesh, **how)
            return as_given(finish(mean))
        if mesh is not None:
            raise ValueError("standard_error grows the samples on one device: give it or mesh, not both")
        found = grown(lambda x: jnp.zeros(()), f, finish, image, key, standard_error=standard_error, **how)
        return found._replace(map=as_given(found.map))

    name = getattr(getattr(method, "func", method), "__name__", "a method")
    averaged.__name__ = f"average_maps({name})"
    averaged.__doc__ = f"The {statistic} over noise of the maps of {name}; see `jaxcam.average_maps`."
    # What a results folder records of this function.
    averaged.made_by = functools.partial(average_maps, method, statistic=statistic)  # type: ignore[attr-defined]
    return checked(several=True)(averaged)
