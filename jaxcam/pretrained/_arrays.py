"""The parameters of a model as named arrays, and a model from them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Model = TypeVar("Model", bound=nnx.Module)


def from_arrays(build: Callable[[], Model], arrays: Mapping[str, np.ndarray]) -> Model:
    """The model that `build()` describes, with `arrays` for its parameters; nothing is initialised first.

    Args:
      build: a function without arguments that returns an `nnx.Module`, `jaxcam.vgg16` say; it is only traced.
      arrays: one for each parameter, named by its path: `block1_conv1/kernel`, `fc1/bias`. Kernels are `[3 3 in out]`
        for convolutions and `[in out]` for dense layers.

    Raises:
      ValueError: an array that is missing, not known, of another shape, or with values that are not finite.

    Example:
      >>> import functools, jaxcam, numpy
      >>> build = functools.partial(jaxcam.vgg_digits, classes=2)
      >>> arrays = jaxcam.pretrained.to_arrays(build())
      >>> model = jaxcam.pretrained.from_arrays(build, arrays)
      >>> arrays["fc1/bias"] = numpy.zeros(3)
      >>> jaxcam.pretrained.from_arrays(build, arrays)
      Traceback (most recent call last):
        ...
      ValueError: expected shape (128,) for fc1/bias, got (3,)
    """
    return with_arrays(nnx.eval_shape(build), arrays)


def with_arrays(model: Model, arrays: Mapping[str, np.ndarray]) -> Model:
    """The model with `arrays` in place of its parameters, which may be shapes; errors are those of `from_arrays`."""
    graphdef, state = nnx.split(model)
    expected, treedef = parameters_by_name(model), jax.tree.structure(state)
    for problem, names in (
        ("missing", set(expected) - set(arrays)),
        ("not in this model", set(arrays) - set(expected)),
    ):
        if names:
            raise ValueError(f"parameters {problem}: {', '.join(sorted(names))}; this model has {', '.join(expected)}")
    for name, leaf in expected.items():
        if arrays[name].shape != leaf.shape:
            raise ValueError(f"expected shape {leaf.shape} for {name}, got {arrays[name].shape}")
        if not np.isfinite(np.asarray(arrays[name]).astype(leaf.dtype, copy=False)).all():
            raise ValueError(f"{name} has values that are not finite")
    values = [jnp.asarray(arrays[name], leaf.dtype) for name, leaf in expected.items()]
    return nnx.merge(graphdef, jax.tree.unflatten(treedef, values))


def to_arrays(model: nnx.Module) -> dict[str, np.ndarray]:
    """The parameters of a model by their paths: what `from_arrays` takes and `numpy.savez` writes."""
    return {name: np.asarray(leaf) for name, leaf in parameters_by_name(model).items()}


def parameters_by_name(model: nnx.Module) -> dict[str, jax.Array]:
    """The parameters of a model, which may be shapes, by their paths, in the order of its state's leaves."""
    leaves, _ = jax.tree.flatten_with_path(nnx.state(model))
    return {_parameter_name(path): leaf for path, leaf in leaves}


def half_as_float32(array: np.ndarray) -> np.ndarray:
    """An array of float16 or bfloat16 as float32, and any other array as it is."""
    return array.astype(np.float32) if array.dtype == np.float16 or array.dtype.name == "bfloat16" else array


def _parameter_name(path) -> str:
    """A parameter's path in the model's state, joined by "/"."""
    return "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
