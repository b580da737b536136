"""Checks of the outputs and the target of a score, of arrays or, where they are traced, of their shapes."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

ScoreT = TypeVar("ScoreT", bound=Callable[..., jax.Array])
# What `jaxcam.scores.box` takes as the part of a box, by name or by its number.
BOX_PARTS = ("score", "row0", "column0", "row1", "column1")


def checked(check: Callable[[Any, Any], None]) -> Callable[[ScoreT], ScoreT]:
    """A decorator: the score checks its outputs and its target first, of traced arrays their shapes."""

    def decorate(score):
        @functools.wraps(score)
        def checked_score(outputs, target, **options):
            check(outputs, target)
            return score(outputs, target, **options)

        checked_score.check = check  # type: ignore[attr-defined]
        return checked_score

    return decorate


def check_tokens(outputs: Any, tokens: Any) -> None:
    """The outputs are logits `[t vocab]`, and the tokens integers `[t]` below vocab, one of them no padding."""
    _check_rank("logits [t vocab]", outputs, 2)
    check_integers("tokens", tokens, outputs.shape[:1])
    values = _values(tokens)
    if values is None:
        return
    vocabulary = outputs.shape[1]
    wrong = values[(values < -1) | (values >= vocabulary)]
    if wrong.size:
        raise ValueError(
            f"expected tokens below {vocabulary}, the size of the vocabulary, and -1 for padding, got {wrong[0]}"
        )
    if not (values >= 0).any():
        raise ValueError("expected at least one token, got none: all are -1, which is padding")


def check_class_and_mask(outputs: Any, target: Any) -> None:
    """The outputs are `[*spatial classes]`, and the target a class and a mask `[*spatial]` that is not empty."""
    if len(outputs.shape) < 2:
        raise ValueError(f"expected outputs [*spatial classes], got shape {tuple(outputs.shape)}")
    number, mask = _pair("(class, mask)", target)
    _check_index("class", number, outputs.shape[-1])
    if jnp.shape(mask) != outputs.shape[:-1]:
        raise ValueError(f"expected a mask of the outputs' size {tuple(outputs.shape[:-1])}, got {jnp.shape(mask)}")
    values = _values(mask)
    if values is not None and not values.any():
        raise ValueError("expected a mask of at least one location, got an empty one")


def check_box(outputs: Any, target: Any) -> None:
    """The outputs are scores `[n]` and boxes `[n 4]`, and the target a box and a part of it."""
    box_scores, boxes = scores_and_boxes(outputs)
    if len(box_scores.shape) != 1 or tuple(boxes.shape) != (box_scores.shape[0], 4):
        raise ValueError(f"expected scores [n] and boxes [n 4], got {tuple(box_scores.shape)} and {tuple(boxes.shape)}")
    number, part = _pair("(box, part)", target)
    _check_index("box", number, box_scores.shape[0])
    if isinstance(part, str) and part not in BOX_PARTS:
        raise ValueError(f"part is {part!r}: choose one of {', '.join(BOX_PARTS)}")
    if not isinstance(part, str):
        _check_index("part", part, len(BOX_PARTS))


def scores_and_boxes(outputs: Any) -> tuple[Any, Any]:
    """The scores and the boxes of a detector's outputs."""
    if isinstance(outputs, dict) and {"scores", "boxes"} <= outputs.keys():
        return outputs["scores"], outputs["boxes"]
    if hasattr(outputs, "scores") and hasattr(outputs, "boxes"):
        return outputs.scores, outputs.boxes
    if isinstance(outputs, tuple | list) and len(outputs) == 2:
        return outputs[0], outputs[1]
    raise ValueError(f"expected scores [n] and boxes [n 4] of a detector, got {type(outputs).__name__}")


def check_reference(outputs: Any, reference: Any) -> None:
    """The outputs are an embedding `[d]`, and the reference another one that is not zero."""
    _check_rank("an embedding [d]", outputs, 1)
    if jnp.shape(reference) != outputs.shape:
        raise ValueError(f"expected a reference of shape {tuple(outputs.shape)}, got {jnp.shape(reference)}")
    values = _values(reference)
    if values is not None and not np.any(values):
        raise ValueError("expected a reference that is not zero: a zero vector has no direction")


def check_contrast(outputs: Any, target: Any) -> None:
    """The outputs are `[classes]`, and the target a class and others `[m]`."""
    _check_rank("outputs [classes]", outputs, 1)
    number, others = _pair("(class, other classes)", target)
    _check_index("class", number, outputs.shape[0])
    if len(jnp.shape(others)) != 1 or not jnp.size(others):
        raise ValueError(f"expected other classes [m], at least one, got shape {jnp.shape(others)}")
    values = _values(others)
    for other in () if values is None else values:
        _check_index("class", other, outputs.shape[0])


def check_regression(outputs: Any, index: Any) -> None:
    """The outputs are `[n]`, and the index is one of them."""
    _check_rank("outputs [n]", outputs, 1)
    _check_index("output", index, outputs.shape[0])


def _values(array: Any) -> np.ndarray | None:
    """The values of an array, integers in their widest type; None if it is traced."""
    if isinstance(array, jax.core.Tracer):
        return None
    values = np.asarray(array)
    return values.astype(np.int64) if np.issubdtype(values.dtype, np.integer) else values


def _pair(what: str, target: Any) -> tuple[Any, Any]:
    if not isinstance(target, tuple | list) or len(target) != 2:
        raise ValueError(f"expected a pair {what} for target, got {target!r}")
    return target[0], target[1]


def _check_rank(what: str, outputs: Any, rank: int) -> None:
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != rank:
        got = type(outputs).__name__ if shape is None else f"shape {tuple(shape)}"
        raise ValueError(f"expected {what}, got {got}")


def checked_weights(weights: Any, shape: tuple[int, ...]) -> jax.Array:
    """The weights of tokens as an array, one for each."""
    if np.shape(weights) != shape:
        raise ValueError(f"expected weights of shape {shape}, one for each token, got {np.shape(weights)}")
    return jnp.asarray(weights)


def check_integers(what: str, values: Any, shape: tuple[int, ...]) -> None:
    """The values are an array of integers of this shape."""
    if not hasattr(values, "shape") or tuple(values.shape) != tuple(shape):
        got = tuple(values.shape) if hasattr(values, "shape") else repr(values)
        raise ValueError(f"expected {what} of shape {tuple(shape)}, got {got}")
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise ValueError(f"expected {what} that are integers, got {values.dtype}")


def _check_index(what: str, index: Any, count: int) -> None:
    is_number = not isinstance(index, str) and jnp.shape(index) == ()
    if not is_number or not jnp.issubdtype(jnp.result_type(index), jnp.integer):
        raise ValueError(f"expected one integer for the {what}, got {index!r}")
    value = _values(index)
    if value is not None and not 0 <= value < count:
        raise ValueError(f"no {what} {value}: there are {count}, from 0")
