"""TODO."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.derivatives._program import Level, Program, rule_program, variable
from jaxcam.tracing import CUSTOM_JVP, ELEMENTWISE, INDEX_MAPS, JIT, Step, inner_jaxprs


def waist(program: Program) -> tuple[int, np.ndarray]:
    """The last value that all of A's influence goes through, each element of A to one element of it at most.

    Returns:
      The value's number, and for each element of A, flat, the element that it feeds, or -1 for none.
    """
    (value,) = program.inputs
    feeds = np.arange(_size(program, value))
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
        on = None if program.levels[step.outputs[0]] == Level.SMOOTH else _feeds(program, step, value)
        if on is None:
            break
        feeds = np.where(feeds < 0, -1, on[feeds])
        (value,) = step.outputs
    return value, feeds


def _feeds(program, step, value):
    """For each element of a step's input, flat, the one element of the output that it feeds, or -1; None if several."""
    shape, (out,) = program.avals[value].shape, step.outputs
    out_shape, params = program.avals[out].shape, step.params
    size = math.prod(shape)
    if is_elementwise(program, step) and shape == out_shape:
        return np.arange(size)
    if step.name in INDEX_MAPS and step.inputs[0] == value:
        # The step itself says where each element goes, when it is run on their numbers.
        numbers = [
            np.arange(1, size + 1, dtype=np.int32).reshape(shape) if v == value else np.zeros((), np.int32)
            for v in step.inputs
        ]
        with jax.ensure_compile_time_eval():
            source = np.asarray(step.run(*map(jnp.asarray, numbers))[0]).ravel()
        if np.bincount(source, minlength=size + 1)[1:].max(initial=0) > 1:
            return None
        feeds = np.full(size + 1, -1)
        feeds[source] = np.arange(source.size)
        return feeds[1:]
    if step.name in ("reduce_sum", "reduce_max", "reduce_min"):
        kept = [1 if axis in params["axes"] else n for axis, n in enumerate(shape)]
        return np.broadcast_to(np.arange(math.prod(out_shape)).reshape(kept), shape).ravel()
    if step.name in ("reduce_window_sum", "reduce_window_max", "reduce_window_min"):
        return _feeds_windows(shape, out_shape, **params)
    return None


def _feeds_windows(
    shape, out_shape, *, window_dimensions, window_strides, padding, base_dilation, window_dilation, **_
):
    if any(d != 1 for d in (*base_dilation, *window_dilation)):
        return None
    if any(stride < window for window, stride in zip(window_dimensions, window_strides, strict=True)):
        return None
    windows, inside = [], np.ones(shape, bool)
    for axis, n in enumerate(shape):
        along = np.arange(n) + padding[axis][0]
        at = along // window_strides[axis]
        kept = (along - at * window_strides[axis] < window_dimensions[axis]) & (at >= 0) & (at < out_shape[axis])
        view = [-1 if i == axis else 1 for i in range(len(shape))]
        windows.append(np.where(kept, at, 0).reshape(view))
        inside = inside & kept.reshape(view)
    flat = np.ravel_multi_index(np.broadcast_arrays(*windows), out_shape) if shape else np.zeros((), int)
    return np.where(inside, flat, -1).ravel()


def _apart(program, start, events):
    """The axes of `start` along which nothing meets in these events, each with its place in every value."""
    found = {}
    for axis, n in enumerate(program.avals[start].shape):
        places: dict[int, int | None] = {start: axis}
        for step in (step for event in events for step in event.steps):
            moving = [v for v in dict.fromkeys(step.inputs) if v in places]
            if moving:
                place = _place(program, step, {v: places[v] for v in moving})
                places.update(dict.fromkeys(step.outputs, place))
        if n > 1 and None not in places.values():
            found[axis] = places
    return found


def _place(program, step, places):
    """Where an axis of a step's inputs is in its output, if the step does not mix its indices; None if it may."""
    if None in places.values() or len(step.outputs) != 1:
        return None
    shapes = [program.avals[v].shape for v in step.inputs]
    out, params, name = program.avals[step.outputs[0]].shape, step.params, step.name
    (value, place), *others = places.items()
    shape = program.avals[value].shape
    if is_elementwise(program, step):
        # Axes of length 1 are stretched to the others', but this one is longer.
        same = all(len(program.avals[v].shape) == len(out) for v in places)
        return place if same and len(set(places.values())) == 1 else None
    if name in ("dot_general", "conv_general_dilated"):
        sides = [places.get(v) for v in step.inputs]
        return (
            _place_in_dot(shapes, sides, **params) if name == "dot_general" else _place_in_conv(shapes, sides, **params)
        )
    if others:
        return None
    if name in ("reduce_sum", "reduce_max", "reduce_min"):
        return None if place in params["axes"] else place - sum(axis < place for axis in params["axes"])
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][place]
    if name == "transpose":
        return params["permutation"].index(place)
    if name in ("squeeze", "expand_dims") or (name == "reshape" and params["dimensions"] is None):
        ahead = math.prod(shape[:place])
        fits = (q for q, n in enumerate(out) if n == shape[place] and math.prod(out[:q]) == ahead)
        return next(fits, None)
    return None


def _place_in_dot(shapes, sides, *, dimension_numbers, **_):
    contracted, batch = dimension_numbers
    moving = [side for side in (0, 1) if sides[side] is not None]
    at_batch = [batch[side].index(sides[side]) if sides[side] in batch[side] else None for side in moving]
    if at_batch[0] is not None:
        return at_batch[0] if len(set(at_batch)) == 1 else None
    if len(moving) == 2 or sides[moving[0]] in contracted[moving[0]]:
        return None
    free = [
        [axis for axis in range(len(shape)) if axis not in contracted[side] and axis not in batch[side]]
        for side, shape in enumerate(shapes)
    ]
    (side,) = moving
    return len(batch[0]) + (len(free[0]) if side else 0) + free[side].index(sides[side])


def _place_in_conv(shapes, sides, *, dimension_numbers, window_strides, padding, lhs_dilation, batch_group_count, **_):
    images, kernels, out = dimension_numbers
    if sides[1] is not None or batch_group_count != 1:
        return None
    at = images.index(sides[0])
    if at == 1:
        return None
    if at == 0:
        return out[0]
    axis = at - 2
    pointwise = shapes[1][kernels[at]] == 1 and window_strides[axis] == 1 and lhs_dilation[axis] == 1
    return out[at] if pointwise and tuple(padding[axis]) == (0, 0) else None


def reads_rows(program: Program, step: Step, value: int) -> bool:
    """Whether a step is a dense layer on the whole of a value, so that unit directions pick rows of its weights."""
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
        return False  # a complex number has two directions, and |z| answers them differently
    if step.name in CUSTOM_JVP:
        inside = (_elementwise_jaxpr(inner) for inner in inner_jaxprs(step.params))
        return len(step.outputs) == 1 and all(inside) and _rule_is_elementwise(program, step)
    return step.name in ELEMENTWISE and len(step.outputs) == 1


def _rule_is_elementwise(program, step):
    """Whether a custom_jvp's tangents are elementwise: they need not be though the function is."""
    moving = [i for i, v in enumerate(step.inputs) if jnp.issubdtype(program.avals[v].dtype, jnp.inexact)]
    return _elementwise_jaxpr(rule_program(step, program.avals, moving).jaxpr)


def _elementwise_jaxpr(jaxpr):
    shapes = {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars} | {v.aval.shape for v in jaxpr.invars}
    names = {eqn.primitive.name for eqn in jaxpr.eqns if eqn.primitive.name not in ELEMENTWISE}
    inside = all(_elementwise_jaxpr(inner) for eqn in jaxpr.eqns for inner in inner_jaxprs(eqn.params))
    return inside and names <= JIT | CUSTOM_JVP | {"broadcast_in_dim"} and len(shapes - {()}) <= 1


def _size(program, v):
    return math.prod(program.avals[v].shape)
