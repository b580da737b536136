"""Words and their numbers: a sentence as tokens, and tokens as a sentence."""

import difflib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

PADDING = -1


def tokens_of(words: Sequence[str], vocabulary: Sequence[str], *, length: int, subject: str) -> jax.Array:
    """The numbers of the words, `[length]` int32, with -1 behind them.

    Args:
      words: of one sentence.
      vocabulary: all words.
      length: the most words of a sentence.
      subject: what the words are, for messages: "caption" or "question".

    Raises:
      ValueError: no word, an unknown word, or more than `length` words.

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
    if len(words) > length:
        raise ValueError(f"expected a {subject} of at most {length} words, got {len(words)}")
    numbers = np.full(length, PADDING, np.int32)
    numbers[: len(words)] = [vocabulary.index(word) for word in words]
    return jnp.asarray(numbers)


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
