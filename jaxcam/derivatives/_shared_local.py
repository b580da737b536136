"""Which values of a program move the same way whatever the location of the direction, found from its steps.

In squeeze-and-excite the locations of A meet only in a mean m = sum_q A_q / N that is broadcast back over them. Along
the unit direction of location p and channel k, m moves by t e_k / N whatever p is. So a value y_q = f(A_q, m) of
location q moves by

    y_q(t) = f(A_q, m + t e_k / N)                                        if q is not p: the *shared* part,
    y_p(t) = f(A_p + t e_k, m + t e_k / N) = shared + *local* part        at the direction's own location.

The shared part is pushed once for all directions of a channel, and the local part at all locations at once: 2 pushes in
the place of N. `find_shared_local` finds the axes that the locations are on, and gives every value one of these states:

- *located*: has the location axes; its coefficients are a pair (shared, local).
- *common*: the same for all locations of a direction, such as the gate.
- *own*: a number for each location of the direction, without the location axes: a sum over locations of a local part
  that differs from location to location, such as pooling behind an activation.

A located value is *uniform* if its local part is the same at every location. Only the sum of a uniform value is common:

    sum_q y_q(t) = sum_q shared_q + local_p.

A step that reads a located and an own value has no rule here; the plan then pushes every direction by itself.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.derivatives._program import trace
    >>> gated = lambda A: jnp.tanh(A * jax.nn.sigmoid(A.mean((0, 1), keepdims=True))).sum()
    >>> program = trace(gated, jnp.ones([4, 4, 3]))
    >>> (found,) = find_shared_local(program, program.inputs[0], program.steps[:-1])
    >>> found.axes, [found.state_of(step.outputs[0]) for step in found.moving_steps]
    ((0, 1), ['common', 'common', 'common', 'common', 'located', 'located'])
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxcam.derivatives._program import Program, variable
from jaxcam.derivatives._structure import is_elementwise, position_after
from jaxcam.tracing import REARRANGEMENTS, Step

# Affine in all operands together, with the same slope everywhere.
SUMS_OF_OPERANDS = frozenset("neg add sub add_any convert_element_type copy copy_p reduce_precision".split())
CONTRACTIONS = frozenset(("dot_general", "conv_general_dilated"))
SUM_OVER_AXES = "reduce_sum"


class SharedLocal(NamedTuple):
    """How the values of a program behave along the directions of one location each. Static: made while tracing.

    Attributes:
      axes: the axes of the seed that the locations are on.
      located: the located values, each with the positions of these axes in it, in their order.
      uniform: the located values whose local part is the same at every location.
      common: the common values.
      own: the values with a number for each location of the direction.
      single: the steps, by their first output, that can run on the local part of a single location.
      moving_steps: the steps that read a value with a state.
    """

    axes: tuple[int, ...]
    located: dict[int, tuple[int, ...]]
    uniform: frozenset[int]
    common: frozenset[int]
    own: frozenset[int]
    single: frozenset[int]
    moving_steps: tuple[Step, ...]

    def state_of(self, v: int) -> str:
        """The state of a value: "located", "common", "own", or "still" for a value that does not move."""
        if v in self.located:
            return "located"
        return "common" if v in self.common else "own" if v in self.own else "still"


def find_shared_local(program: Program, seed: int, steps: Sequence[Step]) -> list[SharedLocal]:
    """The ways to split the seed's axes into locations and the rest, at most one for each set of axes that is summed.

    Args:
      program: the function.
      seed: the value along whose unit directions coefficients are pushed.
      steps: those that the directions are pushed through.
    """
    moving = _moving_steps(program, seed, steps)
    ways = (_Walk(program, seed, axes).through(moving) for axes in _axes_that_are_summed(program, seed, moving))
    return [way for way in ways if way is not None]


def _moving_steps(program, seed, steps):
    """The steps with a derivative along the seed."""
    moving, kept = {seed}, []
    for step in steps:
        outputs = [v for v in step.outputs if variable(program.levels[v])]
        if outputs and moving.intersection(step.inputs):
            moving.update(outputs)
            kept.append(step)
    return tuple(kept)


def _axes_that_are_summed(program, seed, steps) -> Iterator[tuple[int, ...]]:
    """The sets of axes of the seed that a step sums over, without repetition."""
    shape = program.avals[seed].shape
    positions: dict[int, dict[int, int]] = {seed: {axis: axis for axis, n in enumerate(shape) if n > 1}}
    seen: set[tuple[int, ...]] = set()
    for step in steps:
        moving = [v for v in dict.fromkeys(step.inputs) if v in positions]
        if not moving:
            continue
        if step.name == SUM_OVER_AXES:
            summed = tuple(axis for axis, at in positions[moving[0]].items() if at in step.params["axes"])
            if summed and summed not in seen:
                seen.add(summed)
                yield summed
        after = {}
        for axis in set.intersection(*(set(positions[v]) for v in moving)):
            position = position_after(program, step, {v: positions[v][axis] for v in moving})
            if position is not None:
                after[axis] = position
        if after:
            positions.update(dict.fromkeys(step.outputs, after))


class _Walk:
    """The states of all values, step by step, for one choice of the location axes."""

    def __init__(self, program, seed, axes):
        self.program, self.axes = program, axes
        self.located, self.uniform = {seed: axes}, {seed}
        self.common, self.own, self.single = set(), set(), set()
        self.flat = {}  # by value and axes, what `is_flat` has answered
        self.maker = {v: step for step in program.steps for v in step.outputs}

    def through(self, steps) -> SharedLocal | None:
        """The result, or None if a step has no rule."""
        if not all(self.after(step) for step in steps):
            return None
        return SharedLocal(
            self.axes,
            dict(self.located),
            frozenset(self.uniform),
            frozenset(self.common),
            frozenset(self.own),
            frozenset(self.single),
            tuple(steps),
        )

    def after(self, step) -> bool:
        """Adds the outputs of a step; False if it has no rule."""
        inputs = tuple(dict.fromkeys(step.inputs))
        located = [v for v in inputs if v in self.located]
        own = [v for v in inputs if v in self.own]
        if not located:
            (self.own if own else self.common).update(step.outputs)
            return True
        if own or len(step.outputs) != 1:
            return False
        positions = self.positions_after(step, located)
        (out,) = step.outputs
        if positions is not None:
            self.located[out] = positions
            if all(v in self.uniform for v in located) and self.keeps_uniform(step, located, positions):
                self.uniform.add(out)
            return True
        if not self.sums_over_locations(step):
            return False
        (self.common if located[0] in self.uniform else self.own).add(out)
        return True

    def positions_after(self, step, located):
        """The positions of the location axes in the output, or None if the step may mix locations."""
        positions = [
            position_after(self.program, step, {v: self.located[v][i] for v in located}) for i in range(len(self.axes))
        ]
        return None if None in positions else tuple(positions)

    def sums_over_locations(self, step):
        return step.name == SUM_OVER_AXES and set(self.located[step.inputs[0]]) <= set(step.params["axes"])

    def keeps_uniform(self, step, located, positions):
        """Whether the output's local part is the same at every location, if those of the operands are.

        With operands a = S + L and b: a + b has the local part L, and a b has L b, if b is the same everywhere.
        """
        others = [v for v in step.inputs if v not in located]
        times = [step.inputs.count(v) for v in located]
        if step.name in REARRANGEMENTS or step.name == SUM_OVER_AXES:
            return True
        if step.name in CONTRACTIONS:
            # An operand without the location axes acts on every location alike.
            is_apart = times == [1] and not self.is_batch_of_dot(step, located[0])
            self.single.update(step.outputs if is_apart else ())
            return is_apart
        if step.name in SUMS_OF_OPERANDS:
            self.single.update(step.outputs)
            return True
        is_product = step.name == "mul" or (step.name == "div" and step.inputs[0] == located[0])
        if not is_product or times != [1] or not all(self.is_flat(v, positions) for v in others):
            return False
        if step.name == "mul" or others[0] not in self.common:
            self.single.update(step.outputs)
        return True

    def is_batch_of_dot(self, step, value):
        if step.name != "dot_general":
            return False
        _, batch = step.params["dimension_numbers"]
        return bool(set(batch[step.inputs.index(value)]) & set(self.located[value]))

    def is_flat(self, v, axes):
        """Whether a value is the same along these axes, because it was broadcast along them."""
        shape = self.program.avals[v].shape
        axes = tuple(axis for axis in axes if shape and shape[axis] > 1)
        if not axes:
            return True
        if (v, axes) not in self.flat:
            self.flat[v, axes] = self.is_made_flat(v, axes)
        return self.flat[v, axes]

    def is_made_flat(self, v, axes):
        step = self.maker.get(v)
        if v in self.located or step is None or len(step.outputs) != 1:
            return False
        if step.name == "broadcast_in_dim":
            kept = step.params["broadcast_dimensions"]
            return self.is_flat(step.inputs[0], tuple(kept.index(axis) for axis in axes if axis in kept))
        return is_elementwise(self.program, step) and all(self.is_flat(operand, axes) for operand in step.inputs)


def locations_of(program: Program, seed: int, way: SharedLocal) -> int:
    """The number of locations."""
    return math.prod(program.avals[seed].shape[axis] for axis in way.axes)
