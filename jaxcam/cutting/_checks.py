"""TODO."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.checks import describe_shapes
from jaxcam.cutting._cut import Cut, Cuts, activations
from jaxcam.formulas import scores


def check_cut(cut: Any, *, several: bool = False) -> None:
    """A TypeError where a model stands in the place of a cut of it, or a cut at several layers in that of one."""
    if isinstance(cut, Cuts) and not several:
        raise TypeError(
            f"the cut is at several layers, {', '.join(cut.layers)}: one is wanted, jaxcam.cut(model, layer)"
        )
    if not isinstance(cut, Cut | Cuts):
        raise TypeError(f"{type(cut).__name__} is not a Cut: make one with jaxcam.cut(model, layer)")


# Jitted for its cache alone: shapes are traced once for each cut and image shape, not at every call.
_outputs = jax.jit(lambda cut, image: activations(cut, image)[1])


def check_target(cut: Cut, image: jax.Array, target: Any, score: Any = scores.logit) -> None:
    """A TypeError or ValueError where the target is no class of the outputs; others than `[classes]` take anything."""
    outputs = _outputs.eval_shape(cut, image)
    vector = isinstance(outputs, jax.ShapeDtypeStruct) and outputs.ndim == 1
    if not vector and score in (scores.logit, scores.log_softmax):
        raise ValueError(
            f"expected outputs [classes] for one image without a batch axis, got {describe_shapes(outputs)} for an "
            f"image {list(image.shape)}; for others give a score=, such as lambda outputs, target: outputs[0][target]"
        )
    if target is None and not vector:
        raise ValueError(
            f"target=None needs outputs [classes]: this head gives {describe_shapes(outputs)}; give a target"
        )
    if target is None or not vector or isinstance(target, jax.core.Tracer):
        return
    if hasattr(target, "dtype") and jnp.issubdtype(target.dtype, jax.dtypes.prng_key):
        raise TypeError("target is a key: the order is method(cut, image, target, key)")
    if isinstance(target, str):
        raise TypeError(f"target is {target!r}: an integer is wanted; jaxcam.pretrained.find_class knows names")
    if jnp.ndim(target) != 0 or not jnp.issubdtype(jnp.result_type(target), jnp.integer):
        raise TypeError(f"target is {target!r}: one class, an integer, is wanted; use jax.vmap for several")
    if not 0 <= int(target) < outputs.shape[0]:
        raise ValueError(f"target {int(target)} is out of range: the model has {outputs.shape[0]} classes, from 0")


def chosen(outputs: Any, target: Any) -> tuple[Any, Any]:
    """The target as an index, the largest output's for None, and whether it is in range: traced, that cannot raise."""
    if target is None:
        return outputs.argmax(), True
    if getattr(outputs, "ndim", None) != 1:
        return target, True
    target = jnp.asarray(target).astype(jnp.int32)  # a uint8 would wrap against 256 classes and more
    return target, (target >= 0) & (target < outputs.shape[0])


def check_map(layer: str | None, A: jax.Array) -> None:
    """A ValueError where an activation has no spatial axes."""
    if A.ndim < 2:
        raise ValueError(
            f"{layer or 'this cut'!r} gives {list(A.shape)}: a map needs at least one spatial axis, [*spatial k]"
        )
