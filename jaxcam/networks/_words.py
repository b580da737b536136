"""Words and their numbers: a sentence as tokens, and tokens as a sentence."""

import difflib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

PADDING = -1


def tokens_of(
    words: Sequence[str], vocabulary: Sequence[str], *, length: int, subject: str, end: str | None = None
) -> jax.Array:
    """The numbers of the words, `[length]` int32, with -1 behind them.

    Args:
      words: of one sentence.
      vocabulary: all words.
      length: the most words of a sentence, with its end.
      subject: what the words are, for messages: "caption" or "question".
      end: a word that is added.

    Raises:
      ValueError: no word, an unknown word, or too many.

    Example:
      >>> tokens_of(["two", "threes"], ("a", "threes", "two"), length=4, subject="caption").tolist()
      [2, 1, -1, -1]
    """
    if not words:
        raise ValueError(f"expected a {subject} of at least one word, got none")
    for word in words:
        if word not in vocabulary:
            near = difflib.get_close_matches(word, vocabulary, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"unknown word {word!r} in the {subject}: {hint}the network knows {', '.join(sorted(vocabulary))}"
            )
    most = length if end is None else length - 1
    if len(words) > most:
        raise ValueError(f"expected a {subject} of at most {most} words, got {len(words)}")
    words = words if end is None else [*words, end]
    numbers = np.full(length, PADDING, np.int32)
    numbers[: len(words)] = [vocabulary.index(word) for word in words]
    return jnp.asarray(numbers)


def check_images_and_tokens(images: Any, tokens: Any, image_shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless the images are `[n *image_shape]` and the tokens integers `[n t]`."""
    is_tokens = hasattr(tokens, "shape") and len(tokens.shape) == 2 and jnp.issubdtype(tokens.dtype, jnp.integer)
    if not is_tokens:
        got = f"{tokens.dtype} {list(tokens.shape)}" if hasattr(tokens, "shape") else repr(tokens)
        raise ValueError(f"expected tokens [n t], integers, [t] for one image of a cut, got {got}")
    if tuple(images.shape[1:]) != image_shape:
        raise ValueError(f"expected images [n {' '.join(map(str, image_shape))}], got {list(images.shape)}")


def embeddings_of(embed: nnx.Embed, tokens: jax.Array, count: int) -> jax.Array:
    """The embeddings of tokens `[n t]`: any for padding, which is not read, and NaN for none of the `count` words.

    Example:
      >>> values = embeddings_of(nnx.Embed(5, 2, rngs=nnx.Rngs(0)), jnp.array([[3, -1, -7, 4]]), 4)
      >>> jnp.isnan(values).all(-1).tolist()
      [[False, False, True, True]]
    """
    tokens = tokens.astype(jnp.int32)
    is_known = (tokens >= PADDING) & (tokens < count)
    return jnp.where(is_known[..., None], embed(jnp.where(is_known, jnp.maximum(tokens, 0), 0)), jnp.nan)


def words_of(tokens: jax.Array, vocabulary: Sequence[str]) -> list[str]:
    """The words of tokens, without padding.

    Raises:
      ValueError: a number that no word has.

    Example:
      >>> words_of(jnp.array([2, 1, -1]), ("a", "threes", "two"))
      ['two', 'threes']
    """
    numbers = np.asarray(tokens)
    if numbers.max(initial=PADDING) >= len(vocabulary) or numbers.min(initial=PADDING) < PADDING:
        raise ValueError(f"expected tokens below {len(vocabulary)}, and -1 for padding, got {numbers.tolist()}")
    return [vocabulary[number] for number in numbers if number != PADDING]
