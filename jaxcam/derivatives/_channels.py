"""Means over space of gradients, for many cotangents at once: Grad-CAM's weights for many classes.

A mean over space is the derivative along a whole channel, all of its locations moved at once, so it needs no gradient
at single locations. That saves work in three ways, none of which changes a result:

- The first steps of a head often treat each channel by itself (relu, pooling, reshapes). One array is the tangent of
  all channels there, and no backward pass goes through these steps.
- If a dense layer follows, its tangent for a channel is a sum of rows of its weights. The sums are taken once.
- What follows is passed forward once for each channel, or backward once for each cotangent, whichever is less.

    >>> A, W = jnp.ones([2, 2, 3]), jnp.arange(6.0).reshape(3, 2)
    >>> channel_gradients(lambda A: A.mean((0, 1)) @ W, A, jnp.eye(2)).tolist()  # a quarter of W, transposed
    [[0.0, 0.5, 1.0], [0.25, 0.75, 1.25]]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import at_least_float32
from jaxcam.derivatives._forward_mode import has_custom_vjp_inside
from jaxcam.derivatives._program import BY_RULE_OF, Program, trace, variable
from jaxcam.derivatives._structure import find_seed, picks_weight_rows, size_of
from jaxcam.tracing import Step, evaluate, needed, typed_as

DIRECTIONS_AT_A_TIME = 512


def channel_gradients(
    f: Callable[[jax.Array], Any], A: jax.Array, cotangents: Any, *, batch_size: int | None = None
) -> jax.Array:
    """The mean over space of the gradient of <cotangent, f> in each channel of A, for n cotangents.

    It is a pure function and works under jit, vmap and grad.

    Args:
      f: from the activation `[*spatial k]` to a pytree of floats.
      A: the activation.
      cotangents: a pytree like f's outputs, `[n *output]` for each output.
      batch_size: channels or cotangents at a time, the memory knob; defaults to 512.

    Returns:
      `[n k]`, at least float32.

    Example:
      >>> channel_gradients(lambda A: {"sum": A.sum()}, jnp.ones([4, 2]), {"sum": jnp.array([1.0, -2.0])}).tolist()
      [[1.0, 1.0], [-2.0, -2.0]]
    """
    size = batch_size or DIRECTIONS_AT_A_TIME
    leaves = jax.tree.leaves(cotangents)
    program = trace(f, A)
    if has_custom_vjp_inside(program) or any(BY_RULE_OF in step.params for step in program.steps):
        # The program has the function inside a custom_vjp in the place of its rule.
        _, vjp_of_A = jax.vjp(lambda A: jax.tree.leaves(f(A)), A)
        return _map(lambda *c: at_least_float32(vjp_of_A(list(c))[0]).mean(range(A.ndim - 1)), leaves, size)
    outputs_of, start, tangents = _start_of_mixing(program, A)
    if A.shape[-1] >= leaves[0].shape[0]:
        _, vjp_of_start = jax.vjp(outputs_of, start)
        return _map(lambda *c: tangents.contract(vjp_of_start(list(c))[0]), leaves, size)
    _, tangents_of_outputs = jax.linearize(outputs_of, start)
    numbers = jnp.arange(A.shape[-1], dtype=jnp.int32)
    by_channel = _map(lambda k: tangents_of_outputs(tangents.of_channel(k)), [numbers], size)
    return functools.reduce(jnp.add, map(_inner_products, leaves, by_channel))


class _Diagonal(NamedTuple):
    """The tangents of a value whose elements belong to one channel each.

    Attributes:
      tangent: of all channels at once, of the value's shape.
      channel_of: the channel of each element, of the value's shape; -1 for none.
      channels: their number.
    """

    tangent: jax.Array
    channel_of: np.ndarray
    channels: int

    def of_channel(self, k: jax.Array) -> jax.Array:
        """The tangent along one channel."""
        return jnp.where(jnp.asarray(self.channel_of, jnp.int32) == k, self.tangent, 0)

    def contract(self, gradient: jax.Array) -> jax.Array:
        """The derivative along each channel, `[k]`, of what has this gradient in the value."""
        products = (at_least_float32(gradient) * at_least_float32(self.tangent)).ravel()
        layout = _layout(self.channel_of.ravel(), self.channels)
        if layout is not None:
            shape, summed = layout
            return products.reshape(shape).sum(summed)
        places = np.where(self.channel_of < 0, self.channels, self.channel_of).ravel()
        return jnp.zeros(self.channels, products.dtype).at[places].add(products, mode="drop")


class _Rows(NamedTuple):
    """The tangents of a value behind a dense layer: one for each channel, `[k *value]`."""

    rows: jax.Array

    def of_channel(self, k: jax.Array) -> jax.Array:
        """The tangent along one channel."""
        return self.rows[k]

    def contract(self, gradient: jax.Array) -> jax.Array:
        """The derivative along each channel, `[k]`, of what has this gradient in the value."""
        return _inner_products(gradient[None], self.rows)[0]


def _start_of_mixing(program: Program, A: jax.Array):
    """A value before which no step mixes channels but one dense layer, with its tangents; and the outputs from it."""
    (of_A,) = program.inputs
    values = evaluate(program.steps, {**program.constants, of_A: A})
    seed, channel_of = _last_unmixed(program, A.shape[-1])
    to_seed, _ = needed(program.steps, [seed])
    mean_direction = jnp.full_like(A, A.shape[-1] / A.size)
    _, tangent = jax.jvp(lambda A: evaluate(to_seed, {**values, of_A: A})[seed], (A,), (mean_direction,))
    dense = _dense_layer(program, seed, channel_of, A.shape[-1])
    start = seed if dense is None else dense.outputs[0]
    behind, _ = needed(program.steps, program.outputs, known=[start])

    def outputs_of(x):
        made = evaluate(behind, {**values, start: x})
        return [made[v] for v in program.outputs]

    if dense is None:
        tangents: _Diagonal | _Rows = _Diagonal(tangent, channel_of.reshape(tangent.shape), A.shape[-1])
    else:
        tangents = _Rows(_sums_of_rows(dense, seed, values, tangent, _layout(channel_of, A.shape[-1])))
    return outputs_of, values[start], tangents


def _last_unmixed(program, channels):
    """The last value up to which no step mixes channels, and the channel of each of its elements, flat; -1 for none."""
    seed, seed_element_of = find_seed(program)
    channel_of_A = np.arange(seed_element_of.size) % channels
    reached = seed_element_of >= 0
    channel_of = np.full(size_of(program, seed), -1)
    channel_of[seed_element_of[reached]] = channel_of_A[reached]
    if (channel_of[seed_element_of[reached]] == channel_of_A[reached]).all():
        return seed, channel_of
    return program.inputs[0], channel_of_A


def _dense_layer(program, seed, channel_of, channels) -> Step | None:
    """The dense layer that reads the seed, if all influence of the seed passes through it."""
    readers = [
        step for step in program.steps if seed in step.inputs and any(variable(program.levels[v]) for v in step.outputs)
    ]
    is_dense = len(readers) == 1 and picks_weight_rows(program, readers[0], seed)
    return readers[0] if is_dense and _layout(channel_of, channels) is not None else None


def _layout(channel_of, channels):
    """The shape of elements whose channels are in order, and the axes that are not the channels; None for no order."""
    inner = int(np.argmax(channel_of != channel_of[0])) or channel_of.size
    outer = channel_of.size // (inner * channels)
    in_order = np.broadcast_to(np.arange(channels)[:, None], (outer, channels, inner)).ravel()
    if not np.array_equal(channel_of, in_order):
        return None
    # XLA's CPU backend takes 20 times as long for the sum of rows if there is an axis of length 1 as well.
    if inner == 1:
        return (outer, channels), (0,)
    return ((channels, inner), (1,)) if outer == 1 else ((outer, channels, inner), (0, 2))


def _sums_of_rows(step, seed, values, tangent, layout):
    """`[channels *output]`: for each channel the sum of its elements' rows of the weights, times their tangents."""
    side = step.inputs.index(seed)
    contracted, _ = step.params["dimension_numbers"]
    weights, output = values[step.inputs[1 - side]], values[step.outputs[0]]
    weight_axis_of = dict(zip(contracted[side], contracted[1 - side], strict=True))
    front = [weight_axis_of[axis] for axis in sorted(weight_axis_of)]
    free = [axis for axis in range(weights.ndim) if axis not in front]
    shape, summed = layout
    rows = at_least_float32(weights).transpose(*front, *free).reshape(*shape, -1)
    sums = (rows * at_least_float32(tangent).reshape(*shape, 1)).sum(summed)
    return typed_as(sums.astype(output.dtype).reshape(-1, *output.shape), output)


def _map(function, arrays, batch_size):
    """The function of each index of the first axes: at once, or `batch_size` at a time."""
    if arrays[0].shape[0] <= batch_size:
        return jax.vmap(function)(*arrays)
    return jax.lax.map(lambda elements: function(*elements), arrays, batch_size=batch_size)


def _inner_products(a, b):
    """`[m n]` of arrays `[m ...]` and `[n ...]`."""
    a, b = (at_least_float32(x).reshape(x.shape[0], -1) for x in (a, b))
    return a @ b.T
