"""Checks of arguments that need no model: an image, a key, a count, the options of noise.

Shape errors are raised at trace time by the code that reads the shapes. These checks need concrete values, so they run
only outside `jit`; traced values are not checked.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.axes import channel_place

# The options that are functions, with an example of each for the message.
FUNCTIONS = {
    "score": "jaxcam.scores.logit",
    "select": "jaxcam.select(filters=[3, 7])",
    "weigh": "jaxcam.weights.xgrad_cam",
}


def checked_image(image: Any) -> jax.Array:
    """The image as an array.

    Raises:
      TypeError: the image is not floats.
      ValueError: the image is empty, or not finite.
    """
    given, image = image, jnp.asarray(image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"expected an image of floats in the model's range, got {image.dtype}: image / 255 gives 0..1")
    if image.size == 0:
        raise ValueError(f"image has shape {image.shape}: it has no elements")
    if not isinstance(given, jax.core.Tracer) and getattr(given, "is_fully_addressable", True):
        # By NumPy: under a jit that closes over the image, JAX's answer would be traced.
        strange = np.count_nonzero(~np.isfinite(np.asarray(given, image.dtype)))
        if strange:
            raise ValueError(f"image has {strange} values that are NaN or infinite")
    return image


def is_key(value: Any) -> bool:
    """Whether a value is a `jax.random.key`, or an array of them."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def check_key(key: Any) -> None:
    """Raises a TypeError if `key` is not a `jax.random.key`."""
    if not is_key(key):
        raise TypeError(f"expected a jax.random.key, such as jax.random.key(0), got key={key!r}")


def check_noise(n_samples: Any, std: Any, key: Any) -> None:
    """Raises a TypeError or ValueError if the noise cannot be drawn."""
    check_count("n_samples", n_samples, at_least=0)
    if not isinstance(std, jax.core.Tracer):
        if std is None or isinstance(std, str) or np.ndim(std) != 0:
            raise TypeError(f"expected one number for std, got {std!r}: use jax.vmap for several")
        if not 0 <= float(std) <= float(jnp.finfo(jnp.float32).max):
            raise ValueError(f"expected a finite std of at least 0, got {std}")
    if n_samples > 0 and key is None:
        raise ValueError(f"n_samples={n_samples} needs a key: jax.random.key(0)")
    if n_samples > 0:
        check_key(key)


def check_function(name: str, value: Any) -> None:
    """Raises a TypeError if the value of the option `name`, one of `FUNCTIONS`, is not a function."""
    if not callable(value):
        raise TypeError(f"expected a function for {name}, such as {FUNCTIONS[name]}, got {value!r}")


def check_functions(options: dict[str, Any]) -> None:
    """Raises a TypeError if `score`, `select` or `weigh` is given and is not a function."""
    for name in FUNCTIONS:
        if options.get(name) is not None:
            check_function(name, options[name])


def check_standard_error(standard_error: Any, n_samples: Any) -> None:
    """Raises a TypeError or ValueError if `standard_error` is not a bound, or `n_samples` allows no growth."""
    if isinstance(standard_error, bool) or not isinstance(standard_error, int | float | np.floating):
        raise TypeError(f"expected a number for standard_error, a share of the map's maximum, got {standard_error!r}")
    if not standard_error >= 0:
        raise ValueError(f"expected standard_error of at least 0, a share of the map's maximum, got {standard_error}")
    if n_samples < 16:
        raise ValueError(f"expected n_samples of at least 16 with standard_error=, got {n_samples}")


def check_count(name: str, value: Any, *, at_least: int) -> None:
    """Raises a ValueError if an option is not an integer of at least `at_least`."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is traced: it must be static, as in jax.jit(functools.partial(method, {name}=5))")
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise ValueError(f"expected an integer of at least {at_least} for {name}, got {value!r}")


def broadcast_baseline(baseline: Any, image: jax.Array, channel_axis: int | None = -1) -> jax.Array:
    """The baseline in the image's shape and type.

    Raises:
      ValueError: the baseline is not one number, one number for each channel, or an image.
    """
    array, place = jnp.asarray(baseline).astype(image.dtype), channel_place(image.ndim, channel_axis)
    channels = () if place is None else (image.shape[place],)
    if array.shape not in ((), channels, image.shape):
        choices = " or ".join(map(str, dict.fromkeys((channels or image.shape, image.shape))))
        raise ValueError(f"expected a baseline that is one number, {choices}, got shape {array.shape}")
    if array.shape == channels and place is not None:
        array = array.reshape([-1 if axis == place else 1 for axis in range(image.ndim)])
    return jnp.broadcast_to(array, image.shape)


def describe_shapes(tree: Any) -> str:
    """The shapes of a pytree's leaves by path, as text; the pytree is not rebuilt, because its class may check leaves.

    Example:
      >>> describe_shapes(jnp.ones([2, 3])), describe_shapes({"logits": jnp.ones(5), "boxes": [jnp.ones([9, 4])]})
      ('[2, 3]', "['boxes'][0]: [9, 4], ['logits']: [5]")
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    texts = [f"{jax.tree_util.keystr(path)}: {_shape_or_type(leaf)}".lstrip(": ") for path, leaf in leaves]
    return ", ".join(texts) or f"no arrays ({type(tree).__name__})"


def _shape_or_type(leaf):
    return list(leaf.shape) if hasattr(leaf, "shape") else type(leaf).__name__
