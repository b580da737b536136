"""A long short-term memory, as one scan over the inputs, which compiles once however many there are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


class State(NamedTuple):
    """The hidden value and the memory of an LSTM, `[n width]` each."""

    hidden: jax.Array
    memory: jax.Array


class LSTM(nnx.Module):
    """Hochreiter and Schmidhuber's LSTM with a forget gate, from inputs of `features` numbers to `width`."""

    def __init__(self, features: int, width: int, *, rngs: nnx.Rngs):
        self.width = width
        self.of_input = nnx.Linear(features, 4 * width, rngs=rngs)
        self.of_hidden = nnx.Linear(width, 4 * width, use_bias=False, rngs=rngs)

    def start(self, count: int) -> State:
        """The state of `count` sequences before the first input."""
        return State(jnp.zeros((count, self.width)), jnp.zeros((count, self.width)))

    def step(self, state: State, x: jax.Array) -> State:
        """The next state, from inputs `[n features]`."""
        gates = self.of_input(x) + self.of_hidden(state.hidden)
        enter, forget, leave, value = jnp.split(gates, 4, axis=-1)
        memory = jax.nn.sigmoid(forget + 1) * state.memory + jax.nn.sigmoid(enter) * jnp.tanh(value)
        return State(jax.nn.sigmoid(leave) * jnp.tanh(memory), memory)

    def run(self, state: State, inputs: jax.Array, is_input: jax.Array | None = None) -> tuple[State, jax.Array]:
        """The state after inputs `[n t features]`, and the hidden values `[n t width]`.

        Args:
          state: before the first input.
          inputs: of each sequence.
          is_input: `[n t]`, bool: an input that is False leaves the state as it is; None for all of them.
        """
        read = jnp.ones(inputs.shape[:2], bool) if is_input is None else is_input

        def advance(state, step):
            x, reads = step
            after = self.step(state, x)
            state = State(*(jnp.where(reads[:, None], new, old) for new, old in zip(after, state, strict=True)))
            return state, state.hidden

        state, hidden = jax.lax.scan(advance, state, (inputs.swapaxes(0, 1), read.T))
        return state, hidden.swapaxes(0, 1)
