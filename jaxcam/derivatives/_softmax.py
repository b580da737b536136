"""Softmax as two sums: the division comes behind the sum that the softmax weighs.

In attention o = sum_q p_q v_q with p = e / Z, e = exp(s - max s) and Z = sum_q e_q. A direction of one token changes
every p_q, because Z is broadcast back over the tokens. In o = (sum_q e_q v_q) / Z it changes one term of either sum.
So (e / Z) v is written as (e v) / Z where Z is the sum of e over the axes that the product sums, which changes no value
and no derivative.

    >>> program = with_late_division(trace(lambda A: jax.nn.softmax(A[:, 0]) @ A[:, 1], jnp.ones([5, 2])))
    >>> [step.name for step in program.steps if step.name in ("exp", "reduce_sum", "dot_general", "div")]
    ['exp', 'reduce_sum', 'dot_general', 'div']
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.derivatives._program import Program, trace
from jaxcam.derivatives._structure import position_after
from jaxcam.tracing import REARRANGEMENTS, Step, evaluate, shapes_of


class _Quotient(NamedTuple):
    """A value n / Z, where Z is the sum of n over some axes, perhaps transposed and in another type.

    Attributes:
      numerator: n.
      total: Z, without the axes of the sum.
      axes: of the numerator that Z is a sum over.
      permutation: the axes of the numerator in the order of those of the value.
    """

    numerator: int
    total: int
    axes: tuple[int, ...]
    permutation: tuple[int, ...]


def with_late_division(program: Program) -> Program:
    """The program with products of quotients n / sum(n) divided behind the product; itself if it has none."""
    quotients = _quotients(program)
    late = {step.outputs: _side_of_quotient(step, quotients) for step in program.steps if step.name == "dot_general"}
    if all(side is None for side in late.values()):
        return program

    def run(step, inputs, values):
        side = late.get(step.outputs)
        if side is None:
            return None
        quotient = quotients[step.inputs[side]]
        operands = list(inputs)
        operands[side] = values[quotient.numerator].transpose(quotient.permutation).astype(inputs[side].dtype)
        (product,) = step.run(*operands)
        total = _total_along(product.shape, step, side, quotient, values[quotient.total])
        return [product / total.astype(product.dtype)]

    (A,), (u,) = program.inputs, program.outputs
    return trace(
        lambda x: evaluate(program.steps, {**program.constants, A: x}, rule=run)[u], shapes_of([program.avals[A]])[0]
    )


def _quotients(program: Program) -> dict[int, _Quotient]:
    maker = {v: step for step in program.steps for v in step.outputs}
    quotients: dict[int, _Quotient] = {}
    for step in program.steps:
        out = step.outputs[0]
        if step.name == "div" and program.avals[step.inputs[0]].shape == program.avals[out].shape:
            summed = _sum_that_divides(program, step, maker)
            if summed is not None:
                order = tuple(range(len(program.avals[out].shape)))
                quotients[out] = _Quotient(step.inputs[0], summed.outputs[0], tuple(summed.params["axes"]), order)
        elif step.inputs and step.inputs[0] in quotients:
            before = quotients[step.inputs[0]]
            if step.name == "transpose":
                permutation = tuple(before.permutation[axis] for axis in step.params["permutation"])
                quotients[out] = before._replace(permutation=permutation)
            elif step.name == "convert_element_type" and _is_not_half(program.avals[out].dtype):
                quotients[out] = before
    return quotients


def _is_not_half(dtype):
    """Whether a type is of floats that hold a total without losing digits that its quotient has."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 32


def _sum_that_divides(program: Program, step: Step, maker: dict[int, Step]) -> Step | None:
    """The reduction of a quotient's numerator whose result, broadcast back along its axes, is the denominator."""
    numerator, v = step.inputs
    path: list[Step] = []
    while v in maker and maker[v].name in REARRANGEMENTS and len(maker[v].inputs) == 1:
        path.append(maker[v])
        (v,) = maker[v].inputs
    summed = maker.get(v)
    if summed is None or summed.name != "reduce_sum" or summed.inputs != (numerator,):
        return None
    kept = [axis for axis in range(len(program.avals[numerator].shape)) if axis not in summed.params["axes"]]
    for axis, (position, n) in enumerate(zip(kept, program.avals[v].shape, strict=True)):
        at: int | None = axis
        for after in reversed(path):
            at = None if at is None else position_after(program, after, {after.inputs[0]: at})
        if n > 1 and at != position:
            return None
    return summed


def _side_of_quotient(step: Step, quotients: dict[int, _Quotient]) -> int | None:
    """Which operand of a product is a quotient whose total is the same along the contracted axes."""
    contracted, _ = step.params["dimension_numbers"]
    for side in (0, 1):
        quotient = quotients.get(step.inputs[side])
        if quotient is not None and contracted[side]:
            axes = {quotient.permutation[axis] for axis in contracted[side]}
            if axes <= set(quotient.axes):
                return side
    return None


def _total_along(shape: Sequence[int], step: Step, side: int, quotient: _Quotient, total: Any) -> Any:
    """The total of a quotient with the axes of a product, `[*shape]`."""
    contracted, batch = step.params["dimension_numbers"]
    rank = len(quotient.permutation)
    free = [axis for axis in range(rank) if axis not in contracted[side] and axis not in batch[side]]
    first_free = len(shape) - len(free) if side else len(batch[0])
    after = {axis: i for i, axis in enumerate(batch[side])} | {axis: first_free + i for i, axis in enumerate(free)}
    of_total = [axis for axis in range(rank) if axis not in quotient.axes]  # of the numerator
    positions = [after[quotient.permutation.index(axis)] for axis in of_total]
    ordered = total.transpose(np.argsort(positions))
    return jax.lax.broadcast_in_dim(ordered, shape, sorted(positions))
