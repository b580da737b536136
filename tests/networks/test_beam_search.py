"""Beam search beside all sequences, written out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.networks import beam_search

VOCABULARY, LENGTH, END, START = 3, 3, 0, 3
# The log-probabilities of the next token after the last two, at each place; rows 3 are for the start.
TABLE = np.log(np.random.default_rng(5).dirichlet(np.ones(VOCABULARY), size=(LENGTH, VOCABULARY + 1, VOCABULARY + 1)))
FIRST_STATE = (jnp.array(0), jnp.array(START))


def step(state, token):
    place, before = state
    return (place + 1, token), jnp.asarray(TABLE, jnp.float32)[place, before, token]


def all_sequences():
    """Every sequence that ends with the end token, or is cut off, with its log-probability."""
    scored = {}
    for words in itertools.product(range(VOCABULARY), repeat=LENGTH):
        kept = words[: words.index(END) + 1] if END in words else words
        triples = zip((START, START, *kept), (START, *kept), kept, strict=False)
        scored[kept] = sum(TABLE[place, *triple] for place, triple in enumerate(triples))
    return sorted(scored.items(), key=lambda item: -item[1])


def test_as_many_beams_as_sequences_find_the_best_ones():
    tokens, log_probs = beam_search(step, FIRST_STATE, start=START, end=END, beams=27, length=LENGTH)
    expected = all_sequences()
    for row, log_prob, (words, value) in zip(tokens, log_probs, expected, strict=False):
        assert row.tolist() == [*words, *[-1] * (LENGTH - len(words))]
        assert log_prob == pytest.approx(value, abs=1e-5)


def test_one_beam_takes_the_most_probable_token_every_time():
    tokens, _ = jax.jit(lambda: beam_search(step, FIRST_STATE, start=START, end=END, beams=1, length=LENGTH))()
    before, last, greedy = START, START, []
    for place in range(LENGTH):
        if END not in greedy:
            before, last = last, int(TABLE[place, before, last].argmax())
            greedy.append(last)
    assert tokens[0].tolist() == [*greedy, *[-1] * (LENGTH - len(greedy))]


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"length": 0}])
def test_a_search_without_a_sequence_is_refused(wrong):
    with pytest.raises(ValueError, match="of at least 1, got 0"):
        beam_search(step, FIRST_STATE, **{"start": START, "end": END, "length": LENGTH, **wrong})
