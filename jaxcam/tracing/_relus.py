"""TODO."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxcam.tracing._jaxpr import binder, inner_jaxpr, scan_sizes
from jaxcam.tracing._primitives import CALLS, ELEMENTWISE, RULES
from jaxcam.tracing._steps import Block, Flat, Step

REMAT = frozenset("remat checkpoint remat2".split())

# One input that is passed on as it is but for its shape and type.
MOVES = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose rev slice copy copy_p name".split()) | {
    "convert_element_type", "reduce_precision",
}  # fmt: skip
SAME = frozenset("convert_element_type reduce_precision copy copy_p name".split())
AFFINE = frozenset("add sub add_any neg mul".split()) | SAME
LAYERS = frozenset("dot_general conv_general_dilated".split())

# All that a function with its own rule may consist of that is nothing but a relu.
PIECES = frozenset("max min clamp select_n mul gt ge lt le not broadcast_in_dim".split()) | SAME
WITHOUT_GRADIENT = frozenset("gt ge lt le eq ne sign floor ceil round is_finite stop_gradient argmax argmin".split())


# ---- A program as a graph: calls written out, and remat, scan and cond as blocks that share its numbers.
def _entered(flat, eqn, inputs):
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        consts, carry = scan_sizes(params)
        body = params["jaxpr"]
        inside = [*inputs[:consts], *(flat.value() for _ in body.jaxpr.invars[consts:])]
        return _kept(flat, eqn, inputs, [flat.block(body, inside)])
    if name == "cond":
        return _kept(flat, eqn, inputs, [flat.block(branch, inputs[1:]) for branch in params["branches"]])
    if name in REMAT:
        return _kept(flat, eqn, inputs, [flat.block(inner_jaxpr(params), inputs)])
    if name in RULES:
        return _unless_it_has_its_own_rule(flat, inner_jaxpr(params), inputs)
    if name in CALLS:
        inner = inner_jaxpr(params)
        return flat.through(inner.jaxpr, inner.consts, inputs)
    return None


def _kept(flat, eqn, inputs, blocks):
    made = tuple(flat.value() for _ in eqn.outvars)
    flat.steps.append(Step(eqn, binder(eqn), tuple(inputs), made, tuple(blocks)))
    return made


def _unless_it_has_its_own_rule(flat: Flat, inner: ClosedJaxpr, inputs: Sequence[int]) -> Sequence[int] | None:
    before = len(flat.steps)
    outputs = flat.through(inner.jaxpr, inner.consts, inputs)
    graph = _Graph(flat.steps[before:], flat.constants, outputs)
    names = {step.eqn.primitive.name for step in graph.steps}
    if (names <= PIECES or names & LAYERS) and _relus(graph):
        return outputs
    del flat.steps[before:]
    return None


def _written_out(blocks: Sequence[Block]) -> Iterator[Step]:
    for block in blocks:
        yield from _flattened(block.steps)


def _flattened(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps that compute something, those in blocks among them."""
    for step in steps:
        if step.blocks:
            yield from _written_out(step.blocks)
        else:
            yield step


class _Use(NamedTuple):
    step: Step
    place: int


class _Graph:
    """Who makes each value, who uses it, and as what other values it goes in and out of blocks."""

    def __init__(self, steps: Sequence[Step], constants: dict[int, Any], outputs: Sequence[int]):
        self.steps = list(_flattened(steps))
        self.constants, self.outputs = constants, set(outputs)
        self.maker: dict[int, Step] = {v: step for step in self.steps for v in step.outputs}
        self.uses: dict[int, list[_Use]] = {}
        for step in self.steps:
            for place, v in enumerate(step.inputs):
                self.uses.setdefault(v, []).append(_Use(step, place))
        self.onward: dict[int, list[int]] = {}
        self._follow(steps)

    def _follow(self, steps):
        for step in steps:
            for block in step.blocks:
                self._join(step.inputs[step.eqn.primitive.name == "cond" :], block.inputs)
                self._join(block.outputs, step.outputs)
                if step.eqn.primitive.name == "scan":
                    consts, carry = scan_sizes(step.eqn.params)
                    self._join(block.outputs[:carry], block.inputs[consts : consts + carry])
                self._follow(block.steps)

    def _join(self, values, others):
        for v, other in zip(values, others, strict=True):
            if v != other:
                self.onward.setdefault(v, []).append(other)

    def made_by(self, v: int) -> tuple[str, tuple[int, ...]]:
        """The primitive that makes a value, and what that reads; nothing for an input or a constant."""
        step = self.maker.get(v)
        return (step.eqn.primitive.name, step.inputs) if step else ("", ())

    def number(self, v: int) -> float | None:
        """The number that all elements of a value are, where that is known."""
        name, inputs = self.made_by(v)
        while name in MOVES:
            (v, *_) = inputs
            name, inputs = self.made_by(v)
        constant = self.constants.get(v)
        if constant is None or isinstance(constant, jax.core.Tracer):
            return None
        if not getattr(constant, "is_fully_addressable", True) or not np.size(constant):
            return None
        first, *_ = flat = np.asarray(constant).ravel()
        return float(first) if (flat == first).all() else None

    def same(self, v: int) -> int:
        """The value that this one is but for its type."""
        name, inputs = self.made_by(v)
        while name in SAME:
            (v,) = inputs
            name, inputs = self.made_by(v)
        return v


# ---- What is a relu.
def _relus(graph: _Graph) -> dict[int, int]:
    """The results of the relus, each with the place of x among the inputs of the step that makes it."""
    found = {}
    for step in graph.steps:
        place = _place_of_x(graph, step)
        if place is not None and not (
            _is_guard(graph, step.outputs[0])
            or _is_part_of_an_activation(graph, step.outputs[0], step.inputs[place])
            or _is_hard_sigmoid(graph, step, step.inputs[place])
        ):
            found[step.outputs[0]] = place
    return found


def _place_of_x(graph, step):
    """Which input x a step makes max(x, 0) of; None where it makes something else."""
    name, inputs = step.eqn.primitive.name, step.inputs
    floating = all(jnp.issubdtype(var.aval.dtype, jnp.floating) for var in step.eqn.outvars)
    if name not in ("max", "clamp", "select_n", "mul") or not floating:
        return None
    place = None
    if name == "max":
        place = next((i for i in (0, 1) if graph.number(inputs[1 - i]) == 0), None)
    elif name == "clamp" and graph.number(inputs[0]) == 0:
        place = 1
    elif name == "select_n" and len(inputs) == 3:
        x, positive = _sign(graph, inputs[0])
        kept = 2 if positive else 1
        if graph.same(inputs[kept]) == x and graph.number(inputs[3 - kept]) == 0:
            place = kept
    elif name == "mul":
        place = next((i for i in (0, 1) if _mask(graph, inputs[1 - i]) == (graph.same(inputs[i]), True)), None)
    if place is None or step.eqn.invars[place].aval.shape != step.eqn.outvars[0].aval.shape:
        return None
    return place


def _sign(graph, v):
    """`(x, True)` for a condition x > 0 or x >= 0, `(x, False)` for the other two; `(None, False)` for any other."""
    name, inputs = graph.made_by(v)
    if name == "not":
        x, positive = _sign(graph, inputs[0])
        return x, not positive
    if name in ("gt", "ge", "lt", "le"):
        for i in (0, 1):
            if graph.number(inputs[1 - i]) == 0:
                return graph.same(inputs[i]), (name in ("gt", "ge")) == (i == 0)
    return None, False


def _mask(graph, v):
    """As `_sign`, of the condition that a value is 1 where it holds and 0 elsewhere."""
    v = graph.same(v)
    name, inputs = graph.made_by(v)
    if name == "select_n" and len(inputs) == 3:
        cases = tuple(map(graph.number, inputs[1:]))
        x, positive = _sign(graph, inputs[0])
        return (x, positive == (cases == (0, 1))) if cases in ((0, 1), (1, 0)) else (None, False)
    return _sign(graph, v)


def _is_guard(graph, v):
    """Whether a value goes into roots, logarithms and denominators alone: a negative one there would be an accident.

    It may also be an output itself, as a variance is that is kept for later.
    """
    seen, left, guarded = {v}, [v], False
    while left:
        w = left.pop()
        further = list(graph.onward.get(w, ()))
        for use in graph.uses.get(w, ()):
            name = use.step.eqn.primitive.name
            if name in WITHOUT_GRADIENT or (name == "select_n" and use.place == 0):
                continue
            if _needs_a_guard(graph, use):
                guarded = True
            elif name in MOVES | AFFINE | {"max", "min", "clamp", "select_n"} or (name == "div" and use.place == 0):
                if sum(u in seen for u in use.step.inputs) > 1:  # such as its square
                    return False
                further.extend(use.step.outputs)
            else:
                return False
        left += [u for u in further if u not in seen]
        seen.update(further)
    return guarded or not (graph.outputs & seen)


def _needs_a_guard(graph, use):
    name, inputs = use.step.eqn.primitive.name, use.step.inputs
    if name == "div":
        return use.place == 1 and inputs[0] != inputs[1]
    if name == "pow":
        power = graph.number(inputs[1])
        return use.place == 0 and power is not None and power < 1
    return name in ("sqrt", "rsqrt", "log") or (name == "integer_pow" and use.step.eqn.params["y"] < 0)


def _is_part_of_an_activation(graph, v, x):
    """Whether a relu of x is added to another function of x that is not linear."""
    root, left, seen = _unscaled(graph, x), [v], {v}
    while left:
        w = left.pop()
        for use in graph.uses.get(w, ()):
            name, inputs = use.step.eqn.primitive.name, use.step.inputs
            if name in ("add", "sub", "add_any") and inputs[0] != inputs[1]:
                if _is_curved_in(graph, inputs[1 - use.place], root, v):
                    return True
            elif name in SAME | {"neg", "mul"} and use.step.outputs[0] not in seen:
                left.append(use.step.outputs[0])
                seen.add(use.step.outputs[0])
    return False


def _is_curved_in(graph, v, root, relu):
    """Whether a value is an elementwise function of the root and of what the program is given, and no affine one.

    What it is through the relu itself does not count: a relu's output may be added to anything that is made of it.
    """
    left, seen, curved, found = [v] if v != relu else [], {v, relu}, False, False
    while left:
        w = left.pop()
        name, inputs = graph.made_by(w)
        if _unscaled(graph, w) == root:
            found = True
        elif name in ELEMENTWISE | MOVES:
            curved = curved or name not in AFFINE | MOVES
            left += [u for u in inputs if u not in seen]
            seen.update(inputs)
        elif name:
            return False
    return curved and found


def _unscaled(graph, v):
    """The value that this one is but for its type, its sign, and numbers that it is multiplied by."""
    while True:
        v = graph.same(v)
        name, inputs = graph.made_by(v)
        if name == "neg":
            (v,) = inputs
        elif name in ("mul", "div") and graph.number(inputs[1]) is not None:
            v = inputs[0]
        elif name == "mul" and graph.number(inputs[0]) is not None:
            v = inputs[1]
        else:
            return v


def _is_hard_sigmoid(graph, step, x):
    """Whether it is a clip of x + c to 0..d: a gate, whose lower end is no relu's."""
    clipped = step.eqn.primitive.name == "clamp"
    uses = graph.uses.get(step.outputs[0], ())
    if uses and all(use.step.eqn.primitive.name == "min" for use in uses):
        clipped = True
    name, inputs = graph.made_by(_unscaled(graph, x))
    if name == "min":  # the upper end comes first
        clipped = True
        x = inputs[0] if graph.number(inputs[1]) is not None else inputs[1]
        name, inputs = graph.made_by(_unscaled(graph, x))
    return clipped and name in ("add", "sub") and any(graph.number(v) not in (None, 0) for v in inputs)
