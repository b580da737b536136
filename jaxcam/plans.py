"""What is pushed through a function for its second and third derivatives, and along which directions: the plan.

It is made while tracing, from a `Program`, before any number is known; `jaxcam.taylor` then carries it out. Three
things are found, each of which leaves work undone that would change nothing:

- **Directions that are the same.** The first steps of a head often send each location of A to one element of a smaller
  value: pooling, flattening, relu. `waist` finds how far that goes. Along e_n the head is then its rest along
  s_n e_m, so its derivatives are those of the rest along e_m, times s_n, s_n^2, s_n^3: one direction serves all
  locations that share m, and those with s_n = 0 need none.
- **Directions that do not meet.** Where the smooth steps treat each index of an axis on its own, as layer norm over
  channels, activations and 1 x 1 convolutions treat space, all its indices go in one direction: they do not meet
  before the sums that collect them, and these leave the axis apart.
- **Columns that are there already.** A dense layer's answer to a unit direction is a row of its weights; and where what
  the smooth steps read is small, reverse mode gives all columns of its Jacobian for fewer passes than directions.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.jaxprs import inner_jaxprs, shapes_of
from jaxcam.linearity import PIECEWISE_LINEAR, Level, Program, Step, variable

BYTES_AT_A_TIME = 2**28  # of coefficients, for the directions of one chunk
DIRECTIONS_AT_A_TIME = 512
JACOBIAN_BYTES = 2**30

ELEMENTWISE = frozenset(
    "neg add sub add_any mul div rem pow integer_pow square sqrt rsqrt cbrt exp exp2 log log1p expm1 logistic tanh sin "
    "cos tan asin acos atan sinh cosh asinh acosh atanh atan2 erf erfc erf_inv lgamma digamma max min abs clamp "
    "select_n convert_element_type reduce_precision copy copy_p name sign floor ceil round stop_gradient "
    "eq ne lt le gt ge not and or xor is_finite nextafter optimization_barrier".split()
)
MOVES = frozenset("reshape squeeze expand_dims transpose rev slice pad broadcast_in_dim copy copy_p".split())
MASKS = PIECEWISE_LINEAR | {"select_n", "custom_jvp_call"}
PRODUCTS = frozenset("mul dot_general conv_general_dilated".split())


class Event(NamedTuple):
    """Steps from values that have coefficients to values that get them."""

    kind: str  # "linear", "curve" (elementwise), "product", "quotient" or "nested"
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Plan(NamedTuple):
    """How the directions are pushed through a program: static, made while tracing."""

    program: Program
    start: int  # the value whose unit directions are pushed
    feeds: np.ndarray  # for each element of A, the element of `start` that it feeds, or -1
    apart: dict[int, dict[int, int]]  # axes of `start` whose indices do not meet, and where they are in later values
    columns: tuple[int, ...]  # values whose Jacobian columns are made before, by reverse mode
    before: tuple[Event, ...]  # what leads to those
    pushed: tuple[Event, ...]  # what every direction is pushed through
    events: tuple[Event, ...]  # all, in order, from `start` to the result
    masks: bool  # whether a relu or a maximum before the smooth steps may make directions that reach none of them
    directions: int
    size: int  # of them at a time
    flops: float


def plan(program: Program, batch_size: int | None = None) -> Plan:
    """The plan for a program of one array with a scalar result that is not locally affine."""
    start, feeds = waist(program)
    events = _events(program, start)
    pushed = _needed(events, _curved_inputs(events))
    apart = _apart(program, start, pushed)
    directions = math.prod(n for axis, n in enumerate(program.avals[start].shape) if axis not in apart)
    columns, before = _reverse_columns(program, start, events, directions)
    pushed = _needed(events, _curved_inputs(events), stop=columns)
    each = sum(_flops(program, event, start) * (2 if _is_smooth(program, event) else 1) for event in pushed)
    held = sum(_bytes(program, v) for event in pushed for v in event.outputs) + sum(_bytes(program, v) for v in columns)
    size = batch_size or max(1, min(DIRECTIONS_AT_A_TIME, BYTES_AT_A_TIME // max(1, 2 * held)))
    rows = sum(_size(program, v) for v in columns) * sum(_flops(program, event) for event in before)
    _, leading = frontier(program, events)
    masks = program.levels[start] == Level.PIECEWISE or any(
        step.name in MASKS for event in leading for step in event.steps
    )
    work = rows + directions * each
    return Plan(program, start, feeds, apart, columns, before, pushed, events, masks, directions, size, work)


def frontier(program: Program, events: tuple[Event, ...]) -> tuple[tuple[int, ...], tuple[Event, ...]]:
    """The affine values that events with smooth results read, and the events that lead to them."""
    read = {v for event in events if event.kind != "linear" or _is_smooth(program, event) for v in event.inputs}
    values = tuple(sorted(v for v in read if program.levels[v] != Level.SMOOTH))
    affine = tuple(event for event in events if event.kind == "linear" and not _is_smooth(program, event))
    return values, _needed(affine, values)


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
    if step.name in MOVES and step.inputs[0] == value:
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


def _events(program, start):
    """The steps after `start`, with elementwise runs joined and each kind named."""
    varying = {start}
    # For values inside an elementwise run: where it starts, the level in that, and the steps by number.
    roots: dict[int, tuple[int, Level, frozenset[int]]] = {}
    events: list[Event] = []
    done = {start}

    def materialise(v):
        if v not in done:
            root, level, numbers = roots[v]
            materialise(root)
            steps = tuple(program.steps[number] for number in sorted(numbers))
            events.append(Event("curve" if level == Level.SMOOTH else "linear", steps, (root,), (v,)))
            done.add(v)

    def relative(v):
        return (roots[v][1] if v in roots else Level.AFFINE) if v in varying else min(program.levels[v], Level.STEP)

    for number, step in enumerate(program.steps):
        moving = tuple(dict.fromkeys(v for v in step.inputs if v in varying))
        made = [out for out in step.outputs if variable(program.levels[out])]
        if not moving or not made:
            continue
        varying.update(made)
        from_roots = {roots[v][0] if v in roots else v for v in moving}
        same_shape = {program.avals[v].shape for v in (*moving, *made)}
        if is_elementwise(program, step) and len(from_roots) == 1 and len(same_shape) == 1:
            (level,) = step.level([relative(v) for v in step.inputs])
            before = (roots[v][2] for v in moving if v in roots)
            roots[made[0]] = (*from_roots, level, frozenset({number}).union(*before))
            continue
        for v in moving:
            materialise(v)
        level = max(step.level([Level.AFFINE if v in varying else relative(v) for v in step.inputs]))
        if level <= Level.PIECEWISE:
            kind = "linear"
        elif step.name in PRODUCTS:
            kind = "product"
        else:
            ranks = {len(program.avals[v].shape) for v in (*moving, *made)}
            kind = "quotient" if step.name == "div" and len(moving) == 2 and len(ranks) == 1 else "nested"
        events.append(Event(kind, (step,), moving, tuple(made)))
        done.update(made)
    if program.outputs[0] in varying:
        materialise(program.outputs[0])
    return tuple(events)


def _curved_inputs(events):
    return {v for event in events if event.kind != "linear" for v in event.inputs}


def _needed(events, wanted, *, stop=()):
    """The events that make the wanted values, or lead to them, without those that make `stop`."""
    wanted, kept = set(wanted) - set(stop), []
    for event in reversed(events):
        if event.kind != "linear" or wanted.intersection(event.outputs):
            kept.append(event)
            wanted.update(set(event.inputs) - set(stop))
    return tuple(reversed(kept))


def _reverse_columns(program, start, events, directions):
    """The frontier's values, and the events before them, where reverse mode is the cheaper way to their columns."""
    read, before = frontier(program, events)
    columns = tuple(v for v in read if v != start)
    forward = directions * sum(_flops(program, event, start) for event in before)
    rows = sum(_size(program, v) for v in columns)
    reverse = rows * sum(_flops(program, event) for event in before)
    fits = rows * directions * np.dtype(program.avals[start].dtype).itemsize <= JACOBIAN_BYTES
    return (columns, before) if columns and fits and reverse < forward else ((), ())


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


def _is_smooth(program, event):
    return any(program.levels[v] == Level.SMOOTH for v in event.outputs)


def is_elementwise(program: Program, step: Step) -> bool:
    """Whether each element of a step's one output depends on the same element of its inputs alone, all of them real."""
    avals = [program.avals[v] for v in (*step.inputs, *step.outputs)]
    if any(jnp.issubdtype(aval.dtype, jnp.complexfloating) for aval in avals):
        return False  # a complex number has two directions, and |z| answers them differently
    if step.name == "custom_jvp_call":
        inside = (_elementwise_jaxpr(inner) for inner in inner_jaxprs(step.params))
        return len(step.outputs) == 1 and all(inside) and _elementwise_jaxpr(_rule(step, avals[: len(step.inputs)]))
    return step.name in ELEMENTWISE and len(step.outputs) == 1


def _rule(step, avals):
    """What a custom_jvp gives for tangents: it need not be elementwise though the function is."""
    point = shapes_of(avals)
    moving = [i for i, aval in enumerate(avals) if jnp.issubdtype(aval.dtype, jnp.inexact)]

    def tangent(point, directions):
        def f(*some):
            full = list(point)
            for i, value in zip(moving, some, strict=True):
                full[i] = value
            return step.run(*full)

        return jax.jvp(f, [point[i] for i in moving], directions)[1]

    return jax.make_jaxpr(tangent)(point, [point[i] for i in moving]).jaxpr


def _elementwise_jaxpr(jaxpr):
    shapes = {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars} | {v.aval.shape for v in jaxpr.invars}
    names = {eqn.primitive.name for eqn in jaxpr.eqns if eqn.primitive.name not in ELEMENTWISE}
    inside = all(_elementwise_jaxpr(inner) for eqn in jaxpr.eqns for inner in inner_jaxprs(eqn.params))
    return inside and names <= {"jit", "pjit", "custom_jvp_call", "broadcast_in_dim"} and len(shapes - {()}) <= 1


def _size(program, v):
    return math.prod(program.avals[v].shape)


def _bytes(program, v):
    return _size(program, v) * np.dtype(program.avals[v].dtype).itemsize


def _flops(program, event, start=None):
    """Floating-point operations of an event for one coefficient of one direction."""
    return sum(_step_flops(program, step, start) for step in event.steps)


def _step_flops(program, step, start):
    out = max(_size(program, v) for v in step.outputs)
    if step.name == "dot_general":
        if start in step.inputs and reads_rows(program, step, start):
            return out
        (contracted, _), _ = step.params["dimension_numbers"]
        return 2 * out * math.prod(program.avals[step.inputs[0]].shape[axis] for axis in contracted)
    if step.name == "conv_general_dilated":
        kernel = program.avals[step.inputs[1]].shape
        return 2 * out * math.prod(kernel) // kernel[step.params["dimension_numbers"].rhs_spec[0]]
    return max(out, *(_size(program, v) for v in step.inputs), 1)


def forward_only(program: Program) -> bool:
    """Whether a primitive without a reverse mode stands between A and the result: a while loop, a dilated maximum."""

    def no_reverse(name, params):
        if name.startswith("reduce_window_m"):
            return any(d != 1 for d in (*params["base_dilation"], *params["window_dilation"]))
        return name == "while"

    return any(_contains(step.name, step.params, no_reverse) for step in _moving(program))


def custom_vjp_inside(program: Program) -> bool:
    """Whether a custom_vjp stands inside a scan or a branch, where it cannot be written out."""
    return any(
        _contains(step.name, step.params, lambda name, _: name.startswith("custom_vjp")) for step in _moving(program)
    )


def _moving(program):
    return [step for step in program.steps if any(variable(program.levels[out]) for out in step.outputs)]


def _contains(name, params, which):
    return which(name, params) or any(
        _contains(eqn.primitive.name, eqn.params, which) for inner in inner_jaxprs(params) for eqn in inner.eqns
    )


def reads_rows(program: Program, step: Step, value: int) -> bool:
    """Whether a step is a dense layer on the whole of a value, so that unit directions pick rows of its weights."""
    if step.name != "dot_general" or step.inputs.count(value) != 1:
        return False
    contracted, batch = step.params["dimension_numbers"]
    side = step.inputs.index(value)
    shape = program.avals[value].shape
    return not batch[0] and all(n == 1 for axis, n in enumerate(shape) if axis not in contracted[side])
