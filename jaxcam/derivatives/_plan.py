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

import numpy as np

from jaxcam.derivatives._program import Level, Program, output_levels, variable
from jaxcam.derivatives._structure import _apart, _size, is_elementwise, reads_rows, waist
from jaxcam.tracing import BILINEAR, CUSTOM_VJP, MASKING, Step, inner_jaxprs, needed

BYTES_AT_A_TIME = 2**28  # of coefficients, for the directions of one chunk
DIRECTIONS_AT_A_TIME = 512
JACOBIAN_BYTES = 2**30


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
    pushed = _pushed(events)
    apart = _apart(program, start, pushed)
    directions = math.prod(n for axis, n in enumerate(program.avals[start].shape) if axis not in apart)
    columns, before = _reverse_columns(program, start, events, directions)
    pushed = _pushed(events, known=columns)
    each = sum(_flops(program, event, start) * (2 if _is_smooth(program, event) else 1) for event in pushed)
    held = sum(_bytes(program, v) for event in pushed for v in event.outputs) + sum(_bytes(program, v) for v in columns)
    size = batch_size or max(1, min(DIRECTIONS_AT_A_TIME, BYTES_AT_A_TIME // max(1, 2 * held)))
    rows = sum(_size(program, v) for v in columns) * sum(_flops(program, event) for event in before)
    _, leading = frontier(program, events)
    masks = program.levels[start] == Level.PIECEWISE or any(
        step.name in MASKING for event in leading for step in event.steps
    )
    work = rows + directions * each
    return Plan(program, start, feeds, apart, columns, before, pushed, events, masks, directions, size, work)


def frontier(program: Program, events: tuple[Event, ...]) -> tuple[tuple[int, ...], tuple[Event, ...]]:
    """The affine values that events with smooth results read, and the events that lead to them."""
    read = {v for event in events if event.kind != "linear" or _is_smooth(program, event) for v in event.inputs}
    values = tuple(sorted(v for v in read if program.levels[v] != Level.SMOOTH))
    affine = tuple(event for event in events if event.kind == "linear" and not _is_smooth(program, event))
    return values, needed(affine, values)[0]


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
            (level,) = output_levels(step, [relative(v) for v in step.inputs], program.avals)
            before = (roots[v][2] for v in moving if v in roots)
            (root,) = from_roots
            roots[made[0]] = (root, level, frozenset({number}).union(*before))
            continue
        for v in moving:
            materialise(v)
        read = [Level.AFFINE if v in varying else relative(v) for v in step.inputs]
        level = max(output_levels(step, read, program.avals))
        if level <= Level.PIECEWISE:
            kind = "linear"
        elif step.name in BILINEAR:
            kind = "product"
        else:
            ranks = {len(program.avals[v].shape) for v in (*moving, *made)}
            kind = "quotient" if step.name == "div" and len(moving) == 2 and len(ranks) == 1 else "nested"
        events.append(Event(kind, (step,), moving, tuple(made)))
        done.update(made)
    if program.outputs[0] in varying:
        materialise(program.outputs[0])
    return tuple(events)


def _pushed(events, *, known=()):
    """The events that are not linear, and those that lead to them from the known values."""
    curved = [event for event in events if event.kind != "linear"]
    return needed(events, [v for event in curved for v in (*event.inputs, *event.outputs)], known=known)[0]


def _reverse_columns(program, start, events, directions):
    """The frontier's values, and the events before them, where reverse mode is the cheaper way to their columns."""
    read, before = frontier(program, events)
    columns = tuple(v for v in read if v != start)
    forward = directions * sum(_flops(program, event, start) for event in before)
    rows = sum(_size(program, v) for v in columns)
    reverse = rows * sum(_flops(program, event) for event in before)
    fits = rows * directions * np.dtype(program.avals[start].dtype).itemsize <= JACOBIAN_BYTES
    return (columns, before) if columns and fits and reverse < forward else ((), ())


def _is_smooth(program, event):
    return any(program.levels[v] == Level.SMOOTH for v in event.outputs)


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
    return any(_contains(step.name, step.params, lambda name, _: name in CUSTOM_VJP) for step in _moving(program))


def _moving(program):
    return [step for step in program.steps if any(variable(program.levels[out]) for out in step.outputs)]


def _contains(name, params, which):
    return which(name, params) or any(
        _contains(eqn.primitive.name, eqn.params, which) for inner in inner_jaxprs(params) for eqn in inner.eqns
    )
