"""TODO."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Literal

from jaxcam.tracing._jaxpr import binder
from jaxcam.tracing._marks import _mark


class Block(NamedTuple):
    """What a step calls and keeps as a call, such as the body of a scan: its steps, and its inputs and outputs."""

    steps: tuple["Step", ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Step(NamedTuple):
    """An equation: which values it reads and makes, by number, and the blocks that it calls."""

    eqn: Any
    run: Callable[..., Sequence[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    blocks: tuple[Block, ...] = ()


class Flat:
    """A program as steps over numbered values.

    `entered(flat, eqn, inputs)` gives the numbers of an equation's outputs where it is a call whose steps are written
    out, or added in another way; None where it becomes one step.
    """

    def __init__(self, entered: Callable[["Flat", Any, tuple[int, ...]], Sequence[int] | None]):
        self.entered = entered
        self.count = 0
        self.steps: list[Step] = []
        self.constants: dict[int, Any] = {}

    def value(self) -> int:
        """A new number."""
        self.count += 1
        return self.count

    def constant(self, value: Any) -> int:
        """The number of a value that is known."""
        number = self.value()
        self.constants[number] = value
        return number

    def through(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[int]) -> list[int]:
        """The numbers of a jaxpr's outputs, from those of its inputs; its equations become steps."""
        number = dict(zip(jaxpr.invars, inputs, strict=True))
        number.update((var, self.constant(const)) for var, const in zip(jaxpr.constvars, consts, strict=True))

        def read(atom):
            return self.constant(atom.val) if isinstance(atom, Literal) else number[atom]

        for eqn in jaxpr.eqns:
            values = tuple(read(atom) for atom in eqn.invars)
            made = self.entered(self, eqn, values)
            if made is None:
                made = tuple(self.value() for _ in eqn.outvars)
                self.steps.append(Step(eqn, binder(eqn), values, made))
            number.update(zip(eqn.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def block(self, closed: ClosedJaxpr, inputs: Sequence[int]) -> Block:
        """A jaxpr as a block of its own, whose steps are not among those of the program."""
        outside, self.steps = self.steps, []
        outputs = self.through(closed.jaxpr, closed.consts, inputs)
        inside, self.steps = self.steps, outside
        return Block(tuple(inside), tuple(inputs), tuple(outputs))

    def same(self, numbers: Iterable[int]) -> set[int]:
        """The numbers and those that marks give to the same values."""
        numbers = set(numbers)
        for step in self.steps:
            if step.eqn.primitive is _mark and step.inputs[0] in numbers:
                numbers.update(step.outputs)
        return numbers


def _needed(steps, wanted, known):
    """The steps that make the wanted values from the known ones, and every value that they read."""
    needed, kept = set(wanted), []
    for step in reversed(steps):
        if needed.intersection(set(step.outputs) - known):
            kept.append(step)
            needed.update(step.inputs)
    return kept[::-1], needed
