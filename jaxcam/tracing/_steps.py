"""A traced program as steps over numbered values. It is flattened, sliced and evaluated here and nowhere else.

    >>> import jax, jax.numpy as jnp
    >>> closed = jax.make_jaxpr(jax.jit(lambda x: (jnp.sin(x) + 1, 2 * x)))(1.0)
    >>> program = flatten(closed, entering({"jit"}))
    >>> [step.name for step in program.steps]
    ['sin', 'add', 'mul']
    >>> steps, read = needed(program.steps, program.outputs[1:])
    >>> values = evaluate(steps, program.given([3.0]))
    >>> [step.name for step in steps], values[program.outputs[1]].item()
    (['mul'], 6.0)

The exceptions, which work on a jaxpr itself: `live` asks JAX to remove dead equations inside loops and branches as
well, which are one step here; `marks` and `inner_jaxprs` only look.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jaxcam.tracing._jaxpr import binder, inner_jaxpr


class Block(NamedTuple):
    """A jaxpr that a step calls and keeps as a call, such as the body of a scan: its steps, inputs and outputs."""

    steps: tuple["Step", ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Step(NamedTuple):
    """One equation of a program. The values that it reads and makes are numbers.

    Attributes:
      name: of the primitive.
      params: of the equation.
      run: applies the primitive, `(*inputs) -> [*outputs]`.
      inputs: the values that it reads; a literal has a number, too.
      outputs: the values that it makes.
      blocks: the jaxprs that it calls, where `enter` asked for them. Their values are numbered with the program's own.
      within: the titles of the calls that were written out around it.
    """

    name: str
    params: dict[str, Any]
    run: Callable[..., Sequence[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    blocks: tuple[Block, ...] = ()
    within: tuple[str, ...] = ()


class FlatProgram(NamedTuple):
    """A program as steps in the order of evaluation, with the shape and dtype of each value by its number."""

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict[int, Any]
    avals: tuple[Any, ...]

    def given(self, inputs: Iterable[Any]) -> dict[int, Any]:
        """The values that are known before the first step: the constants and the inputs."""
        return self.constants | dict(zip(self.inputs, inputs, strict=True))


Enter = Callable[["Builder", JaxprEqn, tuple[int, ...]], Sequence[int] | None]


def flatten(closed: ClosedJaxpr, enter: Enter) -> FlatProgram:
    """The program as steps.

    Args:
      closed: the program.
      enter: `(builder, equation, inputs) -> outputs`, which adds the steps of an equation to the builder, for calls
        that are written out (`Builder.write_out`) or have blocks (`Builder.block`). It returns None for an equation
        that becomes one step.
    """
    builder = Builder(enter)
    inputs = tuple(builder.new_id(var.aval) for var in closed.jaxpr.invars)
    outputs = builder.write_out(closed, inputs)
    return FlatProgram(tuple(builder.steps), inputs, tuple(outputs), builder.constants, tuple(builder.avals))


def entering(names: Collection[str]) -> Enter:
    """The `enter` that writes out the calls with these names, and no others."""

    def enter(builder, eqn, inputs):
        return builder.write_out(inner_jaxpr(eqn.params), inputs) if eqn.primitive.name in names else None

    return enter


class Builder:
    """A program that is being flattened: numbers its values and collects its steps."""

    def __init__(self, enter: Enter):
        self.enter = enter
        self.steps: list[Step] = []
        self.constants: dict[int, Any] = {}
        self.avals: list[Any] = []
        self.within: tuple[str, ...] = ()

    def new_id(self, aval: Any) -> int:
        """The number of a new value."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def new_constant(self, aval: Any, value: Any) -> int:
        """The number of a new value that is known."""
        number = self.new_id(aval)
        self.constants[number] = value
        return number

    def add_step(self, eqn: JaxprEqn, inputs: Sequence[int], blocks: Sequence[Block] = ()) -> tuple[int, ...]:
        """Adds an equation as one step and returns the numbers of its outputs."""
        outputs = tuple(self.new_id(var.aval) for var in eqn.outvars)
        name, params = eqn.primitive.name, eqn.params
        self.steps.append(Step(name, params, binder(eqn), tuple(inputs), outputs, tuple(blocks), self.within))
        return outputs

    def write_out(self, closed: ClosedJaxpr, inputs: Sequence[int], *, title: str | None = None) -> list[int]:
        """Adds a jaxpr's equations as steps and returns the numbers of its outputs."""
        outer, self.within = self.within, self.within if title is None else (*self.within, title)
        numbers = dict(zip(closed.jaxpr.invars, inputs, strict=True))
        for var, const in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            numbers[var] = self.new_constant(var.aval, const)

        def number_of(atom):
            return self.new_constant(atom.aval, atom.val) if isinstance(atom, Literal) else numbers[atom]

        for eqn in closed.jaxpr.eqns:
            read = tuple(number_of(atom) for atom in eqn.invars)
            made = self.enter(self, eqn, read)
            if made is None:
                made = self.add_step(eqn, read)
            numbers.update(zip(eqn.outvars, made, strict=True))
        self.within = outer
        return [number_of(atom) for atom in closed.jaxpr.outvars]

    def block(self, closed: ClosedJaxpr, inputs: Sequence[int]) -> Block:
        """A jaxpr as a block, whose steps are not among those of the program."""
        outside, self.steps = self.steps, []
        outputs = self.write_out(closed, inputs)
        inside, self.steps = self.steps, outside
        return Block(tuple(inside), tuple(inputs), tuple(outputs))


class _ReadsAndMakes(Protocol):
    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def outputs(self) -> tuple[int, ...]: ...


S = TypeVar("S", bound=_ReadsAndMakes)


def needed(steps: Sequence[S], wanted: Iterable[int], *, known: Collection[int] = ()) -> tuple[tuple[S, ...], set[int]]:
    """The steps that the wanted values need, and all values that are read, the wanted ones among them.

    Args:
      steps: in the order of evaluation: steps, or anything with `inputs` and `outputs`.
      wanted: numbers of values.
      known: values that need no step.
    """
    read, kept = set(wanted), []
    for step in reversed(steps):
        if any(v in read and v not in known for v in step.outputs):
            kept.append(step)
            read.update(step.inputs)
    return tuple(reversed(kept)), read


def evaluate(
    steps: Iterable[Any],
    values: dict[int, Any],
    *,
    rule: Callable[[Any, list[Any], dict[int, Any]], Sequence[Any] | None] | None = None,
) -> dict[int, Any]:
    """The values with those added that the steps make.

    Args:
      steps: in the order of evaluation: steps, or, with a rule for all of them, anything with `inputs` and `outputs`.
      values: by number; all that the steps read and do not make.
      rule: `(step, inputs, values) -> outputs`, in the place of `step.run`; None for a step that runs as it is.
    """
    values = dict(values)
    for step in steps:
        inputs = [values[v] for v in step.inputs]
        made = None if rule is None else rule(step, inputs, values)
        if made is None:
            made = step.run(*inputs)
        values.update(zip(step.outputs, made, strict=True))
    return values


def innermost_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps that compute something: those of blocks in the place of the step that calls them."""
    for step in steps:
        if step.blocks:
            for block in step.blocks:
                yield from innermost_steps(block.steps)
        else:
            yield step
