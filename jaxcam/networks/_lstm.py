"""A long short-term memory over sequences, as one scan, which compiles once however long they are.

The cell is Flax's. The scan is ours, because `nnx.RNN` carries the cell's parameters from step to step, through every
derivative, and reads padding in the middle of a sequence.
"""

import jax
import jax.numpy as jnp
from flax import nnx

# The memory and the hidden value, `[n width]` each, in the order of Flax.
Carry = tuple[jax.Array, jax.Array]


def lstm_cell(features: int, width: int, *, rngs: nnx.Rngs) -> nnx.OptimizedLSTMCell:
    """Flax's cell, from inputs of `features` numbers to `width`. Its forget gate has a bias of 1 before training.

    Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network architectures", ICML 2015, section
    2.2, recommend this bias.
    """

    def bias_init(key, shape, dtype=jnp.float32, out_sharding=None):
        del key, out_sharding
        return jnp.zeros(shape, dtype).at[width : 2 * width].set(1)

    return nnx.OptimizedLSTMCell(features, width, bias_init=bias_init, rngs=rngs)


def first_carry(cell: nnx.OptimizedLSTMCell, count: int) -> Carry:
    """The carry of `count` sequences before their first input."""
    zeros = jnp.zeros((count, cell.hidden_features))
    return zeros, zeros


def run_lstm(
    cell: nnx.OptimizedLSTMCell, carry: Carry, inputs: jax.Array, is_input: jax.Array | None = None
) -> tuple[Carry, jax.Array]:
    """The carry after inputs `[n t features]`, and the hidden values `[n t width]`.

    Args:
      cell: of `lstm_cell`.
      carry: before the first input.
      inputs: of each sequence.
      is_input: `[n t]`, bool: an input that is False leaves the carry as it is; None for all of them.
    """
    read = jnp.ones(inputs.shape[:2], bool) if is_input is None else is_input

    def advance(carry, step):
        x, reads = step
        after, _ = cell(carry, x)
        carry = jax.tree.map(lambda new, old: jnp.where(reads[:, None], new, old), after, carry)
        return carry, carry[1]

    carry, hidden = jax.lax.scan(advance, carry, (inputs.swapaxes(0, 1), read.T))
    return carry, hidden.swapaxes(0, 1)
