"""Beam search: the most probable sequence of tokens that a decoder writes, of the sequences that it keeps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Sequences(NamedTuple):
    """Sequences from the most probable to the least.

    Attributes:
      tokens: `[beams length]`, -1 behind the end token.
      log_probs: `[beams]`, the sum over the tokens of each, the end token's included.
    """

    tokens: jax.Array
    log_probs: jax.Array


def beam_search(
    step: Callable[[Any, jax.Array], tuple[Any, jax.Array]],
    state: Any,
    *,
    start: int,
    end: int,
    beams: int = 3,
    length: int,
) -> Sequences:
    """The `beams` most probable sequences that a search keeps; one beam is the greedy choice. It can be jitted.

    Args:
      step: `(state, token) -> (next state, log-probabilities [vocab])`, of one sequence.
      state: before the first token, a pytree of arrays.
      start: the token that is read first, and written nowhere.
      end: the token behind which nothing is written.
      beams: how many sequences are kept at every step.
      length: the most tokens of a sequence, the end token included; a longer one is cut off without it.

    Raises:
      ValueError: `beams` or `length` below 1.

    Example:
      >>> def step(state, token):  # 0 ends; 1 and then 2 are likely
      ...     return state + 1, jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.2, 0.1, 0.7], [0.8, 0.1, 0.1]]))[state]
      >>> sequences = beam_search(step, jnp.array(0), start=0, end=0, length=3)
      >>> sequences.tokens[0].tolist(), round(float(jnp.exp(sequences.log_probs[0])), 3)
      ([1, 2, 0], 0.336)
    """
    for name, count in (("beams", beams), ("length", length)):
        if count < 1:
            raise ValueError(f"expected {name} of at least 1, got {count}")
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (beams, *jnp.shape(leaf))), state)

    def advance(carry, place):
        states, last, tokens, log_probs, has_ended = carry
        states, next_log_probs = jax.vmap(step)(states, last)
        vocabulary = next_log_probs.shape[-1]
        # A sequence that has ended has one continuation, which changes nothing.
        kept = jnp.full(vocabulary, -jnp.inf).at[end].set(0.0)
        totals = log_probs[:, None] + jnp.where(has_ended[:, None], kept, next_log_probs)
        log_probs, chosen = jax.lax.top_k(totals.reshape(-1), beams)
        parent, token = chosen // vocabulary, chosen % vocabulary
        ended_before = has_ended[parent]
        tokens = tokens[parent].at[:, place].set(jnp.where(ended_before, -1, token))
        states = jax.tree.map(lambda leaf: leaf[parent], states)
        return (states, token, tokens, log_probs, ended_before | (token == end)), None

    # All beams are equal at the first step, so that all but one are impossible.
    log_probs = jnp.full(beams, -jnp.inf).at[0].set(0.0)
    carry = (
        states,
        jnp.full(beams, start),
        jnp.full((beams, length), -1),
        log_probs,
        jnp.zeros(beams, bool),
    )
    (_, _, tokens, log_probs, _), _ = jax.lax.scan(advance, carry, jnp.arange(length))
    return Sequences(tokens, log_probs)
