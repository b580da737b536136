"""A traced program split at a marked value, or tapped at several.

A value is marked while the program is traced. The program is then split there into the equations that make the value
and those that make the outputs from it. Equations that neither needs are left out. On a CPU the convolutions that XLA
is slow at are rewritten (`_shifted_products.py`).

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.tracing import mark
    >>> def model(x):
    ...     hidden = mark(jnp.maximum(2 * x, 0), "hidden")
    ...     return hidden.sum() + x[0]
    >>> split = split_at("hidden", jax.make_jaxpr(model)(jnp.ones(3)))
    >>> (A,) = split.before(jnp.array([1.0, -1.0, 2.0]))
    >>> A.tolist(), split.after(A, jnp.array([5.0, 0.0, 0.0]))[0].item(), split.reads
    ([2.0, 0.0, 4.0], 11.0, (True,))

A tapped program runs as a whole, with an array added to each of several marked values:

    >>> tapped = tap(["hidden"], jax.make_jaxpr(model)(jnp.ones(3)))
    >>> values, (output,) = tapped.run({"hidden": jnp.ones(3)}, jnp.array([1.0, -1.0, 2.0]))
    >>> values["hidden"].tolist(), output.item()
    ([3.0, 1.0, 5.0], 10.0)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jaxcam.tracing._jaxpr import inner_jaxpr, inner_jaxprs, live, title_of
from jaxcam.tracing._marks import MARK, marks
from jaxcam.tracing._shifted_products import rewritten_convolution
from jaxcam.tracing._steps import FlatProgram, Step, evaluate, flatten, needed


class Split(NamedTuple):
    """A program in two parts.

    Attributes:
      before: the marked value from the program's inputs, `(*inputs) -> [value]`.
      after: the outputs from the marked value and the inputs, `(value, *inputs) -> [*outputs]`.
      aval: the value's shape and dtype.
      reads: for each input, whether the outputs need it once the value is known.
      needs: for each input, whether the program needs it at all.
    """

    before: Callable[..., list[Any]]
    after: Callable[..., list[Any]]
    aval: Any
    reads: tuple[bool, ...]
    needs: tuple[bool, ...]


class Tap(NamedTuple):
    """A program whose marked values can be added to.

    Attributes:
      run: `(added, *inputs) -> (values, [*outputs])`, with `added` and `values` by name. `values` are those after the
        addition. A name may be missing in `added`.
      avals: by name, the value's shape and dtype.
      needs: for each input, whether the program needs it at all.
    """

    run: Callable[..., tuple[dict[str, Any], list[Any]]]
    avals: dict[str, Any]
    needs: tuple[bool, ...]


class MarkedCall(NamedTuple):
    """A marked value: the name of its mark, and its number among the marks of that name that the outputs need."""

    name: str
    number: int = 0


def split_at(name: str | MarkedCall, closed: ClosedJaxpr, *, after: ClosedJaxpr | None = None) -> Split:
    """The program in two parts at the value marked `name`, which must be marked in no transformation.

    Args:
      name: of a mark that `marks` finds, or with its number one of several.
      closed: the program.
      after: a function of the marked value, `value -> [result]`, that the program applies to it. The program is then
        split at its result.

    Raises:
      ValueError: the program does not apply `after` to the value. The message names what it applies.
    """
    call = MarkedCall(name) if isinstance(name, str) else name
    program, needs = _flattened([call.name], closed)
    marked = _marked_value(program, call, after)
    steps_before, _ = needed(program.steps, [marked.before])
    steps_after, read = needed(program.steps, program.outputs, known=[marked.behind])
    inputs = iter(program.inputs)
    reads = tuple(need and next(inputs) in read for need in needs)

    def run_before(*values):
        made = evaluate(steps_before, _given(program, needs, values), rule=rewritten_convolution)
        return [made[marked.before]]

    def run_after(value, *values):
        given = _given(program, needs, values) | {marked.behind: value}
        made = evaluate(steps_after, given, rule=rewritten_convolution)
        return [made[v] for v in program.outputs]

    return Split(run_before, run_after, marked.aval, reads, needs)


def tap(
    names: Sequence[str] | Mapping[str, MarkedCall],
    closed: ClosedJaxpr,
    *,
    after: Mapping[str, ClosedJaxpr] | None = None,
) -> Tap:
    """The program with a place to add to each value that is marked by one of the names.

    The program stays whole, so its derivatives in everything that is added cost one backward pass.

    Args:
      names: of marks that `marks` finds, in no transformation; or a mark by each name of the result.
      closed: the program.
      after: by name, as in `split_at`.

    Raises:
      ValueError: as `split_at`.
    """
    calls = names if isinstance(names, Mapping) else {name: MarkedCall(name) for name in names}
    program, needs = _flattened([call.name for call in calls.values()], closed)
    marked = {name: _marked_value(program, call, (after or {}).get(name)) for name, call in calls.items()}
    steps, _ = needed(program.steps, [*program.outputs, *(value.behind for value in marked.values())])

    def run(added, *values):
        def add_deltas(step, inputs, known):
            outputs = rewritten_convolution(step, inputs, known) or step.run(*inputs)
            made = dict(zip(step.outputs, outputs, strict=True))
            for name, value in marked.items():  # several names may be at one value
                if name in added and value.behind in made:
                    made[value.behind] = made[value.behind] + added[name]
            return list(made.values())

        made = evaluate(steps, _given(program, needs, values), rule=add_deltas)
        return {name: made[value.behind] for name, value in marked.items()}, [made[v] for v in program.outputs]

    return Tap(run, {name: value.aval for name, value in marked.items()}, needs)


class _MarkedValue(NamedTuple):
    """A value that a program is split at: the same value has a number before the mark and one behind it."""

    before: int
    behind: int
    aval: Any


def _flattened(names: Sequence[str], closed: ClosedJaxpr) -> tuple[FlatProgram, tuple[bool, ...]]:
    """The program as steps, and for each input of `closed` whether the program needs it; it has no others.

    Calls are written out only if they hold one of the marks. The marks themselves become plain identities, and marks of
    other names are left out.
    """
    # Blocks return values that they were given, such as their state. `live` removes those that nothing uses, inside
    # the blocks too.
    program, needs = live(closed)

    def enter(builder, eqn, inputs):
        if eqn.primitive.name == MARK and eqn.params["name"] not in names:
            return inputs
        if not any(mark.name in names for inner in inner_jaxprs(eqn.params) for mark in marks(inner)):
            return None
        return builder.write_out(inner_jaxpr(eqn.params), inputs)

    flat = flatten(program, enter)
    steps = (
        step._replace(run=lambda x: [x]) if step.name == MARK and step.params["name"] in names else step
        for step in flat.steps
    )
    return flat._replace(steps=tuple(steps)), needs


def _given(program: FlatProgram, needs: Sequence[bool], values: Sequence[Any]) -> dict[int, Any]:
    """The program's inputs and constants by number, from values for all inputs of the program before `live`."""
    return program.given(value for value, need in zip(values, needs, strict=True) if need)


def _marked_value(program: FlatProgram, call: MarkedCall, after: ClosedJaxpr | None) -> _MarkedValue:
    """The value with this mark, or what `after` makes of it."""
    name, steps = call.name, [s for s in program.steps if s.name == MARK and s.params["name"] == call.name]
    step = steps[call.number]
    (before,), (behind,) = step.inputs, step.outputs
    if after is None:
        return _MarkedValue(before, behind, program.avals[behind])
    result = _result_of(after, program, behind, name)
    return _MarkedValue(result, result, after.out_avals[0])


def _result_of(after: ClosedJaxpr, program: FlatProgram, value: int, name: str) -> int:
    """The value that the program makes of another one by applying `after`, equation by equation."""
    # A constant may be made several times, so each variable of `after` stands for a set of values.
    numbers = {after.jaxpr.invars[0]: _with_marked(program.steps, [value])}
    for var, const in zip(after.jaxpr.constvars, after.consts, strict=True):
        numbers[var] = {number for number, other in program.constants.items() if _are_equal(const, other)}
    moving = {after.jaxpr.invars[0]}
    for eqn in after.jaxpr.eqns:
        matches = [step for step in program.steps if _matches(step, eqn, numbers, program.constants)]
        moves = any(not isinstance(atom, Literal) and atom in moving for atom in eqn.invars)
        if not matches or (moves and len(matches) > 1):
            readers = [step for step in program.steps if _with_marked(program.steps, [value]) & set(step.inputs)]
            titles = [title_of(step.name, step.params) for step in readers if step.name != MARK] or ["nothing"]
            times = "is not" if not matches else f"is {len(matches)} times"
            raise ValueError(
                f"after={title_of(eqn.primitive.name, eqn.params)} {times} what the model applies to the output of "
                f"{name!r}, which goes to: {', '.join(dict.fromkeys(titles))}"
            )
        moving.update(eqn.outvars if moves else ())
        for i, var in enumerate(eqn.outvars):
            numbers[var] = _with_marked(program.steps, (step.outputs[i] for step in matches))
    results = after.jaxpr.outvars
    if len(results) != 1 or isinstance(results[0], Literal) or results[0] not in moving:
        raise ValueError(f"after= must return one array that it makes of the output of {name!r}")
    return min(numbers[results[0]])  # the result itself comes before its copies behind other marks


def _with_marked(steps: Sequence[Step], numbers: Iterable[int]) -> set[int]:
    """The values, and the same values behind the marks that they go through."""
    numbers = set(numbers)
    for step in steps:
        if step.name == MARK and step.inputs[0] in numbers:
            numbers.update(step.outputs)
    return numbers


def _matches(step: Step, eqn: JaxprEqn, numbers: dict[Any, set[int]], constants: dict[int, Any]) -> bool:
    """Whether a step of the program is the equation of `after`, on values that match its variables."""
    if step.name != eqn.primitive.name or len(step.inputs) != len(eqn.invars):
        return False
    for atom, number in zip(eqn.invars, step.inputs, strict=True):
        if isinstance(atom, Literal):
            if number not in constants or not _are_equal(atom.val, constants[number]):
                return False
        elif number not in numbers[atom]:
            return False
    return _comparable_params(step.params) == _comparable_params(eqn.params)


def _are_equal(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())


def _comparable_params(params: dict[str, Any]) -> dict[str, Any]:
    """An equation's parameters as text, and the constants in them as bytes; functions are left out."""
    comparable = {}
    for key, value in params.items():
        if not callable(value):
            consts = [np.asarray(const).tobytes() for const in getattr(value, "consts", ())]
            comparable[key] = str(value), consts
    return comparable
