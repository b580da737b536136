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

In a norm over space the variance is an own value that is broadcast back: it moves by another amount c_p(t) for each
location p, but it is one number. The values behind it are *curved*: functions of t and of that number, which are
pushed at a few values of it and interpolated (`_curves.py`). There is one such number for each direction, that of the
`primary` sum. A second one, or a step without a rule, such as a spatial kernel, leaves the plan as it is: every
direction is pushed by itself.

A contraction over the locations is a sum, too, as that of the keys' exponentials with the values in an attention that
the class token alone reads. In such a head a direction moves nothing at other locations: located values are *unshared*.
If other tokens are concatenated to the locations, these begin at an *offset*. If the class token is among the
locations, a slice takes it. Its own directions are *excluded*: another plan pushes them. All others leave the slice
still.

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

import jax.numpy as jnp
import numpy as np

from jaxcam.derivatives._program import Program, variable
from jaxcam.derivatives._structure import is_elementwise, output_element_of, position_after, size_of
from jaxcam.tracing import CONTRACTIONS, REARRANGEMENTS, SUMS_OF_OPERANDS, Step

SUM_OVER_AXES = "reduce_sum"
# The numbers of the primary sum at which curved values are pushed: a third coefficient is a cubic in it.
NODES = 4
MOST_EXCLUDED = 1 / 4  # of the locations


class SharedLocal(NamedTuple):
    """How the values of a program behave along the directions of one location each. Static: made while tracing.

    Attributes:
      axes: the axes of the seed that the locations are on.
      located: the located values, each with the positions of these axes in it, in their order.
      uniform: the located values whose local part is the same at every location.
      common: the common values.
      unshared: the located values whose shared part is zero.
      offsets: for each located value, how many other elements are in front of the locations along their axis.
      excluded: for each location whether its directions are left to another plan.
      curved: the located and common values that move with the primary sum.
      primary: the sum whose own value is broadcast back over the locations; None if there is none.
      primary_element_of: for each element of the seed, the element of the primary sum, flat, that it moves locally.
      own: the values with a number for each location of the direction.
      single: the steps, by their first output, that can run on the local part of a single location.
      moving_steps: the steps that read a value with a state.
    """

    axes: tuple[int, ...]
    located: dict[int, tuple[int, ...]]
    uniform: frozenset[int]
    common: frozenset[int]
    unshared: frozenset[int]
    offsets: dict[int, int]
    excluded: np.ndarray
    curved: frozenset[int]
    primary: int | None
    primary_element_of: np.ndarray | None
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
    ways = (_find_way(program, seed, axes, moving) for axes in _axes_that_are_summed(program, seed, moving))
    return [way for way in ways if way is not None]


def _find_way(program, seed, axes, steps):
    walk = _Walk(program, seed, axes)
    way = walk.through(steps)
    if way is None and walk.first_own is not None:
        return _Walk(program, seed, axes, primary=walk.first_own).through(steps)
    return way


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
    """The sets of axes of the seed that a step sums over, whole and without those that another step mixes."""
    shape = program.avals[seed].shape
    positions: dict[int, dict[int, int]] = {seed: {axis: axis for axis, n in enumerate(shape) if n > 1}}
    summed: dict[tuple[int, ...], None] = {}
    mixed: set[int] = set()
    for step in steps:
        moving = [v for v in dict.fromkeys(step.inputs) if v in positions]
        if not moving:
            continue
        # A value without an axis, such as a sum over it, is the same along it.
        before = {
            axis: {v: positions[v][axis] for v in moving if axis in positions[v]}
            for v in moving
            for axis in positions[v]
        }
        # Every dense layer sums over an axis of one operand.
        over = {axis for axis, at in before.items() if at.keys() == {*step.inputs} and sums_over(step, at)}
        if over:
            summed[tuple(sorted(over))] = None
        after = {axis: _position_after(program, step, at) for axis, at in before.items()}
        positions.update(dict.fromkeys(step.outputs, {axis: at for axis, at in after.items() if at is not None}))
        mixed.update(axis for axis, at in after.items() if at is None and axis not in over)
    candidates = [axes for whole in summed for axes in (whole, tuple(axis for axis in whole if axis not in mixed))]
    yield from dict.fromkeys(axes for axes in candidates if axes)


def sums_over(step: Step, positions: dict[int, int]) -> bool:
    """Whether a step sums over the axis of these positions in its operands: a reduction, or a contraction."""
    if step.name == SUM_OVER_AXES:
        return positions[step.inputs[0]] in step.params["axes"]
    if step.name != "dot_general":
        return False
    contracted, _ = step.params["dimension_numbers"]
    sides = [(side, positions[v]) for side, v in enumerate(step.inputs) if v in positions]
    if any(position not in contracted[side] for side, position in sides):
        return False
    return len({contracted[side].index(position) for side, position in sides}) == 1


def _position_after(program, step, positions):
    """`position_after`, and through a concatenation along the axis if a single operand has it."""
    if step.name != "concatenate":
        return position_after(program, step, positions)
    (v, position), *others = positions.items()
    is_along = position == step.params["dimension"] and step.inputs.count(v) == 1
    return position if is_along and not others else None


class _Walk:
    """The states of all values, step by step, for one choice of the location axes."""

    def __init__(self, program, seed, axes, primary=None):
        self.program, self.seed, self.axes, self.primary = program, seed, axes, primary
        self.first_own = self.primary_element_of = None
        self.curved = set()
        # For each located value, where each element of the seed goes, if it goes to one element.
        self.element_of = {} if primary is None else {seed: np.arange(size_of(program, seed))}
        self.located, self.uniform = {seed: axes}, {seed}
        self.common, self.own, self.single = set(), set(), set()
        self.unshared, self.offsets = {seed}, {seed: 0}
        self.excluded = np.zeros([program.avals[seed].shape[axis] for axis in axes], bool)
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
            frozenset(self.unshared),
            dict(self.offsets),
            self.excluded,
            frozenset(self.curved),
            self.primary,
            self.primary_element_of,
            frozenset(self.own),
            frozenset(self.single),
            tuple(steps),
        )

    def after(self, step) -> bool:
        """Adds the outputs of a step; False if it has no rule."""
        inputs = tuple(dict.fromkeys(step.inputs))
        located = [v for v in inputs if v in self.located]
        own = [v for v in inputs if v in self.own]
        is_curved = any(v in self.curved for v in inputs)
        dtypes = [self.program.avals[v].dtype for v in step.outputs]
        if is_curved and any(jnp.issubdtype(t, jnp.floating) and jnp.finfo(t).bits < 32 for t in dtypes):
            return False  # differences between nodes would lose the digits that half precision has
        if not located:
            if own or not self.common.isdisjoint(inputs):
                (self.own if own else self.common).update(step.outputs)
            self.curved.update(step.outputs if is_curved and not own else ())
            return True
        if own or len(step.outputs) != 1 or len({self.offsets.get(v) for v in located}) != 1:
            return False
        positions = self.positions_after(step, located)
        (out,) = step.outputs
        if positions is None:
            if step.name == "slice":
                return self.excludes_slice(step, located[0])
            return self.sums_over_locations(step, located) and self.after_sum(step, located)
        if is_curved and not self.is_curved_alike(step, positions):
            return False
        if step.name == "concatenate" and (is_curved or len(self.axes) > 1):
            return False
        self.located[out] = positions
        self.offsets[out] = self.offsets[located[0]] + self.elements_before(step, located[0])
        self.curved.update([out] if is_curved else [])
        if set(inputs).isdisjoint(self.common) and self.unshared.issuperset(located):
            self.unshared.add(out)
        self.find_elements(step, located)
        if all(v in self.uniform for v in located) and not is_curved and self.keeps_uniform(step, located, positions):
            self.uniform.add(out)
        return True

    def after_sum(self, step, located):
        """Adds the output of a sum over locations."""
        (out,), value = step.outputs, located[0]
        if step.name != SUM_OVER_AXES:
            if not self.common.union(self.curved).isdisjoint(step.inputs):
                return False
            self.own.add(out)
            return True
        if value in self.uniform:
            self.common.add(out)
            return True
        if out != self.primary:
            self.first_own = out if self.first_own is None else self.first_own
            self.own.add(out)
            return True
        elements = self.element_of.get(value)
        of_sum = output_element_of(self.program, step, value)
        if elements is None or of_sum is None or elements.min() < 0:
            return False
        by_axis = np.moveaxis(
            of_sum[elements].reshape(self.program.avals[self.seed].shape), self.axes, range(len(self.axes))
        )
        first = by_axis[(0,) * len(self.axes)]
        if (by_axis != first).any():
            return False  # the number that moves depends on the location
        self.primary_element_of = of_sum[elements]
        self.common.add(out)
        self.curved.add(out)
        return True

    def excludes_slice(self, step, value):
        """Leaves out the directions of a slice of few locations; the others do not move it. False if it is not such."""
        if len(self.axes) > 1 or value not in self.unshared or value in self.curved:
            return False
        (position,) = self.located[value]
        strides = step.params["strides"] or [1] * (position + 1)
        first, limit = (step.params[name][position] for name in ("start_indices", "limit_indices"))
        indices = np.arange(first, limit, strides[position]) - self.offsets[value]
        excluded = self.excluded.copy()
        excluded[indices[(indices >= 0) & (indices < excluded.size)]] = True
        if excluded.mean() > MOST_EXCLUDED:
            return False
        self.excluded = excluded
        return True

    def is_curved_alike(self, step, positions):
        """Whether every location reads the same curved value, element by element."""
        common = [v for v in step.inputs if v in self.curved and v not in self.located]
        if not common:
            return True
        # A value without axes is broadcast by the step itself.
        ranks = {len(self.program.avals[v].shape) for v in (*common, *step.outputs)} - {0}
        alike = len(ranks) == 1 and all(self.is_flat(v, positions) for v in common)
        return alike and is_elementwise(self.program, step)

    def find_elements(self, step, located):
        """Notes where each element of the seed goes in the output, apart from what moves with common values."""
        if not all(v in self.element_of for v in located):
            return
        first, *others = (self.element_of[v] for v in located)
        if not all(np.array_equal(first, elements) for elements in others):
            return
        after = output_element_of(self.program, step, located[0])
        if after is not None and first.min() >= 0:
            self.element_of[step.outputs[0]] = after[first]

    def positions_after(self, step, located):
        """The positions of the location axes in the output, or None if the step may mix locations."""
        positions = [
            _position_after(self.program, step, {v: self.located[v][i] for v in located}) for i in range(len(self.axes))
        ]
        return None if None in positions else tuple(positions)

    def elements_before(self, step, value):
        """The elements that a concatenation puts in front of a value."""
        if step.name != "concatenate":
            return 0
        lengths = [self.program.avals[v].shape[step.params["dimension"]] for v in step.inputs]
        return sum(lengths[: step.inputs.index(value)])

    def sums_over_locations(self, step, located):
        return all(sums_over(step, {v: self.located[v][i] for v in located}) for i in range(len(self.axes)))

    def keeps_uniform(self, step, located, positions):
        """Whether the output's local part is the same at every location, if those of the operands are.

        With operands a = S + L and b: a + b has the local part L, and a b has L b, if b is the same everywhere.
        """
        others = [v for v in step.inputs if v not in located]
        times = [step.inputs.count(v) for v in located]
        if step.name in REARRANGEMENTS or step.name in (SUM_OVER_AXES, "concatenate"):
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
