"""The plan: which directions are pushed through which steps, decided while tracing.

`make_plan` reads a `Program` before any number is known. `_taylor.py` carries the plan out. A plan saves work in four
ways, none of which changes a result:

- **Coinciding directions share a push.** The first steps of a head often send each element of A to one element of a
  smaller value, the *seed*: pooling, flattening, relu. Along e_n the head is then its remainder along s_n e_m, with m
  the seed's element and s_n its derivative. So the derivatives are those of the remainder along e_m, times s_n, s_n^2
  and s_n^3. One direction serves all elements with the same m, and elements with s_n = 0 need none.
- **Independent directions share a push.** Layer norm over channels, activations and 1 x 1 convolutions treat each
  location by itself. Until a sum mixes the locations, one push goes along all of them at once.
- **Columns that are known are not pushed.** The tangent of a dense layer along a unit direction is a row of its
  weights. And if the smooth part reads few values, reverse mode computes all columns of their Jacobian in fewer passes
  than there are directions.
- **Directions whose locations meet only in sums share a push.** In squeeze-and-excite every direction of a channel
  moves the gate by the same amount. One push of what they share and one of what differs at a direction's own location
  serve all of them: `_shared_local.py`.

A head with pooling: the 16 locations of a channel coincide, so three directions are pushed through two stages.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.derivatives._program import trace
    >>> head = lambda A: jax.nn.silu(A.mean((0, 1)) @ jnp.ones([3, 2]))[0]
    >>> plan = make_plan(trace(head, jnp.ones([4, 4, 3])))
    >>> plan.directions, [stage.kind for stage in plan.pushed_stages]
    (3, ['linear', 'elementwise'])
"""

import math
from typing import NamedTuple

import numpy as np

from jaxcam.derivatives._program import Level, Program, output_levels, variable
from jaxcam.derivatives._shared_local import NODES, SharedLocal, find_shared_local
from jaxcam.derivatives._structure import find_independent_axes, find_seed, is_elementwise, picks_weight_rows, size_of
from jaxcam.tracing import BILINEAR, MASKING, Step, flops_of_primitive, needed

CHUNK_BYTES = 2**28  # of coefficients, for the directions of one chunk
CHUNK_DIRECTIONS = 512
JACOBIAN_BYTES = 2**30


class Stage(NamedTuple):
    """Steps that one Taylor rule of `_push.py` handles together, from its inputs to its outputs.

    A stage reads only values with coefficients; all other operands of its steps are constants to it. The kinds:

    - "linear": affine or piecewise affine, of any steps.
    - "elementwise": a chain of elementwise steps from one value to another, such as x * sigmoid(x).
    - "product": one bilinear step, such as a matrix product, whose operands both may have coefficients.
    - "quotient": a division whose operands both have coefficients.
    - "nested": any other step; nested `jvp` handles it.
    """

    kind: str
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Plan(NamedTuple):
    """How the directions are pushed through a program. Static: made while tracing.

    Attributes:
      program: the function.
      seed: the value along whose unit directions coefficients are pushed.
      seed_element_of: for each element of A, flat, the element of the seed that it reaches, or -1.
      independent_axes: the axes of the seed whose indices share a direction, each with its position in later values.
      stages: all stages from the seed to the result, in order.
      pushed_stages: those that every direction is pushed through. What follows the last smooth stage is not pushed.
      frontier: the affine values that stages with smooth results read.
      frontier_stages: the stages from the seed to the frontier.
      jacobian_values: the frontier, if reverse mode computes its columns before the push; otherwise empty.
      shared_local: how the locations meet, if the directions of all locations are pushed as pairs; otherwise None. The
        location axes are then among the independent axes, before the others, and have no positions in values.
      may_be_masked: whether relu or max pooling before the frontier may stop some directions.
      directions: how many are pushed.
      chunk_size: directions at a time.
      flops: floating-point operations, estimated, those of `rest` for its elements among them.
      rest: another plan of the same program, for the elements of A that this one leaves out; None if it has all.
      rest_elements: for each element of A, flat, whether it is left to `rest`.
    """

    program: Program
    seed: int
    seed_element_of: np.ndarray
    independent_axes: dict[int, dict[int, int]]
    stages: tuple[Stage, ...]
    pushed_stages: tuple[Stage, ...]
    frontier: tuple[int, ...]
    frontier_stages: tuple[Stage, ...]
    jacobian_values: tuple[int, ...]
    shared_local: SharedLocal | None
    may_be_masked: bool
    directions: int
    chunk_size: int
    flops: float
    rest: "Plan | None"
    rest_elements: np.ndarray | None

    @property
    def chunks(self) -> int:
        """The number of chunks, without those of `rest`."""
        return -(-self.directions // self.chunk_size)

    @property
    def all_directions(self) -> int:
        """The number of directions that are pushed, by `rest` as well."""
        if self.rest is None or self.rest_elements is None:
            return self.directions
        return self.directions + math.ceil(self.rest_elements.mean() * self.rest.directions)

    @property
    def all_chunks(self) -> int:
        """The number of chunks, those of `rest` among them."""
        return self.chunks + (0 if self.rest is None else self.rest.chunks)


def make_plan(program: Program, batch_size: int | None = None) -> Plan:
    """The plan for a program of one array with a scalar result that is not locally affine.

    Args:
      program: from `trace`.
      batch_size: directions at a time. By default as many as fit in `CHUNK_BYTES`, at most `CHUNK_DIRECTIONS`.
    """
    seed, seed_element_of = find_seed(program)
    stages = _make_stages(program, seed)
    frontier, frontier_stages = _find_frontier(program, stages)
    pushed_stages = _needed_for_push(stages)
    steps = [step for stage in pushed_stages for step in stage.steps]
    by_itself = _push_by_itself(program, seed, stages, steps, frontier, frontier_stages)
    as_pairs = (
        _push_as_pairs(program, seed, pushed_stages, by_itself.independent_axes, way)
        for way in find_shared_local(program, seed, steps)
    )
    may_be_masked = program.levels[seed] == Level.PIECEWISE or any(
        step.name in MASKING for stage in frontier_stages for step in stage.steps
    )

    def plan_of(way):
        chunk_size = batch_size or max(1, min(CHUNK_DIRECTIONS, CHUNK_BYTES // max(1, way.bytes_per_direction)))
        return Plan(
            program=program,
            seed=seed,
            seed_element_of=seed_element_of,
            independent_axes=way.independent_axes,
            stages=stages,
            pushed_stages=way.pushed_stages,
            frontier=frontier,
            frontier_stages=frontier_stages,
            jacobian_values=way.jacobian_values,
            shared_local=way.shared_local,
            may_be_masked=may_be_masked,
            directions=way.directions,
            chunk_size=chunk_size,
            flops=way.flops,
            rest=None,
            rest_elements=None,
        )

    best = plan_of(by_itself)
    for way in as_pairs:
        plan = plan_of(way)
        if way.shared_local.excluded.any():
            plan = _with_rest(plan, plan_of(by_itself))
        best = min(best, plan, key=lambda plan: plan.flops)
    return best


def _with_rest(plan, rest):
    """The plan with another for the elements of A that reach excluded locations; its operations are those of both."""
    shape, excluded = plan.program.avals[plan.seed].shape, plan.shared_local.excluded
    axes = [n if axis in plan.shared_local.axes else 1 for axis, n in enumerate(shape)]
    of_seed = np.broadcast_to(excluded.reshape(axes), shape).ravel()
    elements = (plan.seed_element_of >= 0) & of_seed[np.maximum(plan.seed_element_of, 0)]
    return plan._replace(rest=rest, rest_elements=elements, flops=plan.flops + excluded.mean() * rest.flops)


# ---- Ways to push.
class _WayToPush(NamedTuple):
    """The part of a plan that depends on whether directions are pushed by themselves or as pairs, and its cost."""

    independent_axes: dict[int, dict[int, int]]
    pushed_stages: tuple[Stage, ...]
    jacobian_values: tuple[int, ...]
    shared_local: SharedLocal | None
    directions: int
    bytes_per_direction: int
    flops: float


def _push_by_itself(program, seed, stages, steps, frontier, frontier_stages):
    """Each direction by itself, along with its copies on the independent axes."""
    independent_axes = find_independent_axes(program, seed, steps)
    directions = _directions_apart_from(program, seed, independent_axes)
    by_reverse_mode = _reverse_mode_is_cheaper(program, seed, frontier, frontier_stages, directions)
    jacobian_values = tuple(v for v in frontier if v != seed) if by_reverse_mode else ()
    pushed_stages = _needed_for_push(stages, known=jacobian_values)
    pushed_values = (*(v for stage in pushed_stages for v in stage.outputs), *jacobian_values)
    flops = directions * sum(_flops_of_coefficients(program, stage, seed) for stage in pushed_stages)
    if jacobian_values:
        flops += _flops_of_reverse_mode(program, jacobian_values, frontier_stages)
    return _WayToPush(
        independent_axes=independent_axes,
        pushed_stages=pushed_stages,
        jacobian_values=jacobian_values,
        shared_local=None,
        directions=directions,
        bytes_per_direction=2 * sum(_bytes_of(program, v) for v in pushed_values),
        flops=flops,
    )


def _push_as_pairs(program, seed, pushed_stages, independent_axes, way):
    """All locations of a direction as a pair of a shared and a local part."""
    other_axes = {axis: positions for axis, positions in independent_axes.items() if axis not in way.axes}
    axes = {axis: {} for axis in way.axes} | other_axes
    directions = _directions_apart_from(program, seed, axes)
    locations = math.prod(program.avals[seed].shape[axis] for axis in way.axes)

    def copies(stage):
        """How often a direction is pushed through a stage."""
        (out, *_) = stage.outputs
        if way.state_of(out) == "still":
            return 0
        if out in way.own and not any(v in way.located for v in stage.inputs):
            return locations
        if out in way.curved:
            return NODES + (out in way.located)
        if out not in way.located:
            return 1
        shared = out not in way.unshared
        return shared + (1 / locations if all(step.outputs[0] in way.single for step in stage.steps) else 1)

    def bytes_of(stage):
        (out, *_) = stage.outputs
        shared = NODES if out in way.curved else 1
        factor = locations if out in way.own else shared + (out in way.located)
        return factor * sum(_bytes_of(program, v) for v in stage.outputs)

    return _WayToPush(
        independent_axes=axes,
        pushed_stages=pushed_stages,
        jacobian_values=(),
        shared_local=way,
        directions=directions,
        bytes_per_direction=2 * sum(map(bytes_of, pushed_stages)),
        flops=directions * sum(copies(stage) * _flops_of_coefficients(program, stage) for stage in pushed_stages),
    )


def _directions_apart_from(program, seed, axes):
    return math.prod(n for axis, n in enumerate(program.avals[seed].shape) if axis not in axes)


# ---- Stages.
class _Chain(NamedTuple):
    """Elementwise steps from one value to another that are not a stage yet: a longer chain may contain them."""

    start: int
    level: Level  # of the chain's end, as a function of its start
    steps: frozenset[int]  # by position in the program


def _make_stages(program, seed):
    """The steps after the seed as stages. Elementwise steps are joined, here x * sigmoid(x) - 1 into one stage:

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.derivatives._program import trace
    >>> program = trace(lambda x: (x * jax.nn.sigmoid(x) - 1).sum(), jnp.ones(3))
    >>> [(stage.kind, [step.name for step in stage.steps]) for stage in _make_stages(program, program.inputs[0])]
    [('elementwise', ['logistic', 'mul', 'sub']), ('linear', ['reduce_sum'])]
    """
    moving = {seed}  # values that depend on the seed
    available = {seed}  # values that are the seed or an output of a stage
    chains: dict[int, _Chain] = {}  # by their end
    stages: list[Stage] = []

    def make_available(v):
        if v in available:
            return
        chain = chains[v]
        make_available(chain.start)
        kind = "elementwise" if chain.level == Level.SMOOTH else "linear"
        steps = tuple(program.steps[position] for position in sorted(chain.steps))
        stages.append(Stage(kind, steps, (chain.start,), (v,)))
        available.add(v)

    def level_if_still(v):
        """The level of a value that does not depend on the seed."""
        return min(program.levels[v], Level.STEP)

    def level_in_chain(v):
        if v not in moving:
            return level_if_still(v)
        return chains[v].level if v in chains else Level.AFFINE

    for position, step in enumerate(program.steps):
        inputs = tuple(dict.fromkeys(v for v in step.inputs if v in moving))
        outputs = tuple(v for v in step.outputs if variable(program.levels[v]))
        if not inputs or not outputs:
            continue
        moving.update(outputs)
        starts = {chains[v].start if v in chains else v for v in inputs}
        shapes = {program.avals[v].shape for v in (*inputs, *outputs)}
        if len(starts) == 1 and len(shapes) == 1 and is_elementwise(program, step):
            (level,) = output_levels(step, [level_in_chain(v) for v in step.inputs], program.avals)
            before = (chains[v].steps for v in inputs if v in chains)
            (start,) = starts
            chains[outputs[0]] = _Chain(start, level, frozenset({position}).union(*before))
            continue
        for v in inputs:
            make_available(v)
        input_levels = [Level.AFFINE if v in moving else level_if_still(v) for v in step.inputs]
        level = max(output_levels(step, input_levels, program.avals))
        stages.append(Stage(_kind_of_step(program, step, level, inputs, outputs), (step,), inputs, outputs))
        available.update(outputs)
    if program.outputs[0] in moving:
        make_available(program.outputs[0])
    return tuple(stages)


def _kind_of_step(program, step, level, inputs, outputs):
    if level <= Level.PIECEWISE:
        return "linear"
    if step.name in BILINEAR:
        return "product"
    ranks = {len(program.avals[v].shape) for v in (*inputs, *outputs)}
    return "quotient" if step.name == "div" and len(inputs) == 2 and len(ranks) == 1 else "nested"


def _needed_for_push(stages, *, known=()):
    """The stages that are not linear, and those that lead to them from the known values."""
    smooth = [stage for stage in stages if stage.kind != "linear"]
    return needed(stages, [v for stage in smooth for v in (*stage.inputs, *stage.outputs)], known=known)[0]


def _find_frontier(program, stages):
    """The affine values that stages with smooth results read, and the stages that lead to these values."""
    is_affine = [stage.kind == "linear" and not _is_smooth(program, stage) for stage in stages]
    affine = tuple(stage for stage, affine in zip(stages, is_affine, strict=True) if affine)
    read = {v for stage, affine in zip(stages, is_affine, strict=True) if not affine for v in stage.inputs}
    frontier = tuple(sorted(v for v in read if program.levels[v] != Level.SMOOTH))
    return frontier, needed(affine, frontier)[0]


def _is_smooth(program, stage):
    return any(program.levels[v] == Level.SMOOTH for v in stage.outputs)


# ---- Costs.
def _reverse_mode_is_cheaper(program, seed, frontier, frontier_stages, directions):
    """Whether a backward pass for each element of the frontier costs less than a forward pass for each direction."""
    values = tuple(v for v in frontier if v != seed)
    rows = sum(size_of(program, v) for v in values)
    fits = rows * directions * np.dtype(program.avals[seed].dtype).itemsize <= JACOBIAN_BYTES
    forward = directions * sum(_flops(program, stage, seed) for stage in frontier_stages)
    return bool(values) and fits and _flops_of_reverse_mode(program, values, frontier_stages) < forward


def _flops_of_reverse_mode(program, values, stages):
    return sum(size_of(program, v) for v in values) * sum(_flops(program, stage) for stage in stages)


def _bytes_of(program, v):
    return size_of(program, v) * np.dtype(program.avals[v].dtype).itemsize


def _flops_of_coefficients(program, stage, seed=None):
    """Operations of a stage for both coefficients of one direction; the second of the affine part is zero."""
    return _flops(program, stage, seed) * (2 if _is_smooth(program, stage) else 1)


def _flops(program, stage, seed=None):
    """Floating-point operations of a stage for one coefficient of one direction of the seed."""
    return sum(_flops_of_step(program, step, seed) for step in stage.steps)


def _flops_of_step(program, step, seed):
    if step.name == "dot_general" and seed in step.inputs and picks_weight_rows(program, step, seed):
        return max(size_of(program, v) for v in step.outputs)
    inputs, outputs = ([program.avals[v].shape for v in side] for side in (step.inputs, step.outputs))
    return flops_of_primitive(step.name, step.params, inputs, outputs)
