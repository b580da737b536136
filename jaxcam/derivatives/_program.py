"""A function as a program with levels: how each of its values depends on A.

`jaxcam.derivatives.certificate` says what the levels mean. A primitive that is in no table of `jaxcam.tracing` counts
as smooth, unless all that it reads is locally constant.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun

from jaxcam.tracing import (
    BILINEAR,
    CALLS,
    CUSTOM_JVP,
    CUSTOM_VJP,
    LINEAR,
    LOCALLY_CONSTANT,
    PIECEWISE_LINEAR,
    STOP_GRADIENT,
    Builder,
    FlatProgram,
    Step,
    flatten,
    has_primitive,
    inner_jaxpr,
    inner_jaxprs,
    live,
    needed,
    rule_source,
    scan_sizes,
    shapes_of,
    title_of,
)

EFFECTS = "a function with effects"  # the name of the one step of such a function
BY_RULE_OF = "custom_vjp_call"  # among the parameters of a copy of a custom_vjp's output: the call, as a step


class Level(enum.IntEnum):
    """How a value depends on A."""

    CONSTANT = 0
    STEP = 1
    AFFINE = 2
    PIECEWISE = 3
    SMOOTH = 4


class Stop(NamedTuple):
    """A primitive that ends a level: its result is smooth, or locally constant, though what it reads is not."""

    primitive: str
    shapes: tuple[tuple[int, ...], ...]
    within: tuple[str, ...]

    def __str__(self) -> str:
        operands = " and ".join(_shape(shape) for shape in self.shapes)
        return f"{self.primitive} of {operands}" + (f", in {' / '.join(self.within)}" if self.within else "")


class Program(NamedTuple):
    """A function as steps over numbered values, with each value's shape and level. Calls are written out."""

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict[int, Any]
    avals: tuple[Any, ...]
    levels: dict[int, Level]
    stops: tuple[Stop, ...]
    halts: tuple[Stop, ...]
    frontier: tuple[int, ...]


def trace(f: Callable[[Any], Any], A: Any) -> Program:
    """The function as a `Program` of one pytree argument, without the steps that its outputs do not need."""
    leaves, tree = jax.tree.flatten(A)
    closed = jax.make_jaxpr(lambda leaves: f(jax.tree.unflatten(tree, leaves)))(leaves)
    # Steps do not show how what is written to a ref, or printed, reaches the results.
    flat = _one_unknown_step(closed) if _has_effects(closed.jaxpr) else _flattened(closed)
    arguments = [Level.AFFINE if _is_inexact(flat.avals[v]) else Level.CONSTANT for v in flat.inputs]
    levels, stopping = _propagate(flat, arguments)
    steps, read = needed(flat.steps, flat.outputs)
    # Only what smooth outputs owe their level to: the mask of a smooth value is locally constant.
    smooth = {v for v, level in levels.items() if level == Level.SMOOTH}
    smooth_steps = [_with_inputs_of_rule(step) for step in flat.steps if smooth.intersection(step.outputs)]
    _, read_by_smooth = needed(smooth_steps, smooth.intersection(flat.outputs))
    stopping = [step for step in stopping if read_by_smooth.intersection(step.outputs)]
    moving = [[v for v in step.inputs if levels[v] > Level.CONSTANT] for step in stopping]
    halting = [step for step in steps if _halts(step, levels, flat.avals)]
    return Program(
        steps,
        flat.inputs,
        flat.outputs,
        {v: _as_jax(constant) for v, constant in flat.constants.items() if v in read},
        flat.avals,
        levels,
        tuple(
            Stop(_stop_title(step), tuple(flat.avals[v].shape for v in values), step.within)
            for step, values in zip(stopping, moving, strict=True)
        ),
        tuple(
            Stop(_halt_title(step), tuple(flat.avals[v].shape for v in step.inputs if variable(levels[v])), step.within)
            for step in halting
        ),
        tuple(dict.fromkeys(v for values in moving for v in values if variable(levels[v]))),
    )


def join(*levels: Level) -> Level:
    """The level of a sum of values: a step and an affine value make a piecewise affine one."""
    top = max(levels, default=Level.CONSTANT)
    return Level.PIECEWISE if top == Level.AFFINE and Level.STEP in levels else top


def variable(level: Level) -> bool:
    """Whether a value of this level has a derivative other than zero."""
    return level >= Level.AFFINE


# ---- The steps.
def _flattened(closed: ClosedJaxpr) -> FlatProgram:
    # Without dead equations: a custom rule traces the function itself, too, and drops it.
    program, _ = live(closed, keep_inputs=True)
    return flatten(program, _enter_calls)


def _enter_calls(builder: Builder, eqn: JaxprEqn, inputs: tuple[int, ...]) -> Sequence[int] | None:
    """Writes out a call. The outputs of a custom_vjp are copied: its rule may give a copy another level."""
    if eqn.primitive.name not in CALLS:
        return None
    title = eqn.params.get("name")
    # A title such as _where or <lambda> tells a reader nothing.
    tells = isinstance(title, str) and not title.startswith(("_", "<"))
    outputs = builder.write_out(inner_jaxpr(eqn.params), inputs, title=title if tells else None)
    if eqn.primitive.name not in CUSTOM_VJP:
        return outputs
    copies = builder.add_step(eqn, inputs)
    call = builder.steps.pop()
    builder.steps += [
        Step("copy", {BY_RULE_OF: call}, lambda x: [x], (v,), (copy,), within=builder.within)
        for v, copy in zip(outputs, copies, strict=True)
    ]
    return copies


def _with_inputs_of_rule(step: Step) -> Step:
    """A copy of a custom_vjp's output as a step that reads what the call reads; any other step as it is."""
    call = step.params.get(BY_RULE_OF)
    return step if call is None else step._replace(inputs=(*step.inputs, *call.inputs))


def _halts(step: Step, levels: dict[int, Level], avals: Sequence[Any]) -> bool:
    """Whether a step makes locally constant numbers of values that are not. The masks of a relu do not count."""
    halted = any(variable(levels[v]) for v in step.inputs) and not any(variable(levels[v]) for v in step.outputs)
    return halted and any(avals[v].dtype != bool for v in step.outputs)


def _one_unknown_step(closed: ClosedJaxpr) -> FlatProgram:
    avals = tuple(var.aval for var in (*closed.jaxpr.invars, *closed.jaxpr.outvars))
    inputs = tuple(range(len(closed.jaxpr.invars)))
    outputs = tuple(range(len(inputs), len(avals)))
    step = Step(EFFECTS, {"jaxpr": closed}, jaxpr_as_fun(closed), inputs, outputs)
    return FlatProgram((step,), inputs, outputs, {}, avals)


def _stop_title(step: Step) -> str:
    if step.name in CUSTOM_VJP:
        return "custom_vjp rule"
    return title_of(step.name, step.params) if step.name in CUSTOM_JVP else step.name


def _halt_title(step: Step) -> str:
    """The name of a step behind which nothing changes; `stop_gradient` inside a loop or branch is named, too."""
    inside = any(has_primitive(jaxpr, STOP_GRADIENT) for jaxpr in inner_jaxprs(step.params))
    return f"stop_gradient in {_stop_title(step)}" if inside else _stop_title(step)


def _as_jax(constant: Any) -> Any:
    """A NumPy constant, which traced values cannot index, as a JAX one."""
    if isinstance(constant, jax.Array) or np.ndim(constant) == 0:
        return constant
    return jnp.asarray(np.asarray(constant))


# ---- The levels.
def _propagate(
    flat: FlatProgram, arguments: Sequence[Level], rules: frozenset[str] = frozenset()
) -> tuple[dict[int, Level], list[Step]]:
    """The level of each value, and the steps whose results are smooth though what they read is not.

    `rules` has the sources of the custom rules around the program: a rule that calls itself is not looked into again.
    """
    levels = dict.fromkeys(flat.constants, Level.CONSTANT) | dict(zip(flat.inputs, arguments, strict=True))
    stopping: list[Step] = []
    affine_rules: dict[tuple[int, ...], bool] = {}

    def level_by_rule(step: Step, call: Step) -> Level:
        level, read = levels[step.inputs[0]], [levels[v] for v in call.inputs]
        if not any(map(variable, read)) or not _is_inexact(flat.avals[step.outputs[0]]):
            return level
        if call.outputs not in affine_rules:
            affine_rules[call.outputs] = _rule_is_affine(call, read, flat.avals, rules, reverse=True)
            if not affine_rules[call.outputs] and max(read) < Level.SMOOTH:
                stopping.append(call)
        # A rule may give a step a slope, as straight-through estimators do.
        return join(level, Level.PIECEWISE if affine_rules[call.outputs] else Level.SMOOTH, *read)

    for step in flat.steps:
        call = step.params.get(BY_RULE_OF)
        if call is not None:
            levels[step.outputs[0]] = level_by_rule(step, call)
            continue
        read = [levels[v] for v in step.inputs]
        made = output_levels(step, read, flat.avals, rules)
        levels.update(zip(step.outputs, made, strict=True))
        if Level.SMOOTH in made and max(read, default=Level.CONSTANT) < Level.SMOOTH:
            stopping.append(step)
    return levels, stopping


def output_levels(
    step: Step, levels: Sequence[Level], avals: Sequence[Any], rules: frozenset[str] = frozenset()
) -> list[Level]:
    """The levels of a step's outputs, from those of its inputs and the shapes of a program's values."""
    if step.name == EFFECTS:
        return [Level.SMOOTH] * len(step.outputs)
    made = []
    for level, v in zip(_uncapped_levels(step, list(levels), avals, rules), step.outputs, strict=True):
        # In JAX a value that is not a float has no derivative. An empty one has nothing to differentiate.
        most = Level.CONSTANT if 0 in avals[v].shape else Level.SMOOTH if _is_inexact(avals[v]) else Level.STEP
        made.append(min(level, most))
    return made


def _uncapped_levels(step: Step, levels: list[Level], avals: Sequence[Any], rules: frozenset[str]) -> list[Level]:
    name, count = step.name, len(step.outputs)
    if name in ("scan", "while", "cond"):
        return {"scan": _scan, "while": _while, "cond": _cond}[name](step.params, levels, rules)
    if name in CUSTOM_JVP:
        return _custom_jvp(step, levels, avals, rules)
    if max(levels, default=Level.CONSTANT) <= Level.STEP:
        return [join(*levels)] * count  # any function of locally constant values is locally constant
    if name in STOP_GRADIENT:
        return [Level.STEP] * count
    if any(jnp.issubdtype(avals[v].dtype, jnp.complexfloating) for v in step.inputs):
        # |z| and z / |z| are smooth, and complex numbers have no order.
        return [_linear(name, step.params, levels)] * count
    if name in LOCALLY_CONSTANT:
        return [Level.STEP] * count
    if name in PIECEWISE_LINEAR and max(levels) < Level.SMOOTH:
        return [Level.PIECEWISE] * count
    return [_linear(name, step.params, levels)] * count


def _linear(name: str, params: dict[str, Any], levels: list[Level]) -> Level:
    """The level of a primitive's output if only its linearity counts."""
    if name == "scatter" and params["update_jaxpr"] is not None:
        return Level.SMOOTH  # x.at[i].apply(f)
    if name in LINEAR:
        return join(*levels)
    if name in BILINEAR and sum(map(variable, levels)) == 1:
        return join(*levels)
    if name in ("div", "rem") and not variable(levels[1]):
        return Level.PIECEWISE if name == "rem" and levels[0] < Level.SMOOTH else join(*levels)
    if name == "integer_pow" and params["y"] in (0, 1):
        return join(*levels)
    if name == "triangular_solve" and not variable(levels[0]):
        return join(*levels)
    return Level.SMOOTH


def _inner_levels(closed: ClosedJaxpr, rules: frozenset[str]) -> Callable[[Sequence[Level]], list[Level]]:
    """For an inner jaxpr: the levels of its outputs as a function of those of its inputs."""
    flat = _flattened(closed)

    def levels_of_outputs(levels):
        made, _ = _propagate(flat, levels, rules)
        return [made[v] for v in flat.outputs]

    return levels_of_outputs


def _scan(params: dict[str, Any], levels: list[Level], rules: frozenset[str]) -> list[Level]:
    consts, carry = scan_sizes(params)
    body = _inner_levels(params["jaxpr"], rules)
    return _fixed_point(
        lambda carried: body(levels[:consts] + carried + levels[consts + carry :]), levels[consts : consts + carry]
    )


def _while(params: dict[str, Any], levels: list[Level], rules: frozenset[str]) -> list[Level]:
    test_consts, body_consts = params["cond_nconsts"], params["body_nconsts"]
    test, body = _inner_levels(params["cond_jaxpr"], rules), _inner_levels(params["body_jaxpr"], rules)
    constants, start = levels[test_consts : test_consts + body_consts], levels[test_consts + body_consts :]
    carried = _fixed_point(lambda carried: body(constants + carried), start)
    (predicate,) = test(levels[:test_consts] + carried)
    return [join(predicate, level) for level in carried]


def _cond(params: dict[str, Any], levels: list[Level], rules: frozenset[str]) -> list[Level]:
    index, *operands = levels
    branches = [_inner_levels(branch, rules)(operands) for branch in params["branches"]]
    return [join(index, *outputs) for outputs in zip(*branches, strict=True)]


def _fixed_point(body: Callable[[list[Level]], list[Level]], carried: list[Level]) -> list[Level]:
    """The levels of a loop's outputs: the carried values at levels that an iteration does not raise, then the rest."""
    while True:
        out = body(list(carried))
        raised = [join(before, after) for before, after in zip(carried, out, strict=False)]
        if raised == list(carried):
            return raised + out[len(carried) :]
        carried = raised


# ---- Custom rules.
def _custom_jvp(step: Step, levels: list[Level], avals: Sequence[Any], rules: frozenset[str]) -> list[Level]:
    primal = _inner_levels(inner_jaxpr(step.params), rules)(levels)
    if not any(map(variable, levels)):
        return primal
    if not _rule_is_affine(step, levels, avals, rules):
        return [Level.SMOOTH] * len(primal)
    # A rule may give a step a slope, as straight-through estimators do.
    return [join(level, Level.PIECEWISE, *levels) for level in primal]


def _rule_is_affine(
    step: Step, levels: list[Level], avals: Sequence[Any], rules: frozenset[str], *, reverse: bool = False
) -> bool:
    """Whether a custom rule's slope is locally constant: with the tangents (cotangents) held, its results are steps."""
    source = rule_source(step.name, step.params)
    if source in rules:
        return False
    moving = [i for i, v in enumerate(step.inputs) if _is_inexact(avals[v]) and levels[i] != Level.CONSTANT]
    if not moving or not any(_is_inexact(avals[v]) for v in step.outputs):
        return True
    closed = rule_program(step, avals, moving, reverse=reverse)
    if _has_effects(closed.jaxpr):
        return False
    held = [Level.CONSTANT] * (len(closed.jaxpr.invars) - len(levels))
    slopes = _inner_levels(closed, rules | {source})([*levels, *held])
    return max(slopes, default=Level.CONSTANT) <= Level.STEP


def rule_program(step: Step, avals: Sequence[Any], moving: Sequence[int], *, reverse: bool = False) -> ClosedJaxpr:
    """The derivative of a step as a program, `(*operands, *tangents) -> tangents` of its outputs that are floats.

    Args:
      step: with any rule of its own.
      avals: of a program's values.
      moving: the operands that have tangents, by index.
      reverse: `(*operands, *cotangents) -> cotangents` of the moving operands, which is the rule of a custom_vjp.
    """
    operands = shapes_of([avals[v] for v in step.inputs])
    outputs = [out for out in shapes_of([avals[v] for v in step.outputs]) if _is_inexact(out)]

    def of_moving(operands):
        def f(*values):
            full = list(operands)
            for i, value in zip(moving, values, strict=True):
                full[i] = value
            return [out for out in step.run(*full) if _is_inexact(out)]

        return f, [operands[i] for i in moving]

    def tangents(operands, directions):
        f, point = of_moving(operands)
        return jax.jvp(f, point, directions)[1]

    def cotangents(operands, directions):
        f, point = of_moving(operands)
        return jax.vjp(f, *point)[1](directions)

    if reverse:
        return jax.make_jaxpr(cotangents)(operands, outputs)
    return jax.make_jaxpr(tangents)(operands, [operands[i] for i in moving])


def _is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _has_effects(jaxpr: Jaxpr) -> bool:
    return bool(jaxpr.effects) or any(
        eqn.effects or any(map(_has_effects, inner_jaxprs(eqn.params))) for eqn in jaxpr.eqns
    )


def _shape(shape: Sequence[int]) -> str:
    return "[" + " ".join(map(str, shape)) + "]"
