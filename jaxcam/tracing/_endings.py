"""How a program ends: whether its output is the softmax or the logistic function of an earlier value.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.tracing import PLAIN_CALLS, entering, flatten
    >>> def ending(f):
    ...     program = flatten(jax.make_jaxpr(f)(jnp.ones([1, 5])), entering(PLAIN_CALLS))
    ...     last = last_activation(program, program.outputs[0])
    ...     return last and (last.name, last.logits == program.inputs[0])
    >>> ending(lambda x: jax.nn.softmax(x)[0])
    ('softmax', True)
    >>> ending(lambda x: 1 / (1 + jnp.exp(-x)))
    ('logistic', True)
    >>> ending(jnp.tanh) is None
    True

All usual spellings are read: `jax.nn.softmax` and `jax.nn.sigmoid`, exp(x) / sum(exp(x)) with or without the maximum
subtracted, exp(log_softmax(x)), 1 / (1 + exp(-x)), (1 + tanh(x / 2)) / 2; behind reshapes, casts and calls. A softmax
over other axes than the last axis of the output, as in attention, is not an ending.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcam.tracing._jaxpr import inner_jaxpr
from jaxcam.tracing._primitives import CUSTOM_RULES, IDENTITIES, PLAIN_CALLS, REARRANGEMENTS, REMAT, STOP_GRADIENT
from jaxcam.tracing._steps import FlatProgram, Step, entering, flatten

SAME_VALUE_DEPTH = 16  # steps that two spellings of one value are compared over


class LastActivation(NamedTuple):
    """The activation that makes a program's output.

    Attributes:
      name: "softmax", over the last axis of the output, or "logistic".
      logits: the number of the value that it is applied to; None for a value inside a function with its own rule.
      behind: the steps from the activation to the output, in order. They only move or cast elements, so applied to the
        logits they give the logits in the shape of the output.
    """

    name: str
    logits: int | None
    behind: tuple[Step, ...]


def last_activation(program: FlatProgram, output: int) -> LastActivation | None:
    """The softmax or logistic function at the end of a program; None if it ends in something else.

    Args:
      program: with its plain calls written out. Functions with a custom rule are read where they stand.
      output: the number of the program's output.
    """
    graph = Graph(program)
    behind: list[Step] = []
    v = output
    while (step := graph.maker.get(v)) is not None and step.name in IDENTITIES | REARRANGEMENTS:
        behind.insert(0, step)
        v = step.inputs[0]
    if step is not None and step.name in STOP_GRADIENT:
        last = last_activation(program, step.inputs[0])
        return last and last._replace(logits=None, behind=())
    logits = graph.logistic_logits(v)
    if logits is not None:
        return LastActivation("logistic", logits, tuple(behind))
    found = graph.softmax_logits(v)
    if found is not None:
        logits, axes = found
        over_last = _non_unit(graph.shape(v), axes) == _last_non_unit(graph.shape(v))
        kept = all(_keeps_order(step, graph) for step in behind)
        return LastActivation("softmax", logits, tuple(behind)) if over_last and kept else None
    if step is not None and step.name in CUSTOM_RULES | REMAT:
        return _activation_of_function(step, v, tuple(behind), graph)
    return None


def _activation_of_function(step, v, behind, graph) -> LastActivation | None:
    """The activation at the end of a function with a rule of its own, such as a softmax with a custom_jvp."""
    inner = flatten(inner_jaxpr(step.params), entering(PLAIN_CALLS))
    last = last_activation(inner, inner.outputs[step.outputs.index(v)])
    if last is None or (last.name == "softmax" and not all(_keeps_order(other, graph) for other in behind)):
        return None
    if last.logits not in inner.inputs:
        return last._replace(logits=None, behind=behind)
    offset = len(step.inputs) - len(inner.inputs)  # constants of the call come first
    return last._replace(logits=step.inputs[offset + inner.inputs.index(last.logits)], behind=last.behind + behind)


def _non_unit(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(axis for axis in axes if shape[axis] != 1))


def _last_non_unit(shape: Sequence[int]) -> tuple[int, ...]:
    return _non_unit(shape, range(len(shape)))[-1:]


def _keeps_order(step: Step, graph: "Graph") -> bool:
    """Whether a step keeps all elements in their order, and the last axis that is longer than 1."""
    if step.name in IDENTITIES:
        return True
    before, after = ([n for n in graph.shape(v) if n != 1] for v in (step.inputs[0], step.outputs[0]))
    if step.name == "reshape":
        return before[-1:] == after[-1:]
    # A slice of the whole is how older versions of JAX write `x[0]`.
    return step.name in ("squeeze", "expand_dims", "broadcast_in_dim", "slice") and before == after


class _Reduction(NamedTuple):
    """A reduction that a value is broadcast from, elementwise functions of the sum in between.

    Attributes:
      operand: of the reduction.
      axes: that it reduces.
      through: the names of the elementwise functions in between.
      shift: what is added after a logarithm; None if nothing is.
    """

    operand: int
    axes: tuple[int, ...]
    through: tuple[str, ...]
    shift: int | None


class Graph:
    """A flat program with the step that makes each value, read backward."""

    def __init__(self, program: FlatProgram):
        self.constants, self.avals = program.constants, program.avals
        self.maker = {v: step for step in program.steps for v in step.outputs}

    def shape(self, v: int) -> tuple[int, ...]:
        return self.avals[v].shape

    def uncast(self, v: int) -> int:
        """The value whose elements this one has, perhaps in another type."""
        while (step := self.maker.get(v)) is not None and step.name in IDENTITIES | STOP_GRADIENT:
            v = step.inputs[0]
        return v

    def made_by(self, v: int, name: str) -> tuple[int, ...] | None:
        """The inputs of the step that makes a value; None if it is not the primitive of this name."""
        step = self.maker.get(self.uncast(v))
        return step.inputs if step is not None and step.name == name else None

    def constant(self, v: int) -> float | None:
        """The number that all elements of a value are; None if they differ or are not known."""
        while (step := self.maker.get(v)) is not None and step.name in IDENTITIES | {"broadcast_in_dim", "reshape"}:
            v = step.inputs[0]
        value = self.constants.get(v)
        if value is None or isinstance(value, jax.core.Tracer) or np.size(value) != 1:
            return None
        return float(np.asarray(value).ravel()[0])

    def other_operand(self, v: int, name: str, constant: float) -> int | None:
        """The x of a commutative step constant * x, or constant + x."""
        a, b = self.made_by(v, name) or (None, None)
        if a is None or b is None:
            return None
        return b if self.constant(a) == constant else a if self.constant(b) == constant else None

    def same(self, a: int, b: int, depth: int = SAME_VALUE_DEPTH) -> bool:
        """Whether two values are computed alike from the same values."""
        a, b = self.uncast(a), self.uncast(b)
        if a == b:
            return True
        made_a, made_b = self.maker.get(a), self.maker.get(b)
        if made_a is None or made_b is None:
            constant = self.constant(a)
            return constant is not None and constant == self.constant(b) and self.shape(a) == self.shape(b)
        if not depth or made_a.name != made_b.name or len(made_a.inputs) != len(made_b.inputs):
            return False
        if str(made_a.params) != str(made_b.params):
            return False
        return all(self.same(x, y, depth - 1) for x, y in zip(made_a.inputs, made_b.inputs, strict=True))

    # ---- The logistic function.
    def logistic_logits(self, v: int) -> int | None:
        """The x of a value that is 1 / (1 + exp(-x)), in any spelling; None for others."""
        inputs = self.made_by(v, "logistic")
        if inputs:
            return inputs[0]
        numerator, denominator = self.made_by(v, "div") or (None, None)
        if numerator is None or denominator is None:
            return self._tanh_logits(v)
        power = self.other_operand(denominator, "add", 1)
        exponent = self.made_by(power, "exp") if power is not None else None
        if exponent is None:
            return self._tanh_logits(v)
        if self.constant(numerator) == 1:
            negated = self.made_by(exponent[0], "neg")
            return negated[0] if negated else self.other_operand(exponent[0], "mul", -1)
        return exponent[0] if power is not None and self.same(numerator, power) else None

    def _tanh_logits(self, v: int) -> int | None:
        """The x of (1 + tanh(x / 2)) / 2."""
        inner = self._half(v)
        tanh = self.other_operand(inner, "add", 1) if inner is not None else None
        if tanh is None:
            half = self.other_operand(v, "add", 0.5)
            tanh = self._half(half) if half is not None else None
        argument = self.made_by(tanh, "tanh") if tanh is not None else None
        return self._half(argument[0]) if argument else None

    def _half(self, v: int) -> int | None:
        """The x of x / 2."""
        x = self.other_operand(v, "mul", 0.5)
        numerator, denominator = self.made_by(v, "div") or (None, None)
        if x is None and denominator is not None and self.constant(denominator) == 2:
            return numerator
        return x

    # ---- The softmax.
    def softmax_logits(self, v: int) -> tuple[int, tuple[int, ...]] | None:
        """The x of a value that is softmax(x), and the axes of the softmax; None for others."""
        exponent = self.made_by(v, "exp")
        if exponent:
            return self._exp_of_log_softmax(exponent[0])
        for power, total in self.quotients(v):
            exponent = self.made_by(power, "exp")
            reduction = self._reduction(total, "reduce_sum", self.shape(power))
            if exponent and reduction is not None and reduction.through in ((), ("inverse",)):
                if self.same(reduction.operand, power):
                    return self._without_maximum(exponent[0], reduction.axes), reduction.axes
        return None

    def quotients(self, v: int) -> list[tuple[int, int]]:
        """The pairs (a, b) for which a value is a / b, or a * (1 / b) with b inverted later."""
        quotient, product = self.made_by(v, "div"), self.made_by(v, "mul")
        pairs = [quotient] if quotient else []
        if product:
            pairs += [product, product[::-1]]
        return [(a, b) for a, b in pairs if self._inverts(b) == bool(product)]

    def _inverts(self, v: int) -> bool:
        """Whether a value is 1 / b, broadcast."""
        while (step := self.maker.get(v)) is not None and step.name in IDENTITIES | REARRANGEMENTS:
            v = step.inputs[0]
        return step is not None and self._is_inverse(step)

    def _is_inverse(self, step: Step) -> bool:
        return (step.name == "div" and self.constant(step.inputs[0]) == 1) or (
            step.name == "integer_pow" and step.params["y"] == -1
        )

    def _exp_of_log_softmax(self, v: int) -> tuple[int, tuple[int, ...]] | None:
        """The x of y = x - logsumexp(x)."""
        x, total = self.made_by(v, "sub") or (None, None)
        if x is None or total is None:
            return None
        reduction = self._reduction(total, "reduce_sum", self.shape(x))
        exponent = self.made_by(reduction.operand, "exp") if reduction is not None else None
        if reduction is None or exponent is None or reduction.through != ("log",):
            return None
        summed = exponent[0]
        if reduction.shift is not None:
            shifted, shift = self.made_by(summed, "sub") or (None, None)
            if shifted is None or shift is None or not self.same(shift, reduction.shift):
                return None
            summed = shifted
        return (self._without_maximum(x, reduction.axes), reduction.axes) if self.same(summed, x) else None

    def _without_maximum(self, v: int, axes: tuple[int, ...]) -> int:
        """The x of x - max(x), which has the same softmax; any other value is returned as it is."""
        x, maximum = self.made_by(v, "sub") or (None, None)
        if x is None or maximum is None:
            return v
        reduction = self._reduction(maximum, "reduce_max", self.shape(x))
        is_maximum = reduction is not None and reduction.axes == axes and not reduction.through
        return x if is_maximum and reduction is not None and self.same(reduction.operand, x) else v

    def _reduction(self, v: int, name: str, shape: Sequence[int]) -> _Reduction | None:
        """The reduction whose result a value repeats along the reduced axes of `shape`; None if it does not."""
        moves: list[Callable[[np.ndarray], np.ndarray]] = []
        through: list[str] = []
        shift = None
        while (step := self.maker.get(v)) is not None and step.name != name:
            move = self._move_of(step)
            if move is not None:
                moves.insert(0, move)
                v = step.inputs[0]
            elif self._is_inverse(step) or step.name == "log":
                through.append("log" if step.name == "log" else "inverse")
                v = step.inputs[1 if step.name == "div" else 0]
            elif step.name == "add" and shift is None:
                logs = [w for w in step.inputs if self.made_by(w, "log")]
                if len(logs) != 1:
                    return None
                v, shift = logs[0], next(w for w in step.inputs if w != logs[0])
            else:
                inner = self._guarded(step)
                if inner is None:
                    return None
                v = inner
        if step is None or self.shape(step.inputs[0]) != tuple(shape):
            return None
        axes = tuple(step.params["axes"])
        is_repeated = _is_repeated_along(axes, shape, self.shape(step.outputs[0]), moves)
        return _Reduction(step.inputs[0], axes, tuple(through), shift) if is_repeated else None

    def _move_of(self, step: Step) -> Callable[[np.ndarray], np.ndarray] | None:
        """A step that only repeats elements or adds axes of length 1, on NumPy arrays; None for others."""
        shape = self.shape(step.outputs[0])
        if step.name in IDENTITIES | STOP_GRADIENT:
            return lambda array: array
        if step.name in ("reshape", "squeeze", "expand_dims"):
            return lambda array: array.reshape(shape)
        if step.name == "broadcast_in_dim":
            dimensions = step.params["broadcast_dimensions"]

            def broadcast(array: np.ndarray) -> np.ndarray:
                unit = [1] * len(shape)
                for axis, dimension in enumerate(dimensions):
                    unit[dimension] = array.shape[axis]
                return np.broadcast_to(array.reshape(unit), shape)

            return broadcast
        return None

    def _guarded(self, step: Step) -> int | None:
        """The x of max(x, -inf), |x| and where(isfinite(x), x, 0), as logsumexp has them around finite values."""
        if step.name == "abs":
            return step.inputs[0]
        if step.name == "max":
            constants = [self.constant(v) for v in step.inputs]
            return step.inputs[1 - constants.index(-np.inf)] if -np.inf in constants else None
        if step.name == "select_n" and len(step.inputs) == 3:
            finite = self.made_by(step.inputs[0], "is_finite")
            return step.inputs[2] if finite and self.same(finite[0], step.inputs[2]) else None
        return None


def _is_repeated_along(axes, shape, reduced_shape, moves: Sequence[Callable[[np.ndarray], np.ndarray]]) -> bool:
    """Whether the moves bring each element of a reduction to all places that it was reduced from."""
    numbers: Any = np.arange(np.prod(reduced_shape, dtype=int)).reshape(reduced_shape)
    kept = [1 if axis in axes else n for axis, n in enumerate(shape)]
    expected = np.broadcast_to(numbers.reshape(kept), shape)
    for move in moves:
        numbers = move(numbers)
    if numbers.ndim not in (0, len(shape)) or any(n not in (1, m) for n, m in zip(numbers.shape, shape, strict=False)):
        return False
    return bool((np.broadcast_to(numbers, shape) == expected).all())
