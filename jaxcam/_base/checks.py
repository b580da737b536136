"""What bad input gets: one line with the value, what is wanted, and the choices.

What shapes tell is raised while tracing, in the rooms that read the shapes. Here is what only values tell, for calls
outside jit; a traced value passes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

FUNCTIONS = {
    "score": "jaxcam.scores.logit",
    "select": "jaxcam.select(filters=[3, 7])",
    "weigh": "jaxcam.weights.xgrad_cam",
}


def checked_image(image: Any) -> jax.Array:
    """The image as an array; a TypeError or ValueError where it is not floats, is empty, or is not finite."""
    given, image = image, jnp.asarray(image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"image is {image.dtype}: floats in the model's range are wanted, image / 255 for 0..1")
    if image.size == 0:
        raise ValueError(f"image has shape {image.shape}: it has no elements")
    if not isinstance(given, jax.core.Tracer) and getattr(given, "is_fully_addressable", True):
        # By NumPy: under a jit that closes over the image, JAX's answer would be traced.
        strange = np.count_nonzero(~np.isfinite(np.asarray(given, image.dtype)))
        if strange:
            raise ValueError(f"image has {strange} values that are NaN or infinite")
    return image


def check_noise(n_samples: Any, std: Any, key: Any) -> None:
    """A TypeError or ValueError where the noise cannot be drawn."""
    check_count("n_samples", n_samples, at_least=0)
    if not isinstance(std, jax.core.Tracer):
        if std is None or isinstance(std, str) or np.ndim(std) != 0:
            raise TypeError(f"std is {std!r}: one number is wanted; use jax.vmap for several")
        if not 0 <= float(std) <= float(jnp.finfo(jnp.float32).max):
            raise ValueError(f"std is {std}: at least 0 and finite is wanted")
    if n_samples > 0 and key is None:
        raise ValueError(f"n_samples is {n_samples}, so a key is needed: jax.random.key(0)")
    typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if n_samples > 0 and not typed:
        raise TypeError(f"key is {key!r}: a jax.random.key is wanted, jax.random.key(0) for one")


def check_functions(options: dict[str, Any]) -> None:
    """A TypeError where score, select or weigh is no function."""
    for name, wanted in FUNCTIONS.items():
        value = options.get(name)
        if value is not None and not callable(value):
            raise TypeError(f"{name} is {value!r}: a function is wanted, such as {wanted}")


def check_standard_error(standard_error: Any, n_samples: Any) -> None:
    """A TypeError or ValueError where it is no bound, or there are too few samples to grow."""
    if isinstance(standard_error, bool) or not isinstance(standard_error, int | float | np.floating):
        raise TypeError(f"standard_error is {standard_error!r}: a number is wanted, a share of the map's maximum")
    if not standard_error >= 0:
        raise ValueError(f"standard_error is {standard_error}: a share of the map's maximum, at least 0, is wanted")
    if n_samples < 16:
        raise ValueError(f"n_samples is {n_samples}: standard_error= grows the samples up to it, at least 16")


def check_count(name: str, value: Any, *, at_least: int) -> None:
    """A ValueError where an option is not an integer, or too small."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is traced: it has to be static, as in jax.jit(functools.partial(method, {name}=5))")
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise ValueError(f"{name} is {value!r}: an integer of at least {at_least} is wanted")


def shapes(outputs: Any) -> str:
    """A pytree of shapes as a reader writes it."""
    return str(jax.tree.map(lambda leaf: list(leaf.shape), outputs))
