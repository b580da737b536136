"""What the steps of a program do to single elements and axes: which directions coincide, which are independent.

The functions read shapes and parameters only. They return "unknown" (None or False) for a step that they do not know,
which costs time and never changes a result.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.derivatives._program import Level, Program, rule_program, variable
from jaxcam.tracing import (
    CUSTOM_JVP,
    ELEMENTWISE,
    INDEX_MAPS,
    JIT,
    REDUCTIONS,
    WINDOW_REDUCTIONS,
    Step,
    inner_jaxprs,
)


# ---- Directions that coincide.
def find_seed(program: Program) -> tuple[int, np.ndarray]:
    """The last value through which all influence of A passes, so that each element of A reaches at most one element.

    Pooling, reshapes and relu lead to a seed that is smaller than A. Here both rows of A reach the same three means:

        >>> from jaxcam.derivatives._program import trace
        >>> program = trace(lambda A: jnp.tanh(A.mean(0)).prod(), jnp.ones([2, 3]))
        >>> seed, seed_element_of = find_seed(program)
        >>> program.avals[seed].shape, seed_element_of.tolist()
        ((3,), [0, 1, 2, 0, 1, 2])

    Returns:
      The number of the seed, and for each element of A, flat, the flat index of the seed's element that it reaches, or
      -1 if it reaches none.
    """
    (value,) = program.inputs
    seed_element_of = np.arange(size_of(program, value))
    while value not in program.outputs:
        readers = [
            step
            for step in program.steps
            if value in step.inputs and any(variable(program.levels[out]) for out in step.outputs)
        ]
        if len(readers) != 1 or len(readers[0].outputs) != 1:
            break
        (step,) = readers
        others = [v for v in step.inputs if v != value]
        if step.inputs.count(value) != 1 or any(variable(program.levels[v]) for v in others):
            break
        is_smooth = program.levels[step.outputs[0]] == Level.SMOOTH
        element_after = None if is_smooth else output_element_of(program, step, value)
        if element_after is None:
            break
        seed_element_of = np.where(seed_element_of < 0, -1, element_after[seed_element_of])
        (value,) = step.outputs
    return value, seed_element_of


def output_element_of(program, step, value):
    """For each element of a step's input, flat, the only output element that it reaches, or -1; None if several."""
    shape, (out,) = program.avals[value].shape, step.outputs
    out_shape, params = program.avals[out].shape, step.params
    size = math.prod(shape)
    if is_elementwise(program, step) and shape == out_shape:
        return np.arange(size)
    if step.name in INDEX_MAPS and step.inputs[0] == value:
        return _through_index_map(step, value, shape)
    if step.name in REDUCTIONS:
        kept = [1 if axis in params["axes"] else n for axis, n in enumerate(shape)]
        return np.broadcast_to(np.arange(math.prod(out_shape)).reshape(kept), shape).ravel()
    if step.name in WINDOW_REDUCTIONS:
        return _window_of(shape, out_shape, **params)
    return None


def _through_index_map(step, value, shape):
    """Runs a step that only moves elements on the numbers of its input's elements, 0 for what it adds."""
    size = math.prod(shape)
    numbers = [
        np.arange(1, size + 1, dtype=np.int32).reshape(shape) if v == value else np.zeros((), np.int32)
        for v in step.inputs
    ]
    with jax.ensure_compile_time_eval():
        source = np.asarray(step.run(*map(jnp.asarray, numbers))[0]).ravel()
    if np.bincount(source, minlength=size + 1)[1:].max(initial=0) > 1:
        return None  # an element has copies, as in broadcasting
    element_after = np.full(size + 1, -1)
    element_after[source] = np.arange(source.size)
    return element_after[1:]


def _window_of(shape, out_shape, *, window_dimensions, window_strides, padding, base_dilation, window_dilation, **_):
    """For each element, flat, the only window that has it, or -1; None if windows overlap or are dilated."""
    if any(d != 1 for d in (*base_dilation, *window_dilation)):
        return None
    if any(stride < window for window, stride in zip(window_dimensions, window_strides, strict=True)):
        return None
    windows, is_inside = [], np.ones(shape, bool)
    for axis, n in enumerate(shape):
        position = np.arange(n) + padding[axis][0]
        window = position // window_strides[axis]
        is_in_window = position - window * window_strides[axis] < window_dimensions[axis]
        is_in_window = is_in_window & (window >= 0) & (window < out_shape[axis])
        along_axis = [-1 if i == axis else 1 for i in range(len(shape))]
        windows.append(np.where(is_in_window, window, 0).reshape(along_axis))
        is_inside = is_inside & is_in_window.reshape(along_axis)
    flat = np.ravel_multi_index(np.broadcast_arrays(*windows), out_shape) if shape else np.zeros((), int)
    return np.where(is_inside, flat, -1).ravel()


# ---- Directions that are independent.
def find_independent_axes(program: Program, seed: int, steps: list[Step]) -> dict[int, dict[int, int]]:
    """The axes of the seed whose indices these steps never mix, each with its position in every value.

    One push along all indices of such an axis at once gives the derivatives at each of them. Here no step before the
    last sum mixes the five locations of the first axis, which the transpose makes the second axis:

        >>> from jaxcam.derivatives._program import trace
        >>> weights = jnp.ones([2, 3])
        >>> program = trace(lambda A: jax.nn.silu((A @ weights).T).sum(), jnp.ones([5, 2]))
        >>> (axis, positions), = find_independent_axes(program, program.inputs[0], program.steps[:-1]).items()
        >>> axis, [positions[step.outputs[0]] for step in program.steps[:2]]
        (0, [0, 1])
    """
    independent = {}
    for axis, n in enumerate(program.avals[seed].shape):
        positions: dict[int, int | None] = {seed: axis}
        for step in steps:
            moving = [v for v in dict.fromkeys(step.inputs) if v in positions]
            if moving:
                position = position_after(program, step, {v: positions[v] for v in moving})
                positions.update(dict.fromkeys(step.outputs, position))
        known = {v: position for v, position in positions.items() if position is not None}
        if n > 1 and len(known) == len(positions):
            independent[axis] = known
    return independent


def position_after(program, step, positions):
    """Where an axis of a step's inputs is in its output, or None if the step may mix the indices of the axis."""
    if None in positions.values() or len(step.outputs) != 1:
        return None
    shapes = [program.avals[v].shape for v in step.inputs]
    out_shape, params, name = program.avals[step.outputs[0]].shape, step.params, step.name
    (value, position), *others = positions.items()
    shape = program.avals[value].shape
    if is_elementwise(program, step):
        # Axes of length 1 are broadcast, but this axis is longer.
        same_rank = all(len(program.avals[v].shape) == len(out_shape) for v in positions)
        return position if same_rank and len(set(positions.values())) == 1 else None
    if name in ("dot_general", "conv_general_dilated"):
        after = _position_after_dot if name == "dot_general" else _position_after_conv
        return after(shapes, [positions.get(v) for v in step.inputs], **params)
    if others:
        return None
    if name in REDUCTIONS:
        return None if position in params["axes"] else position - sum(axis < position for axis in params["axes"])
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][position]
    if name == "transpose":
        return params["permutation"].index(position)
    if name == "slice":
        is_whole = out_shape[position] == shape[position]  # other axes may be cut
        return position if is_whole else None
    if name in ("squeeze", "expand_dims") or (name == "reshape" and params["dimensions"] is None):
        # The axis is kept if the output has one of its length with as many elements in front of it.
        in_front = math.prod(shape[:position])
        same = (q for q, n in enumerate(out_shape) if n == shape[position] and math.prod(out_shape[:q]) == in_front)
        return next(same, None)
    return None


def _position_after_dot(shapes, positions, *, dimension_numbers, **_):
    """`positions` has the position of the axis in each of the two operands, or None for an operand without it."""
    contracted, batch = dimension_numbers
    moving = [side for side in (0, 1) if positions[side] is not None]
    in_batch = [batch[side].index(positions[side]) if positions[side] in batch[side] else None for side in moving]
    if in_batch[0] is not None:
        return in_batch[0] if len(set(in_batch)) == 1 else None
    if len(moving) == 2 or positions[moving[0]] in contracted[moving[0]]:
        return None
    free = [
        [axis for axis in range(len(shape)) if axis not in contracted[side] and axis not in batch[side]]
        for side, shape in enumerate(shapes)
    ]
    (side,) = moving
    return len(batch[0]) + (len(free[0]) if side else 0) + free[side].index(positions[side])


def _position_after_conv(
    shapes, positions, *, dimension_numbers, window_strides, padding, lhs_dilation, batch_group_count, **_
):
    image_spec, kernel_spec, out_spec = dimension_numbers  # axes in the order: batch, channels, space
    if positions[1] is not None or batch_group_count != 1:
        return None
    place = image_spec.index(positions[0])
    if place == 0:
        return out_spec[0]
    if place == 1:
        return None
    axis = place - 2
    is_pointwise = shapes[1][kernel_spec[place]] == 1 and window_strides[axis] == 1 and lhs_dilation[axis] == 1
    return out_spec[place] if is_pointwise and tuple(padding[axis]) == (0, 0) else None


# ---- Single steps.
def picks_weight_rows(program: Program, step: Step, value: int) -> bool:
    """Whether a step is a dense layer on a whole value, whose tangent along a unit direction is a row of its weights.

    >>> from jaxcam.derivatives._program import trace
    >>> weights = jnp.ones([3, 2])
    >>> program = trace(lambda A: A @ weights, jnp.ones(3))
    >>> picks_weight_rows(program, program.steps[0], program.inputs[0])
    True
    """
    if step.name != "dot_general" or step.inputs.count(value) != 1:
        return False
    contracted, batch = step.params["dimension_numbers"]
    side = step.inputs.index(value)
    shape = program.avals[value].shape
    return not batch[0] and all(n == 1 for axis, n in enumerate(shape) if axis not in contracted[side])


def is_elementwise(program: Program, step: Step) -> bool:
    """Whether each element of a step's one output depends on the same element of its inputs alone, all of them real."""
    avals = [program.avals[v] for v in (*step.inputs, *step.outputs)]
    if any(jnp.issubdtype(aval.dtype, jnp.complexfloating) for aval in avals):
        return False  # a complex number has two directions, with different derivatives of |z|
    if step.name in CUSTOM_JVP:
        inside = (_is_elementwise_jaxpr(inner) for inner in inner_jaxprs(step.params))
        return len(step.outputs) == 1 and all(inside) and _rule_is_elementwise(program, step)
    return step.name in ELEMENTWISE and len(step.outputs) == 1


def _rule_is_elementwise(program, step):
    """Whether a custom_jvp's tangents are elementwise, which does not follow from the function."""
    moving = [i for i, v in enumerate(step.inputs) if jnp.issubdtype(program.avals[v].dtype, jnp.inexact)]
    return _is_elementwise_jaxpr(rule_program(step, program.avals, moving).jaxpr)


def _is_elementwise_jaxpr(jaxpr):
    shapes = {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars} | {v.aval.shape for v in jaxpr.invars}
    others = {eqn.primitive.name for eqn in jaxpr.eqns if eqn.primitive.name not in ELEMENTWISE}
    inside = all(_is_elementwise_jaxpr(inner) for eqn in jaxpr.eqns for inner in inner_jaxprs(eqn.params))
    return inside and others <= JIT | CUSTOM_JVP | {"broadcast_in_dim"} and len(shapes - {()}) <= 1


def size_of(program: Program, v: int) -> int:
    """The number of elements of a program's value."""
    return math.prod(program.avals[v].shape)
