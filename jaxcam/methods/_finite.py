"""A map that is not finite is an error that says why. Under jit, vmap and grad it is NaN, as values are not known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cutting import Cut, Cuts, activations


def check_finite(result: Any, cut: Cut | Cuts, image: jax.Array, method_name: str, undefined: str = "") -> None:
    """Raises a ValueError if a map has NaN or infinity. A traced map is not checked.

    Args:
      result: what a method returns, any pytree.
      cut: what the method was given.
      image: what the method was given.
      method_name: for the message.
      undefined: the reason if the parameters, the activations and the outputs are finite; defaults to an overflow.

    Example:
      >>> cut = Cut(jnp.float32(1), lambda params, x: x * params, lambda params, A, x: 1e30 * A.sum((0, 1)), "product")
      >>> image = jnp.full([2, 2, 3], 1e30)
      >>> check_finite(jnp.full([2, 2], jnp.nan), cut, image, "grad_cam")
      Traceback (most recent call last):
        ...
      ValueError: the map of grad_cam is not finite: the model's outputs are not, for an image with values up to 1e+30
    """
    strange = _strange(result)
    if not strange:
        return
    count = sum(leaf.size for leaf in jax.tree.leaves(result) if hasattr(leaf, "size"))
    reason = _reason(cut, image, undefined, f"{strange} of {count}")
    raise ValueError(f"the map of {method_name} is not finite: {reason}")


def _reason(cut, image, undefined, share):
    if _strange(cut.params):
        return f"the parameters of the cut have {_strange(cut.params)} values that are NaN or infinite"
    by_layer, outputs = activations(cut, image)
    top = f"for an image with values up to {float(jnp.abs(image).max()):.3g}"
    for layer, A in by_layer.items():
        if _strange(A):
            return f"the activation{f' at {layer!r}' if layer else ''} is not, {top}"
    if _strange(outputs):
        return f"the model's outputs are not, {top}"
    return undefined or f"its derivatives or weights overflow, {top}: {share} values are NaN or infinite"


def _strange(tree):
    """How many values of a pytree are NaN or infinite; 0 if one of its arrays is traced or on another machine."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array | np.ndarray)]
    if any(isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True) for array in arrays):
        return 0
    floats = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.inexact)]
    return sum(int(np.count_nonzero(~np.isfinite(np.asarray(array)))) for array in floats)
