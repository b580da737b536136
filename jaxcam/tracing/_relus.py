"""Which values of a program are relus, however they are written. `jaxcam.tracing.rules` says what counts as one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcam.tracing._jaxpr import inner_jaxpr, scan_sizes
from jaxcam.tracing._primitives import (
    AFFINE_ELEMENTWISE,
    CALLS,
    CONTRACTIONS,
    CUSTOM_RULES,
    ELEMENTWISE,
    IDENTITIES,
    KEEPS_GUARDING,
    LOCALLY_CONSTANT,
    NEEDS_NONNEGATIVE,
    PASSING_ON,
    RELU_PARTS,
    REMAT,
    SUMS,
)
from jaxcam.tracing._steps import Builder, Step, innermost_steps


# ---- A program as a graph.
def enter_with_blocks(builder: Builder, eqn: JaxprEqn, inputs: tuple[int, ...]) -> Sequence[int] | None:
    """The `enter` that writes out calls, and gives remat, scan and cond their bodies as blocks."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        consts, _ = scan_sizes(params)
        body = params["jaxpr"]
        inside = [*inputs[:consts], *(builder.new_id(var.aval) for var in body.jaxpr.invars[consts:])]
        return builder.add_step(eqn, inputs, [builder.block(body, inside)])
    if name == "cond":
        return builder.add_step(eqn, inputs, [builder.block(branch, inputs[1:]) for branch in params["branches"]])
    if name in REMAT:
        return builder.add_step(eqn, inputs, [builder.block(inner_jaxpr(params), inputs)])
    if name in CUSTOM_RULES:
        return _outputs_unless_own_rule(builder, inner_jaxpr(params), inputs)
    if name in CALLS:
        return builder.write_out(inner_jaxpr(params), inputs)
    return None


def _outputs_unless_own_rule(builder: Builder, inner: ClosedJaxpr, inputs: Sequence[int]) -> Sequence[int] | None:
    """Writes out a function with a custom rule if it is a relu or a block of layers; otherwise its rule is kept."""
    before = len(builder.steps)
    outputs = builder.write_out(inner, inputs)
    graph = ValueGraph(builder.steps[before:], builder.constants, outputs, builder.avals)
    names = {step.name for step in graph.steps}
    if (names <= RELU_PARTS or names & CONTRACTIONS) and relus_of(graph):
        return outputs
    del builder.steps[before:]
    return None


class _Use(NamedTuple):
    """A step that reads a value, as which of its inputs."""

    step: Step
    place: int


class ValueGraph:
    """Which step makes each value, which steps use it, and which other values it is inside and outside of blocks."""

    def __init__(self, steps: Sequence[Step], constants: dict[int, Any], outputs: Sequence[int], avals: Sequence[Any]):
        self.steps = list(innermost_steps(steps))
        self.constants, self.outputs, self.avals = constants, set(outputs), avals
        self.maker: dict[int, Step] = {v: step for step in self.steps for v in step.outputs}
        self.uses: dict[int, list[_Use]] = {}
        for step in self.steps:
            for place, v in enumerate(step.inputs):
                self.uses.setdefault(v, []).append(_Use(step, place))
        self.onward: dict[int, list[int]] = {}
        self._connect_blocks(steps)

    def _connect_blocks(self, steps: Sequence[Step]) -> None:
        for step in steps:
            for block in step.blocks:
                self._connect(step.inputs[step.name == "cond" :], block.inputs)
                self._connect(block.outputs, step.outputs)
                if step.name == "scan":
                    consts, carry = scan_sizes(step.params)
                    self._connect(block.outputs[:carry], block.inputs[consts : consts + carry])
                self._connect_blocks(block.steps)

    def _connect(self, values: Sequence[int], others: Sequence[int]) -> None:
        for v, other in zip(values, others, strict=True):
            if v != other:
                self.onward.setdefault(v, []).append(other)

    def made_by(self, v: int) -> tuple[str, tuple[int, ...]]:
        """The primitive that makes a value and its inputs; `("", ())` for an input or a constant of the program."""
        step = self.maker.get(v)
        return (step.name, step.inputs) if step else ("", ())

    def constant_of(self, v: int) -> float | None:
        """The number that all elements of a value are; None if they differ or are not known."""
        name, inputs = self.made_by(v)
        while name in PASSING_ON:
            (v, *_) = inputs
            name, inputs = self.made_by(v)
        constant = self.constants.get(v)
        if constant is None or isinstance(constant, jax.core.Tracer):
            return None
        if not getattr(constant, "is_fully_addressable", True) or not np.size(constant):
            return None
        elements = np.asarray(constant).ravel()
        return float(elements[0]) if (elements == elements[0]).all() else None

    def uncast(self, v: int) -> int:
        """The value whose elements this one has, perhaps in another type."""
        name, inputs = self.made_by(v)
        while name in IDENTITIES:
            (v,) = inputs
            name, inputs = self.made_by(v)
        return v


# ---- What is a relu.
def relus_of(graph: ValueGraph) -> dict[int, int]:
    """The values that are relus, each with the index of x among the inputs of the step that makes it."""
    found = {}
    for step in graph.steps:
        place = place_of_x(graph, step)
        if place is not None and not (
            _is_guard(graph, step.outputs[0])
            or _is_part_of_an_activation(graph, step.outputs[0], step.inputs[place])
            or _is_hard_sigmoid(graph, step, step.inputs[place])
        ):
            found[step.outputs[0]] = place
    return found


def place_of_x(graph: ValueGraph, step: Step) -> int | None:
    """The index of the input x if the step makes max(x, 0), None if it makes something else."""
    name, inputs = step.name, step.inputs
    floating = all(jnp.issubdtype(graph.avals[v].dtype, jnp.floating) for v in step.outputs)
    if name not in ("max", "clamp", "select_n", "mul") or not floating:
        return None
    place = None
    if name == "max":
        place = next((i for i in (0, 1) if graph.constant_of(inputs[1 - i]) == 0), None)
    elif name == "clamp" and graph.constant_of(inputs[0]) == 0:
        place = 1
    elif name == "select_n" and len(inputs) == 3:
        x, positive = _sign_condition(graph, inputs[0])
        kept = 2 if positive else 1
        if graph.uncast(inputs[kept]) == x and graph.constant_of(inputs[3 - kept]) == 0:
            place = kept
    elif name == "mul":
        place = next(
            (i for i in (0, 1) if _mask_condition(graph, inputs[1 - i]) == (graph.uncast(inputs[i]), True)), None
        )
    if place is None or graph.avals[inputs[place]].shape != graph.avals[step.outputs[0]].shape:
        return None
    return place


def _sign_condition(graph: ValueGraph, v: int) -> tuple[int | None, bool]:
    """`(x, True)` for x > 0 or x >= 0, `(x, False)` for x < 0 or x <= 0, `(None, False)` for anything else."""
    name, inputs = graph.made_by(v)
    if name == "not":
        x, positive = _sign_condition(graph, inputs[0])
        return x, not positive
    if name in ("gt", "ge", "lt", "le"):
        for i in (0, 1):
            if graph.constant_of(inputs[1 - i]) == 0:
                return graph.uncast(inputs[i]), (name in ("gt", "ge")) == (i == 0)
    return None, False


def _mask_condition(graph: ValueGraph, v: int) -> tuple[int | None, bool]:
    """As `_sign_condition`, of the condition whose mask a value is: 1 if the condition holds, else 0."""
    v = graph.uncast(v)
    name, inputs = graph.made_by(v)
    if name == "select_n" and len(inputs) == 3:
        cases = tuple(map(graph.constant_of, inputs[1:]))
        x, positive = _sign_condition(graph, inputs[0])
        return (x, positive == (cases == (0, 1))) if cases in ((0, 1), (1, 0)) else (None, False)
    return _sign_condition(graph, v)


def _is_guard(graph: ValueGraph, v: int) -> bool:
    """Whether all steps that read a value, perhaps moved or scaled, are roots, logarithms and divisions by it.

    The maximum with zero then guards them from rounding. The value may also be an output of the program, such as a
    variance that is kept for later.
    """
    seen, pending, guarded = {v}, [v], False
    while pending:
        w = pending.pop()
        further = list(graph.onward.get(w, ()))
        for use in graph.uses.get(w, ()):
            name = use.step.name
            if name in LOCALLY_CONSTANT or (name == "select_n" and use.place == 0):
                continue
            if _needs_a_guard(graph, use):
                guarded = True
            elif name in KEEPS_GUARDING or (name == "div" and use.place == 0):
                if sum(u in seen for u in use.step.inputs) > 1:  # such as its square
                    return False
                further.extend(use.step.outputs)
            else:
                return False
        pending += [u for u in further if u not in seen]
        seen.update(further)
    return guarded or not (graph.outputs & seen)


def _needs_a_guard(graph: ValueGraph, use: _Use) -> bool:
    name, inputs = use.step.name, use.step.inputs
    if name == "div":
        return use.place == 1 and inputs[0] != inputs[1]
    if name == "pow":
        power = graph.constant_of(inputs[1])
        return use.place == 0 and power is not None and power < 1
    return name in NEEDS_NONNEGATIVE or (name == "integer_pow" and use.step.params["y"] < 0)


def _is_part_of_an_activation(graph: ValueGraph, v: int, x: int) -> bool:
    """Whether v, a relu of x, is added to another function of x that is not linear."""
    root, pending, seen = _unscaled(graph, x), [v], {v}
    while pending:
        w = pending.pop()
        for use in graph.uses.get(w, ()):
            name, inputs = use.step.name, use.step.inputs
            if name in SUMS - {"neg"} and inputs[0] != inputs[1]:
                if _is_curved_in(graph, inputs[1 - use.place], root, v):
                    return True
            elif name in IDENTITIES | {"neg", "mul"} and use.step.outputs[0] not in seen:
                pending.append(use.step.outputs[0])
                seen.add(use.step.outputs[0])
    return False


def _is_curved_in(graph: ValueGraph, v: int, root: int, relu: int) -> bool:
    """Whether a value is an elementwise function of the root and of the program's inputs, and not affine.

    Paths through the relu itself are ignored: adding a relu's output to something computed from that output does not
    make it part of another activation.
    """
    pending, seen, curved, reaches_root = [v] if v != relu else [], {v, relu}, False, False
    while pending:
        w = pending.pop()
        name, inputs = graph.made_by(w)
        if _unscaled(graph, w) == root:
            reaches_root = True
        elif name in ELEMENTWISE | PASSING_ON:
            curved = curved or name not in AFFINE_ELEMENTWISE | PASSING_ON
            pending += [u for u in inputs if u not in seen]
            seen.update(inputs)
        elif name:
            return False
    return curved and reaches_root


def _unscaled(graph: ValueGraph, v: int) -> int:
    """The value that this one is a multiple of, by a known number, perhaps in another type."""
    while True:
        v = graph.uncast(v)
        name, inputs = graph.made_by(v)
        if name == "neg":
            (v,) = inputs
        elif name in ("mul", "div") and graph.constant_of(inputs[1]) is not None:
            v = inputs[0]
        elif name == "mul" and graph.constant_of(inputs[0]) is not None:
            v = inputs[1]
        else:
            return v


def _is_hard_sigmoid(graph: ValueGraph, step: Step, x: int) -> bool:
    """Whether a step clips x + c to 0..d. That is a gate, and its lower end is not a relu."""
    clipped = step.name == "clamp"
    uses = graph.uses.get(step.outputs[0], ())
    if uses and all(use.step.name == "min" for use in uses):
        clipped = True
    name, inputs = graph.made_by(_unscaled(graph, x))
    if name == "min":  # the upper end comes first
        clipped = True
        x = inputs[0] if graph.constant_of(inputs[1]) is not None else inputs[1]
        name, inputs = graph.made_by(_unscaled(graph, x))
    return clipped and name in ("add", "sub") and any(graph.constant_of(v) not in (None, 0) for v in inputs)
