"""What the target of a call means: a class of outputs `[classes]`, or whatever else the score takes.

A score gets the target as it was given. Two targets are looked at: None, which is the class of the largest output, and
one integer, which is checked against the number of classes because JAX clamps an index out of range. Both only for
outputs `[classes]`; for other outputs every target is the score's business alone. A score of classes, see
`jaxcam.scores.of_classes`, takes no other target than these two.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.checks import describe_shapes, is_key
from jaxcam._base.targets import is_integer
from jaxcam._base.types import Score, Target
from jaxcam.cutting._cut import Cut, activations
from jaxcam.formulas import scores

# Jitted for its cache alone: shapes are traced once for each cut and image shape, not at every call.
_outputs = jax.jit(lambda cut, image: activations(cut, image)[1])


def check_target(
    cut: Cut, image: jax.Array, target: Target, score: Score | None = None, *, needs_class: bool = False
) -> None:
    """Raises a TypeError or ValueError if the score cannot take the target.

    The value of a traced target is not checked; `resolve_target` says whether it is in range.

    Args:
      cut: a `Cut`, or `Cuts`.
      image: one example.
      target: as it was given.
      score: the score that gets the target; None if it is not known.
      needs_class: refuse None for outputs `[classes]`, because the largest output of a changed image is another one.
    """
    outputs = _outputs.eval_shape(cut, image)
    of_classes = scores.takes_class(score)
    if of_classes and not _has_classes(outputs):
        raise ValueError(
            f"expected outputs [classes] for one image without a batch axis, got {describe_shapes(outputs)} for an "
            f"image {list(image.shape)}; for others give a score=, such as lambda outputs, target: outputs[0][target]"
        )
    check = scores.check_of(score)
    if check is not None and not (target is None and _has_classes(outputs)):
        check(outputs, target)
    if not _has_classes(outputs):
        return
    if target is None:
        if needs_class:
            raise TypeError("expected a target, got None: give the class of the whole image, for all maps of it")
        return
    if not is_integer(target):
        if of_classes:
            _refuse_as_class(target)
        return
    if not isinstance(target, jax.core.Tracer) and not 0 <= int(target) < outputs.shape[0]:
        others = "" if of_classes else "; an integer that is no class goes to the score in a tuple"
        raise ValueError(
            f"target {int(target)} is out of range: the model has {outputs.shape[0]} classes, from 0{others}"
        )


def canonical_target(cut: Cut, image: jax.Array, target: Target) -> Target:
    """A class that is not traced as int32, so that no program is compiled for each type of integer; others as they are.

    Args:
      cut: a `Cut`, or `Cuts`.
      image: one example.
      target: as it was given, in range if it is a class.
    """
    is_class = not isinstance(target, jax.core.Tracer) and is_integer(target)
    return np.int32(target) if is_class and _has_classes(_outputs.eval_shape(cut, image)) else target


def _has_classes(outputs):
    return isinstance(outputs, jax.Array | np.ndarray | jax.ShapeDtypeStruct) and outputs.ndim == 1


def _refuse_as_class(target):
    if is_key(target):
        raise TypeError("target is a key: the order is method(cut, image, target, key)")
    if isinstance(target, str):
        raise TypeError(f"expected an integer for target, got {target!r}: jaxcam.pretrained.find_class knows names")
    raise TypeError(
        f"expected one class, an integer, for target, got {target!r}: use jax.vmap for several, and score= for a "
        "target of another kind"
    )


class ResolvedTarget(NamedTuple):
    """A target that a score can take.

    Attributes:
      target: the index of a class, int32; or what the user gave, if it is no class.
      in_range: whether there is such a class. A traced target out of range cannot raise: its map is NaN.
    """

    target: Any
    in_range: jax.Array | bool


def resolve_target(outputs: Any, target: Target) -> ResolvedTarget:
    """What the score gets as its target, and whether it is in range.

    For outputs `[classes]`, None is the index of the largest output, and an integer is an index. Every other target is
    returned as it is.

    Example:
      >>> logits = jnp.array([0.5, 2.0, 1.0])
      >>> target, in_range = resolve_target(logits, None)
      >>> int(target), in_range
      (1, True)
      >>> bool(resolve_target(logits, 3).in_range)
      False
      >>> resolve_target(logits, 0.7)
      ResolvedTarget(target=0.7, in_range=True)
    """
    if not _has_classes(outputs):
        return ResolvedTarget(target, True)
    if target is None:
        return ResolvedTarget(outputs.argmax(), True)
    if not is_integer(target):
        return ResolvedTarget(target, True)
    index = jnp.asarray(target)
    if index.dtype.itemsize < 4:
        index = index.astype(jnp.int32)  # a uint8 would wrap against 256 classes and more
    # Compared before a type of 64 bits is made narrower, which would wrap too.
    return ResolvedTarget(index.astype(jnp.int32), (index >= 0) & (index < outputs.shape[0]))


def means_class(outputs: Any, target: Target) -> bool:
    """Whether a target means one of the outputs, arrays or their shapes.

    Example:
      >>> [means_class(jnp.ones(3), target) for target in (None, 1, 1.0)], means_class({"logits": jnp.ones(3)}, 1)
      ([True, True, False], False)
    """
    return _has_classes(outputs) and (target is None or is_integer(target))


def class_or_none(outputs: Any, target: Target) -> Any:
    """The index of the class that a target means, not checked; None if it means no class.

    Example:
      >>> class_or_none(jnp.array([0.5, 2.0]), 0.7) is None, int(class_or_none(jnp.array([0.5, 2.0]), None))
      (True, 1)
    """
    return resolve_target(outputs, target).target if means_class(outputs, target) else None


def score_or_nan(score: Score, outputs: Any, target: Target) -> jax.Array:
    """The score of a target as it was given; NaN if the target is a class out of range.

    Example:
      >>> outputs = jnp.array([0.5, 2.0, 1.0])
      >>> [float(score_or_nan(scores.logit, outputs, target)) for target in (None, 2, 3)]
      [2.0, 1.0, nan]
    """
    target, in_range = resolve_target(outputs, target)
    u = score(outputs, target)
    return u if in_range is True else jnp.where(in_range, u, jnp.nan)
