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
    "method": "jaxcam.grad_cam",
}


def checked_image(image: Any) -> jax.Array:
    """The image as an array.

    Raises:
      TypeError: the image is not floats.
      ValueError: the image is empty, one number, or not finite.
    """
    given, image = image, _as_jax_array(image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"expected an image of floats in the model's range, got {image.dtype}: image / 255 gives 0..1")
    if image.ndim == 0:
        raise ValueError("expected an image [*spatial c], got one number")
    if image.size == 0:
        raise ValueError(f"image has shape {image.shape}: it has no elements")
    if not isinstance(image, jax.core.Tracer) and getattr(given, "is_fully_addressable", True):
        # By NumPy: under a jit that closes over the image, JAX's answer would be traced.
        strange = np.count_nonzero(~np.isfinite(np.asarray(image)))
        if strange:
            raise ValueError(f"image has {strange} values that are NaN or infinite in {image.dtype}")
    return image


def _as_jax_array(image):
    """An array, or nested lists of numbers or arrays, as a JAX array."""
    if isinstance(image, jax.Array):
        return image
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(image)) and isinstance(image, list | tuple):
        return jnp.asarray(image)
    try:
        array = np.asarray(image)
    except (TypeError, ValueError):  # rows of several lengths
        array = np.empty((), object)
    if not is_numeric(array.dtype):
        kind = f"an array of {array.dtype}" if hasattr(image, "dtype") else f"a {type(image).__name__}"
        raise TypeError(f"expected an image, an array of floats [*spatial c], got {kind}")
    return jnp.asarray(_in_type_of_jax(array))


def _in_type_of_jax(array):
    """The array in the type that JAX gives it. JAX takes no long doubles and no other byte order than the machine's."""
    native = np.dtype(np.float64) if array.dtype == np.longdouble else array.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # float64 beyond float32 is infinite, which is refused
        return array.astype(jax.dtypes.canonicalize_dtype(native), copy=False)


def is_numeric(dtype: Any) -> bool:
    """Whether a type is one of numbers or bools, and not of text, objects or keys.

    Example:
      >>> [is_numeric(np.dtype(kind)) for kind in ("float32", ">f8", "bool", "U3", object)]
      [True, True, True, False, False]
    """
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.number))


def is_key(value: Any) -> bool:
    """Whether a value is a `jax.random.key`, or an array of them."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def one_line(value: Any, *, most: int = 80) -> str:
    """A value as messages show it: an array by its shape, others on one line and not too long.

    Example:
      >>> one_line(np.ones([2, 3])), one_line(list(range(100)), most=10)
      ('an array of shape (2, 3)', '[0, 1, 2, ...')
    """
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]}..."


def check_key(key: Any) -> None:
    """Raises a TypeError if `key` is not a `jax.random.key`."""
    if not is_key(key):
        raise TypeError(f"expected a jax.random.key, such as jax.random.key(0), got key={key!r}")
    if key.shape != ():
        raise TypeError(f"expected one key, got {list(key.shape)} keys: use jax.vmap for several")


def check_noise(n_samples: Any, std: Any, key: Any) -> None:
    """Raises a TypeError or ValueError if the noise cannot be drawn."""
    check_count("n_samples", n_samples, at_least=0)
    if not isinstance(std, jax.core.Tracer):
        if not is_real_number(std):
            raise TypeError(f"expected one number for std, got {std!r}: use jax.vmap for several")
        if not 0 <= float(std) <= float(jnp.finfo(jnp.float32).max):
            raise ValueError(f"expected a finite std of at least 0, got {std}")
    if n_samples > 0 and key is None:
        raise ValueError(f"n_samples={n_samples} needs a key: jax.random.key(0)")
    if n_samples > 0:
        check_key(key)


def is_real_number(value: Any) -> bool:
    """Whether a value is one real number, of Python, NumPy or JAX, and not traced."""
    dtype = np.result_type(value) if isinstance(value, int | float) else getattr(value, "dtype", None)
    is_real = dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
    return is_real and np.ndim(value) == 0


def check_numbers(name: str, value: Any) -> None:
    """Raises a TypeError or ValueError if the value of the option `name` is not real numbers, or not finite."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return
    array = None if isinstance(value, str | bytes | dict) else np.asarray(value)
    if array is None or not is_numeric(array.dtype) or jnp.issubdtype(array.dtype, np.complexfloating):
        raise TypeError(f"expected numbers for {name}, got {value!r}")
    if not np.isfinite(_in_type_of_jax(array)).all():
        raise ValueError(f"expected finite numbers for {name}, got {value!r}")


def check_bool(name: str, value: Any) -> None:
    """Raises a TypeError if the value of the option `name` is not True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"expected True or False for {name}, got {value!r}")


def check_name_of_choice(name: str, value: Any) -> None:
    """Raises a TypeError if the value of the option `name`, one of a few names, is not text."""
    if not isinstance(value, str):
        raise TypeError(f"expected a name for {name}, a string, got {value!r}")


def check_mesh(mesh: Any) -> None:
    """Raises a TypeError if `mesh` is not a `jax.sharding.Mesh`."""
    if not isinstance(mesh, jax.sharding.Mesh):
        raise TypeError(
            f"expected a jax.sharding.Mesh for mesh, such as jax.make_mesh((8,), ('samples',)), got {mesh!r}"
        )


def check_hash(name: str, value: Any) -> None:
    """Raises a TypeError if the value of the option `name`, for which a program is compiled, has no hash."""
    try:
        hash(value)
    except TypeError as error:
        kind = type(value).__name__
        raise TypeError(
            f"expected a value with a hash for {name}, for which programs are compiled, got a {kind}"
        ) from error


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
