"""The program that computes only the elements which its result reads.

The head of a vision transformer reads the class token alone. So its last attention needs one query, and what follows
the attention needs one token. The slice that takes it is pushed back through every step that keeps tokens apart:

    >>> weights = jnp.ones([2, 3])
    >>> program = trace(lambda A: jnp.tanh(A @ weights)[0].sum(), jnp.ones([5, 2]))
    >>> [(step.name, program.avals[step.outputs[0]].shape) for step in program.steps][:2]
    [('dot_general', (5, 3)), ('tanh', (5, 3))]
    >>> program = narrowed(program)
    >>> [(step.name, program.avals[step.outputs[0]].shape) for step in program.steps][:3]
    [('slice', (1, 2)), ('dot_general', (1, 3)), ('tanh', (1, 3))]

What is read of a value is a *box*: an interval of each axis. Several large boxes are made as one, their hull. A small
box is made apart from it: the query of the class token does not depend on the patches, but the array of all queries
does.

A step without a rule here is computed whole, from whole operands.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxcam.derivatives._program import Program, rule_program, trace
from jaxcam.derivatives._structure import is_elementwise
from jaxcam.tracing import (
    CUSTOM_JVP,
    JIT,
    REARRANGEMENTS,
    REDUCTIONS,
    Step,
    entering,
    evaluate,
    flatten,
    inner_jaxpr,
    shapes_of,
)

Box = tuple[tuple[int, int], ...]  # an interval of each axis, without its end
# A box of a step's output, and those of its operands; None for whole outputs, and for an operand that is not read.
_Made = tuple[Box | None, Sequence[Box | None]]
# A box of at most this share of a value may be made apart from the rest of it, and at most so many of one value.
SMALL_SHARE, MOST_SMALL_BOXES = 1 / 4, 2
SPLIT = "split"


def narrowed(program: Program) -> Program:
    """The program without the elements that its outputs do not need; the program itself if that leaves out nothing."""
    if any(step.name == SPLIT for step in program.steps):
        program = _traced_again(program, functools.partial(_evaluate_split_by_slices, program))
    boxes = _boxes_to_make(program)
    if not any(_leaves_out(program, step, made) for step, made in zip(program.steps, boxes, strict=True)):
        return program
    return _traced_again(program, functools.partial(_evaluate, program, boxes))


def _traced_again(program, f):
    (A,) = program.inputs
    return trace(f, shapes_of([program.avals[A]])[0])


def _evaluate_split_by_slices(program, A):
    """The result, with slices in the place of `split`, whose outputs are not narrowed apart."""

    def run(step, inputs, _):
        if step.name != SPLIT:
            return None
        sizes, axis = step.params["sizes"], step.params["axis"]
        ends = itertools.accumulate(sizes)
        return [
            jax.lax.slice_in_dim(inputs[0], end - size, end, axis=axis) for end, size in zip(ends, sizes, strict=True)
        ]

    (u,) = program.outputs
    return evaluate(program.steps, {**program.constants, program.inputs[0]: A}, rule=run)[u]


def _leaves_out(program, step, made):
    """Whether a step that computes something makes less than all elements of its output."""
    if step.name in REARRANGEMENTS or len(step.outputs) != 1:
        return False
    return _full(program, step.outputs[0]) not in [box for box, _ in made]


# ---- Which boxes are made.
def _boxes_to_make(program: Program) -> list[list[_Made]]:
    """For each step the boxes of its output that are made, each with the box of each operand that it reads."""
    read: dict[int, dict[Box, None]] = {v: {_full(program, v): None} for v in program.outputs}
    to_make: list[list[_Made]] = []
    for step in reversed(program.steps):
        asked = [read[v] for v in step.outputs if v in read]
        made: list[_Made] = []
        if asked and len(step.outputs) != 1:
            made = [(None, [_full(program, v) for v in step.inputs])]
        elif asked:
            boxes = _few_boxes(list(asked[0]), program.avals[step.outputs[0]].shape)
            through = (_through(program, step, box) for box in boxes)
            made = list(dict.fromkeys((out, tuple(operands)) for out, operands in through))
        to_make.append(made)
        for _, operands in made:
            for v, box in zip(step.inputs, operands, strict=True):
                if box is not None:
                    read.setdefault(v, {})[box] = None
    return to_make[::-1]


def _few_boxes(boxes, shape):
    """The boxes with the large ones in one, and all in one if many are small."""
    most = SMALL_SHARE * math.prod(shape)
    small = [box for box in boxes if _size(box) <= most]
    large = [box for box in boxes if _size(box) > most]
    if len(small) > MOST_SMALL_BOXES:
        return [_hull(boxes)]
    return [*([_hull(large)] if large else []), *small]


def _hull(boxes):
    return tuple((min(start for start, _ in ends), max(stop for _, stop in ends)) for ends in zip(*boxes, strict=True))


def _size(box):
    return math.prod(stop - start for start, stop in box)


def _full(program, v) -> Box:
    return tuple((0, n) for n in program.avals[v].shape)


def _through(program: Program, step: Step, box: Box) -> tuple[Box, list[Box | None]]:
    """The box of a step's output that is made for this one, and those of its operands that it reads."""
    shapes = [program.avals[v].shape for v in step.inputs]
    out_shape = program.avals[step.outputs[0]].shape
    operands: list[Box | None] = [tuple((0, n) for n in shape) for shape in shapes]
    whole: tuple[Box, list[Box | None]] = tuple((0, n) for n in out_shape), operands
    if (box == whole[0] and step.name != "slice") or 0 in (_size(box), _size(whole[0])):
        return whole
    if is_elementwise(program, step):
        alike = all(len(shape) in (0, len(out_shape)) for shape in shapes)
        return (box, [_where_longer(box, shape) for shape in shapes]) if alike else whole
    rule = _RULES.get(step.name)
    through = None if rule is None else rule(box, shapes, out_shape, step.params)
    return whole if through is None else through


def _where_longer(box, shape):
    """The box of an operand with these axes, of which those of length 1 are broadcast; () for a scalar."""
    return tuple((0, 1) if n == 1 else interval for n, interval in zip(shape, box, strict=False))


def _through_transpose(box, shapes, out_shape, params):
    before = dict(zip(params["permutation"], box, strict=True))
    return box, [tuple(before[axis] for axis in range(len(box)))]


def _through_broadcast(box, shapes, out_shape, params):
    if len(shapes) != 1 or params.get("sharding") is not None:
        return None
    return box, [_where_longer([box[axis] for axis in params["broadcast_dimensions"]], shapes[0])]


def _through_reduction(box, shapes, out_shape, params):
    kept = iter(box)
    return box, [tuple((0, n) if axis in params["axes"] else next(kept) for axis, n in enumerate(shapes[0]))]


def _through_squeeze(box, shapes, out_shape, params):
    kept = iter(box)
    dropped = [axis % len(shapes[0]) for axis in params["dimensions"]]
    return box, [tuple((0, 1) if axis in dropped else next(kept) for axis in range(len(shapes[0])))]


def _through_reshape(box, shapes, out_shape, params):
    if len(shapes) != 1 or params["dimensions"] is not None or params.get("sharding") is not None:
        return None
    # An axis is kept if the output has one of its length with as many elements in front of it. Others are read whole.
    before = {(n, math.prod(shapes[0][:axis])): axis for axis, n in enumerate(shapes[0])}
    made, operand = [(0, n) for n in out_shape], [(0, n) for n in shapes[0]]
    for axis, n in enumerate(out_shape):
        source = before.get((n, math.prod(out_shape[:axis])))
        if source is not None:
            made[axis] = operand[source] = box[axis]
    return tuple(made), [tuple(operand)]


def _through_slice(box, shapes, out_shape, params):
    strides = params["strides"] or [1] * len(box)
    return box, [
        tuple(
            (first + start * stride, first + (stop - 1) * stride + 1)
            for (start, stop), first, stride in zip(box, params["start_indices"], strides, strict=True)
        )
    ]


def _through_concatenate(box, shapes, out_shape, params):
    axis, offset, operands = params["dimension"], 0, []
    for shape in shapes:
        start, stop = (min(max(end - offset, 0), shape[axis]) for end in box[axis])
        operands.append((*box[:axis], (start, stop), *box[axis + 1 :]) if start < stop else None)
        offset += shape[axis]
    return box, operands


def _through_dot(box, shapes, out_shape, params):
    contracted, batch = params["dimension_numbers"]
    operands, position = [], len(batch[0])
    for side, shape in enumerate(shapes):
        operand = []
        for axis, n in enumerate(shape):
            if axis in contracted[side]:
                operand.append((0, n))
            elif axis in batch[side]:
                operand.append(box[batch[side].index(axis)])
            else:
                operand.append(box[position])
                position += 1
        operands.append(tuple(operand))
    return box, operands


_RULES: dict[str, Callable[..., tuple[Box, list[Box | None]] | None]] = {
    "transpose": _through_transpose,
    "broadcast_in_dim": _through_broadcast,
    "squeeze": _through_squeeze,
    "reshape": _through_reshape,
    "slice": _through_slice,
    "concatenate": _through_concatenate,
    "dot_general": _through_dot,
    **dict.fromkeys(REDUCTIONS, _through_reduction),
}


# ---- The narrowed program.
def _evaluate(program, to_make, A):
    """The result, from the boxes of each step's output that are made."""
    made: dict[int, list[tuple[Box, Any]]] = {
        v: [(_full(program, v), value)] for v, value in ({program.inputs[0]: A} | program.constants).items()
    }
    for step, boxes in zip(program.steps, to_make, strict=True):
        for box, operand_boxes in boxes:
            read = zip(step.inputs, operand_boxes, strict=True)
            operands = [None if part is None else _read(made[v], part) for v, part in read]
            whole = [_full(program, v) for v in (*step.inputs, *step.outputs)]
            if box is None or [*operand_boxes, box] == whole:
                outputs = step.run(*operands)
            else:
                outputs = [_run(program, step, box, operands)]
            for v, value in zip(step.outputs, outputs, strict=True):
                made.setdefault(v, []).append((_full(program, v) if box is None else box, value))
    (u,) = program.outputs
    return _read(made[u], _full(program, u))


def _read(arrays, box):
    """A box of a value, from the smallest array that has it."""
    around, array = min(
        (
            (around, array)
            for around, array in arrays
            if all(a <= b and d <= c for (a, c), (b, d) in zip(around, box, strict=True))
        ),
        key=lambda pair: _size(pair[0]),
    )
    if around == box:
        return array
    starts = [b - a for (a, _), (b, _) in zip(around, box, strict=True)]
    stops = [d - a for (a, _), (_, d) in zip(around, box, strict=True)]
    return jax.lax.slice(array, starts, stops)


def _run(program, step, box, operands):
    """A step on narrower operands: its output in the box."""
    shape, operand = [stop - start for start, stop in box], operands[0]
    if step.name == "broadcast_in_dim":
        return jax.lax.broadcast_in_dim(operand, shape, step.params["broadcast_dimensions"])
    if step.name == "reshape":
        return jax.lax.reshape(operand, shape)
    if step.name == "slice":
        return jax.lax.slice(operand, [0] * operand.ndim, operand.shape, step.params["strides"])
    if step.name == "concatenate":
        present = [operand for operand in operands if operand is not None]
        return present[0] if len(present) == 1 else jax.lax.concatenate(present, step.params["dimension"])
    if step.name in CUSTOM_JVP:
        (out,) = _custom_jvp_at(step, program.avals, shape)(*operands)
        return out
    (out,) = step.run(*operands)
    return out


# ---- An elementwise function with a rule of its own, at another shape than that of its jaxpr.
def _custom_jvp_at(step: Step, avals: Sequence[Any], shape: Sequence[int]) -> Callable[..., Sequence[Any]]:
    """The function of an elementwise custom_jvp, with its rule, for operands of this shape."""
    moving = [i for i, v in enumerate(step.inputs) if jnp.issubdtype(avals[v].dtype, jnp.inexact)]
    function, rule = inner_jaxpr(step.params), rule_program(step, avals, moving)

    @jax.custom_jvp
    def run(*operands):
        return _run_elementwise(function, operands, shape)

    @run.defjvp
    def _(operands, tangents):
        return run(*operands), _run_elementwise(rule, [*operands, *(tangents[i] for i in moving)], shape)

    return run


def _run_elementwise(closed: ClosedJaxpr, operands, shape):
    flat = flatten(closed, entering(JIT))

    def run(step, inputs, _):
        if step.name == "broadcast_in_dim":
            return [jnp.broadcast_to(inputs[0], shape if flat.avals[step.outputs[0]].shape else ())]
        if step.name in CUSTOM_JVP:
            return _custom_jvp_at(step, flat.avals, shape)(*inputs)
        return None

    values = evaluate(flat.steps, flat.given(operands), rule=run)
    return [values[v] for v in flat.outputs]
