"""Programs that JAX has traced: what the calls in them hold, and how one is split at a marked value.

A value is marked while the program is traced, and the program then comes apart there: the equations that make the
value, and those that make the outputs from it. What neither needs is left out.

    >>> import jax, jax.numpy as jnp
    >>> def model(x):
    ...     hidden = mark(jnp.maximum(2 * x, 0), "hidden")
    ...     return hidden.sum() + x[0]
    >>> split = split_at("hidden", jax.make_jaxpr(model)(jnp.ones(3)))
    >>> (A,) = split.before(jnp.array([1.0, -1.0, 2.0]))
    >>> A.tolist(), split.after(A, jnp.array([5.0, 0.0, 0.0]))[0].item(), split.reads
    ([2.0, 0.0, 4.0], 11.0, (True,))

Or it runs as a whole, with something added to each of several marked values:

    >>> tapped = tap(["hidden"], jax.make_jaxpr(model)(jnp.ones(3)))
    >>> values, (output,) = tapped.run({"hidden": jnp.ones(3)}, jnp.array([1.0, -1.0, 2.0]))
    >>> values["hidden"].tolist(), output.item()
    ([3.0, 1.0, 5.0], 10.0)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxcam.tracing._jaxpr import _title, inner_jaxpr, inner_jaxprs, live
from jaxcam.tracing._marks import _mark, marks
from jaxcam.tracing._steps import Flat, _needed


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
      run: `(added, *inputs) -> (values, [*outputs])`, `added` and `values` by name. What is added to a value is part of
        it, and of all that is made of it; a name that is missing in `added` has nothing added.
      avals: by name, the value's shape and dtype.
      needs: for each input, whether the program needs it at all.
    """

    run: Callable[..., tuple[dict[str, Any], list[Any]]]
    avals: dict[str, Any]
    needs: tuple[bool, ...]


def split_at(name: str, closed: ClosedJaxpr, *, after: ClosedJaxpr | None = None) -> Split:
    """The program in two parts at the value that is marked `name`, which must be marked once and in no transformation.

    Args:
      name: of a mark that `marks` finds.
      closed: the program.
      after: a function of the marked value, `value -> [result]`, that the program applies to it; the split is then at
        its result.

    Raises:
      ValueError: `after` is not what the program does with the value; the message names what it does.
    """
    flat, inputs, outputs, needs = _flattened([name], closed)
    made, kept, aval = _place(flat, name, after)

    def run(needed, given, wanted):
        def evaluate(*values):
            known = dict(zip(given, values, strict=True)) | flat.constants
            for step in needed:
                out = step.run(*(known[v] for v in step.inputs))
                known.update(zip(step.outputs, out, strict=True))
            return [known[v] for v in wanted]

        return evaluate

    before, _ = _needed(flat.steps, [made], set())
    rest, reads = _needed(flat.steps, outputs, {kept})
    return Split(
        run(before, inputs, [made]),
        run(rest, [kept, *inputs], outputs),
        aval,
        tuple(v in reads for v in inputs),
        needs,
    )


def tap(names: Sequence[str], closed: ClosedJaxpr, *, after: Mapping[str, ClosedJaxpr] | None = None) -> Tap:
    """The program as it is, but that each value that is marked by one of the names can be added to.

    All of them stay in one program: its derivatives in what is added to each are one backward pass.

    Args:
      names: of marks that `marks` finds, each of them once and in no transformation.
      closed: the program.
      after: by name, as in `split_at`.

    Raises:
      ValueError: as `split_at`.
    """
    flat, inputs, outputs, needs = _flattened(names, closed)
    places = {name: _place(flat, name, (after or {}).get(name)) for name in names}
    kept = {name: number for name, (_, number, _) in places.items()}
    steps, _ = _needed(flat.steps, [*outputs, *kept.values()], set())

    def run(added, *values):
        known = dict(zip(inputs, values, strict=True)) | flat.constants
        for step in steps:
            known.update(zip(step.outputs, step.run(*(known[v] for v in step.inputs)), strict=True))
            for name, number in kept.items():
                if name in added and number in step.outputs:
                    known[number] = known[number] + added[name]
        return {name: known[number] for name, number in kept.items()}, [known[v] for v in outputs]

    return Tap(run, {name: aval for name, (_, _, aval) in places.items()}, needs)


def _flattened(names, closed):
    """The program in steps, the numbers of its inputs and outputs, and which of its inputs it needs.

    The calls that hold one of the marks, and no others, are entered.
    """
    # Blocks return what they are given, such as their state: what is not used of it goes first, inside them too.
    program, needs = live(closed)

    def entered(flat, eqn, values):
        if not any(m.name in names for inner in inner_jaxprs(eqn.params) for m in marks(inner)):
            return None
        inner = inner_jaxpr(eqn.params)
        return flat.through(inner.jaxpr, inner.consts, values)

    flat = Flat(entered)
    inputs = [flat.value() for _ in closed.jaxpr.invars]
    given = [v for v, needed in zip(inputs, needs, strict=True) if needed]
    return flat, inputs, flat.through(program.jaxpr, program.consts, given), needs


def _place(flat, name, after):
    """The numbers of a marked value before and behind its mark, which is that of `after`'s result, and its type."""
    ((place, at),) = [
        (i, step)
        for i, step in enumerate(flat.steps)
        if step.eqn.primitive is _mark and step.eqn.params["name"] == name
    ]
    flat.steps[place] = at._replace(run=lambda x: [x])
    (made,), (kept,), aval = at.inputs, at.outputs, at.eqn.outvars[0].aval
    if after is None:
        return made, kept, aval
    kept = _follow(after, flat, kept, name)
    return kept, kept, after.out_avals[0]


def _follow(after, flat, value, name):
    """The number of the value that the program makes by applying `after`, equation by equation."""
    # A constant may be made several times, so each value of `after` stands for a set of numbers.
    numbers = {after.jaxpr.invars[0]: flat.same([value])}
    for var, const in zip(after.jaxpr.constvars, after.consts, strict=True):
        numbers[var] = {number for number, other in flat.constants.items() if _equal(const, other)}
    moving = {after.jaxpr.invars[0]}
    for eqn in after.jaxpr.eqns:
        same = [step for step in flat.steps if _same(step, eqn, numbers, flat.constants)]
        moves = any(not isinstance(atom, Literal) and atom in moving for atom in eqn.invars)
        if not same or (moves and len(same) > 1):
            users = [step.eqn for step in flat.steps if flat.same([value]).intersection(step.inputs)]
            does = [_title(user) for user in users if user.primitive is not _mark] or ["nothing"]
            times = "is not" if not same else f"is {len(same)} times"
            raise ValueError(
                f"after={_title(eqn)} {times} what the model applies to the output of {name!r}, which goes to: "
                f"{', '.join(dict.fromkeys(does))}"
            )
        moving.update(eqn.outvars if moves else ())
        for i, var in enumerate(eqn.outvars):
            numbers[var] = flat.same(step.outputs[i] for step in same)
    results = after.jaxpr.outvars
    if len(results) != 1 or isinstance(results[0], Literal) or results[0] not in moving:
        raise ValueError(f"after= has to return one array that it makes of the output of {name!r}")
    return min(numbers[results[0]])  # the result itself comes before what other marks make of it


def _same(step, eqn, numbers, constants):
    """Whether a step of the program is the equation, on the values that were found so far."""
    if step.eqn.primitive is not eqn.primitive or len(step.inputs) != len(eqn.invars):
        return False
    for atom, number in zip(eqn.invars, step.inputs, strict=True):
        if isinstance(atom, Literal):
            if number not in constants or not _equal(atom.val, constants[number]):
                return False
        elif number not in numbers[atom]:
            return False
    return _comparable(step.eqn.params) == _comparable(eqn.params)


def _equal(one, other):
    one, other = (np.asarray(value) for value in (one, other))
    return one.shape == other.shape and one.dtype == other.dtype and bool((one == other).all())


def _comparable(params):
    """An equation's parameters, without the functions among them: as text, constants as their bytes."""
    described = {}
    for key, value in params.items():
        if not callable(value):
            held = [np.asarray(const).tobytes() for const in getattr(value, "consts", ())]
            described[key] = str(value), held
    return described
