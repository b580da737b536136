"""Where a program's input goes: which values all of its paths to the outputs go through, and where an axis is mixed."""

import math
from collections.abc import Iterator, Sequence

from jaxcam.tracing._marks import MARK
from jaxcam.tracing._primitives import ALONG_ITS_AXES, CONTRACTIONS, PASSING_ON, WINDOW_REDUCTIONS
from jaxcam.tracing._steps import FlatProgram, Step, needed

_ALONG_ITS_AXES = ALONG_ITS_AXES | {MARK}


def passed_by_all(program: FlatProgram, source: int) -> set[int]:
    """The values that every path from an input to the outputs goes through.

    If one of them is known, the outputs do not need the input. In the order of the steps, a value is on every path if
    no step behind it reads something that was made from the input before it. If no path leads to the outputs, all
    values are.

    Args:
      program: in the order of evaluation.
      source: the number of the input.

    Example:
      >>> import jax
      >>> from jaxcam.tracing._steps import entering, flatten
      >>> def f(x):
      ...     y = jax.numpy.sin(x)
      ...     return jax.numpy.exp(y + jax.numpy.cos(y))
      >>> program = flatten(jax.make_jaxpr(f)(1.0), entering(()))
      >>> on_all_paths = passed_by_all(program, program.inputs[0])
      >>> [step.name for step in program.steps if step.outputs[0] in on_all_paths]
      ['sin', 'add', 'exp']
    """
    steps, read = needed(program.steps, program.outputs)
    on_a_path = {source}
    for step in steps:
        if not on_a_path.isdisjoint(step.inputs):
            on_a_path.update(v for v in step.outputs if v in read)
    if on_a_path.isdisjoint(program.outputs):
        return {v for step in steps for v in step.outputs}
    last_use: dict[int, float] = {}
    for place, step in enumerate(steps):
        if not on_a_path.isdisjoint(step.outputs):
            last_use |= {v: place for v in step.inputs if v in on_a_path}
    last_use |= {v: math.inf for v in program.outputs if v in on_a_path}
    passed, latest = {source}, last_use[source]
    for place, step in enumerate(steps):
        made = [v for v in step.outputs if v in on_a_path]
        if latest <= place:
            passed.update(made if len(made) == 1 else ())
        latest = max([latest, *(last_use[v] for v in made)])
    return passed


def mixes(program: FlatProgram, value: int, axis: int) -> bool:
    """Whether the steps behind a value mix the places of one of its axes, so that the outputs may depend on all.

    Attention does, and a mean over the axis, or a step that is not known. Taking one place, as the head of a vision
    transformer takes the class token, does not.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxcam.tracing._steps import entering, flatten
      >>> for f in (lambda x: jnp.sin(x)[0] @ jnp.ones([3, 2]), lambda x: jnp.sin(x).mean(0)):
      ...     program = flatten(jax.make_jaxpr(f)(jnp.ones([5, 3])), entering(()))
      ...     print(mixes(program, program.inputs[0], 0))
      False
      True
    """
    axes = {value: frozenset([axis])}
    for step in program.steps:
        tracked = [(place, v) for place, v in enumerate(step.inputs) if axes.get(v)]
        if not tracked:
            continue
        out_shape = program.avals[step.outputs[0]].shape
        kept: set[int] = set()
        for place, v in tracked:
            for axis in axes[v]:
                where = _axis_behind(step, place, axis, [program.avals[u].shape for u in step.inputs], out_shape)
                if where is None:
                    return True
                kept.add(where)
        # An axis of length 1 is one place that was taken.
        still = frozenset(where for where in kept if where >= 0 and out_shape[where] > 1)
        axes |= dict.fromkeys(step.outputs, still)
    return False


def _axis_behind(
    step: Step, place: int, axis: int, shapes: Sequence[tuple[int, ...]], out_shape: tuple[int, ...]
) -> int | None:
    """The axis of a step's result that an axis of its operand becomes; -1 if it is gone, None if it is mixed."""
    name, params, shape = step.name, step.params, shapes[place]
    if name in _ALONG_ITS_AXES:
        same = len(out_shape) == len(shape)
        return axis if same else (-1 if not shape or name == "gather" else None)
    if name == "transpose":
        return list(params["permutation"]).index(axis)
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][axis]
    if name in ("squeeze", "reshape", "expand_dims"):
        return _axis_reshaped(axis, shape, out_shape)
    if name in ("reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin"):
        gone = params["axes"]
        return None if axis in gone else axis - sum(other < axis for other in gone)
    if name == "dot_general":
        return _axis_contracted(params["dimension_numbers"], place, axis, [len(shape) for shape in shapes])
    return None


def _axis_reshaped(axis: int, shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int | None:
    """The axis of the same length at the same place, or None if the axis is merged or divided."""
    before = math.prod(shape[:axis])
    for other, size in enumerate(out_shape):
        if size == shape[axis] and math.prod(out_shape[:other]) == before:
            return other
    return None


def _axis_contracted(numbers, place: int, axis: int, ranks: Sequence[int]) -> int | None:
    contracted, batch = numbers
    if axis in contracted[place]:
        return None
    if axis in batch[place]:
        return list(batch[place]).index(axis)
    free = [
        [other for other in range(ranks[side]) if other not in (*contracted[side], *batch[side])] for side in (0, 1)
    ]
    return len(batch[0]) + (len(free[0]) if place else 0) + free[place].index(axis)


def contraction_places(program: FlatProgram, on_paths: set[int]) -> list[int]:
    """The places of the steps that multiply by a matrix or convolve one of these values."""
    return [
        place
        for place, step in enumerate(program.steps)
        if step.name in CONTRACTIONS and not on_paths.isdisjoint(step.inputs)
    ]


def rearranged_from(program: FlatProgram, value: int) -> int:
    """The earliest value that has the same elements as this one, in another shape or type."""
    for step in _makers(program, value):
        size = math.prod(program.avals[step.outputs[0]].shape)
        taken = step.name in ("slice", "dynamic_slice", "gather")  # all elements, such as x[0] of a batch of one
        if step.name not in PASSING_ON | {MARK} and not taken:
            break
        if math.prod(program.avals[step.inputs[0]].shape) != size:
            break
        value = step.inputs[0]
    return value


def pooled_from(program: FlatProgram, value: int) -> Iterator[int]:
    """The values that this one is a maximum or a mean over windows of, from the last to the first."""
    pooled = False
    for step in _makers(program, value):
        pooled = pooled or step.name in WINDOW_REDUCTIONS
        if step.name not in PASSING_ON | WINDOW_REDUCTIONS | {MARK, "pad", "div", "mul"}:
            break
        if step.name in ("div", "mul") and not _is_rescaling(program, step):
            break
        if pooled:
            yield step.inputs[0]


def _is_rescaling(program: FlatProgram, step: Step) -> bool:
    """Whether a product or a quotient is by numbers that no input of the program changes."""
    changing = set(program.inputs)
    for earlier in program.steps:
        if not changing.isdisjoint(earlier.inputs):
            changing.update(earlier.outputs)
    return step.inputs[0] in changing and step.inputs[1] not in changing


def _makers(program: FlatProgram, value: int) -> Iterator[Step]:
    """The step that makes a value, the one that makes its first operand, and so on."""
    made_by = {v: step for step in program.steps for v in step.outputs}
    while value in made_by and made_by[value].inputs:
        yield made_by[value]
        value = made_by[value].inputs[0]
