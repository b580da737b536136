"""The targets of many images: one for all, or an own one for each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.targets import is_integer, with_static_leaves
from jaxcam.formulas import scores
from jaxcam.runtime._fingerprint import content_digest, describe


class Targets(NamedTuple):
    """The targets of some images.

    Attributes:
      shared: the target of all images, if they have none of their own.
      own: the target of each image, or None.
    """

    shared: Any = None
    own: Sequence[Any] | None = None

    def of_image(self, number: int) -> Any:
        """The target of an image."""
        return self.shared if self.own is None else self.own[number]

    def as_json(self) -> Any:
        """What a folder records of them: None, one class, or a digest."""
        targets = [self.shared] if self.own is None else list(self.own)
        if self.own is None and self.shared is None:
            return None
        if targets and all(map(is_integer, targets)):
            classes = [int(target) for target in targets]
            if len(set(classes)) == 1:
                return classes[0]
            return content_digest(np.clip(classes, -1, np.iinfo(np.int32).max).astype(np.int32))
        digest = content_digest(*map(target_digest, targets))
        return [digest] if self.own is None else digest  # text stands for targets that differ from image to image


def checked_targets(target: Any, targets: Any, count: int, score: Any = None) -> Targets:
    """The targets of `count` images from the arguments `target`, one for all, and `targets`, one for each.

    Args:
      target: any pytree; None if it is not given.
      targets: None; a sequence with a target for each image; or a pytree of arrays `[count ...]`. One integer is a
        class for all images, as in earlier versions.
      count: the number of images.
      score: the score that gets the targets; None if it is not known.

    Raises:
      TypeError, ValueError: both are given; another number of targets; a score of classes, and targets that are none.

    Example:
      >>> checked_targets(None, {"box": np.arange(8).reshape(2, 4)}, 2).of_image(1)["box"].tolist()
      [4, 5, 6, 7]
    """
    if target is not None and targets is not None:
        raise TypeError("expected target=, one for all images, or targets=, one for each of them, got both")
    if targets is None:
        given = Targets(target)
    elif is_integer(targets):
        given = Targets(targets)
    else:
        given = Targets(own=_own_targets(targets, count))
    if scores.takes_class(score):
        for own in [given.shared] if given.own is None else given.own:
            if own is not None and not is_integer(own):
                raise TypeError(
                    "expected targets that are None, one class or one for each image, got "
                    f"{getattr(own, 'dtype', None) or repr(own)}; for others give the method a score="
                )
    return given


def _own_targets(targets: Any, count: int) -> Sequence[Any]:
    """The target of each image."""
    if isinstance(targets, str | bytes | float | complex):
        raise TypeError(f"expected a sequence of targets, one for each image, got {targets!r}: target= is one for all")
    is_tuple = type(targets) is tuple
    if isinstance(targets, Sequence) and not hasattr(targets, "_fields"):  # a named tuple is a pytree of arrays
        could_be_stacked = is_tuple and _is_stacked(targets, count)
        if len(targets) == count and could_be_stacked:
            raise ValueError(
                f"expected targets that say which axis is that of the {count} images, got a tuple of {count} arrays "
                f"[{count} ...]: a list has a target for each image, and a dict or named tuple has arrays of all"
            )
        if len(targets) == count:
            return targets
        if not could_be_stacked:
            raise ValueError(f"expected one target, or one for each of {count} images, got {len(targets)}")
    elif not isinstance(targets, jax.Array) and hasattr(targets, "__array__"):
        targets = np.asarray(targets)
    if not _is_stacked(targets, count):
        shapes = ", ".join(str(list(np.shape(leaf))) for leaf in jax.tree.leaves(targets)) or "no array"
        raise ValueError(f"expected one target, or one for each of {count} images, got shape {shapes}")
    on_host = jax.tree.map(np.asarray, targets)
    return [jax.tree.map(lambda leaf: leaf[i], on_host) for i in range(count)]  # noqa: B023


def _is_stacked(targets, count):
    leaves = jax.tree.leaves(targets)
    return bool(leaves) and all(hasattr(leaf, "shape") and leaf.shape[:1] == (count,) for leaf in leaves)


def target_as_arrays(target: Any) -> Any:
    """A target as a part of an example: NumPy arrays of JAX's types, and `StaticLeaf`s.

    Raises:
      ValueError: an integer does not fit JAX's type.

    Example:
      >>> target_as_arrays(("left", 0.5, 3))[1].dtype, target_as_arrays(3).dtype
      (dtype('float32'), dtype('int32'))
    """
    return jax.tree.map(_as_array, with_static_leaves(target))


def _as_array(leaf):
    array = np.asarray(leaf)
    converted = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    if jnp.issubdtype(array.dtype, jnp.integer) and not (converted == array).all():
        raise ValueError(f"expected a target whose integers fit {converted.dtype}, got {leaf!r}")
    return converted


def target_digest(target: Any) -> str:
    """A digest of a target of any kind: its structure, its arrays, and what else is in it."""
    leaves = jax.tree_util.tree_leaves_with_path(target, is_leaf=lambda leaf: leaf is None)
    return content_digest(*(part for path, leaf in leaves for part in (path, _content(leaf))))


def _content(leaf):
    return leaf if hasattr(leaf, "dtype") else str(describe(leaf))
