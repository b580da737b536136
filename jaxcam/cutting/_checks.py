"""Checks of a cut and a target, which methods and metrics make before they compute anything."""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._base.checks import describe_shapes, is_key
from jaxcam.cutting._cut import Cut, Cuts, activations
from jaxcam.formulas import scores


def check_cut(cut: Any, *, several: bool = False) -> None:
    """Raises a TypeError if `cut` is not a `Cut`, such as a model, or if it is `Cuts` and `several` is not set."""
    if isinstance(cut, Cuts) and not several:
        raise TypeError(
            f"expected a cut at one layer, jaxcam.cut(model, layer), got one at several: {', '.join(cut.layers)}"
        )
    if not isinstance(cut, Cut | Cuts):
        raise TypeError(f"{type(cut).__name__} is not a Cut: make one with jaxcam.cut(model, layer)")


# Jitted for its cache alone: shapes are traced once for each cut and image shape, not at every call.
_outputs = jax.jit(lambda cut, image: activations(cut, image)[1])


def check_target(cut: Cut, image: jax.Array, target: Any, score: Any = scores.logit) -> None:
    """Raises a TypeError or ValueError if `target` is not a class of the outputs.

    Only outputs `[classes]` have classes: for others any target is taken, but not None, and a score has to be given. A
    traced target is not checked; `resolve_target` says whether it is in range.
    """
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
    if is_key(target):
        raise TypeError("target is a key: the order is method(cut, image, target, key)")
    if isinstance(target, str):
        raise TypeError(f"expected an integer for target, got {target!r}: jaxcam.pretrained.find_class knows names")
    if jnp.ndim(target) != 0 or not jnp.issubdtype(jnp.result_type(target), jnp.integer):
        raise TypeError(f"expected one class, an integer, for target, got {target!r}: use jax.vmap for several")
    if not 0 <= int(target) < outputs.shape[0]:
        raise ValueError(f"target {int(target)} is out of range: the model has {outputs.shape[0]} classes, from 0")


class ResolvedTarget(NamedTuple):
    """A target that a score can take.

    Attributes:
      target: the index of a class; or what the user gave, for outputs that are not `[classes]`.
      in_range: whether there is such a class. A traced target out of range cannot raise: its map is NaN.
    """

    target: Any
    in_range: jax.Array | bool


def resolve_target(outputs: Any, target: Any) -> ResolvedTarget:
    """The target as an index, which is that of the largest output for None, and whether it is in range.

    Example:
      >>> logits = jnp.array([0.5, 2.0, 1.0])
      >>> target, in_range = resolve_target(logits, None)
      >>> int(target), in_range
      (1, True)
      >>> bool(resolve_target(logits, 3).in_range)
      False
    """
    if target is None:
        return ResolvedTarget(outputs.argmax(), True)
    if getattr(outputs, "ndim", None) != 1:
        return ResolvedTarget(target, True)
    target = jnp.asarray(target).astype(jnp.int32)  # a uint8 would wrap against 256 classes and more
    return ResolvedTarget(target, (target >= 0) & (target < outputs.shape[0]))


def check_spatial(layer: str | None, A: jax.Array) -> None:
    """Raises a ValueError if an activation has no spatial axes, so that it has no map."""
    if A.ndim < 2:
        raise ValueError(
            f"{layer or 'this cut'!r} gives {list(A.shape)}: a map needs at least one spatial axis, [*spatial k]"
        )


def layer_choices(layer: str, names: Sequence[str]) -> str:
    """What a message says about a layer that is not there: all names, or the nearest of many and the last."""
    names = list(dict.fromkeys(name.split("[")[0] for name in names))
    if len(names) <= 24:
        return f"choose one of {', '.join(names)}"
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0) + names[-1:]
    return f"choose one of {len(names)} that jaxcam.layers lists, such as {', '.join(dict.fromkeys(near))}"
