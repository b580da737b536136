"""A cut with other arrays in the place of those that the model takes besides the image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxcam.cutting._cut import Cut, Cuts

CutT = TypeVar("CutT", Cut, Cuts)


def with_inputs(cut: CutT, inputs: Sequence[Any] | Mapping[str, Any]) -> CutT:
    """The cut with other arrays in `inputs`; nothing is traced again, and `jax.vmap` goes over questions or captions.

    Under `jax.vmap` over the inputs, what does not read them is computed once: the features of the image.

    Args:
      cut: of `jaxcam.cut(model, layer, inputs=...)`.
      inputs: in the form that `jaxcam.cut` got, with arrays of the same shapes. What is no array stays as it is in the
        cut, and is left out here.

    Returns:
      The cut with these arrays among its `params`.

    Raises:
      TypeError: neither a tuple nor a dict, or floats in the place of integers, such as tokens.
      ValueError: the cut has no arrays among its inputs, or another number of them, or of other names or shapes.

    Example:
      >>> import jax, jax.numpy as jnp, jaxcam
      >>> from flax import nnx
      >>> class Net(nnx.Module):
      ...     image_shape = (8, 8, 3)
      ...     def __init__(self, rngs):
      ...         self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
      ...         self.classifier = nnx.Linear(4, 5, rngs=rngs)
      ...     def __call__(self, images, question):
      ...         return self.classifier(nnx.relu(self.conv(images)).mean((1, 2)) * question)
      >>> questions, image = jnp.ones([10, 4]), jnp.ones([8, 8, 3])
      >>> cut = jaxcam.cut(Net(nnx.Rngs(0)), "conv", after=nnx.relu, inputs=(questions[0],))
      >>> def map_of(question):
      ...     return jaxcam.grad_cam(jaxcam.cutting.with_inputs(cut, (question,)), image, 2)
      >>> jax.vmap(map_of)(questions).shape
      (10, 8, 8)
    """
    if not isinstance(inputs, Mapping | tuple | list):
        raise TypeError(f"expected a tuple (array,) or a dict of arguments for inputs, got {type(inputs).__name__}")
    if not isinstance(cut.params, dict) or set(cut.params) != {"model", "inputs"}:
        raise ValueError(
            "the cut has no arrays among its inputs: give jaxcam.cut(model, layer, inputs=...) those of one example"
        )
    old = cut.params["inputs"]
    given = jax.tree.map(jnp.asarray, dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs))
    if _names_and_shapes(given) != _names_and_shapes(old):
        expected, got = (", ".join(_names_and_shapes(tree)) or "none" for tree in (old, given))
        raise ValueError(f"expected inputs of shapes {expected}, got {got}")
    pairs = list(zip(jax.tree.leaves(given), jax.tree.leaves(old), strict=True))
    for array, own in pairs:
        if jnp.issubdtype(array.dtype, jnp.inexact) and not jnp.issubdtype(own.dtype, jnp.inexact):
            raise TypeError(f"expected inputs {list(array.shape)} of {own.dtype}, got {array.dtype}")
    arrays = jax.tree.unflatten(jax.tree.structure(old), [array.astype(own.dtype) for array, own in pairs])
    return dataclasses.replace(cut, params={"model": cut.params["model"], "inputs": arrays})


def _names_and_shapes(inputs: Any) -> list[str]:
    """The arrays in their order, by name and shape; by shape alone in a tuple, from which others may be left out.

    Example:
      >>> _names_and_shapes({"question": jnp.zeros(3), "train": None}), _names_and_shapes((None, jnp.zeros(3)))
      (['question (3,)'], ['(3,)'])
    """
    described = []
    for path, array in jax.tree.leaves_with_path(inputs):
        names = [str(getattr(key, "key", key)) for key in path if not isinstance(key, jax.tree_util.SequenceKey)]
        described.append(" ".join([*names, str(jnp.shape(array))]))
    return described
