"""What can be proved about a function's linearity while it is traced, before any number is computed.

The closed form of the second and third derivatives is exact where the head is affine in A near A. `certify` proves it,
or names what stands in the way, by one walk through the function's jaxpr that gives every value a level:

- `CONSTANT`: does not depend on A.
- `STEP`: locally constant, such as a comparison, an argmax, the mask of a relu.
- `AFFINE`: affine in A everywhere.
- `PIECEWISE`: affine near almost every A: relu, max pooling, abs, sort.
- `SMOOTH`: anything else, and anything unknown.

The proof is sound before it is complete: a primitive that is not in the tables below counts as smooth, so a smooth
function is never certified, though a piecewise affine one that is written in an unusual way may be refused.

    >>> import jax, jax.numpy as jnp
    >>> A = jnp.ones([4, 4, 8])
    >>> certify(lambda A: jax.nn.relu(A).sum((0, 1)), A).affine
    True
    >>> print(certify(lambda A: jax.nn.silu(A @ jnp.ones([8, 3])).sum(), A))
    not locally affine in A [4 4 8]: 1 primitive stops it
      logistic of [4 4 3], in silu
    frontier, the affine values that these read: [4 4 3]
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun

from jaxcam.tracing import (
    BILINEAR,
    CALLS,
    LINEAR,
    PIECEWISE_LINEAR,
    STEPS,
    binder,
    called,
    inner_jaxpr,
    inner_jaxprs,
    scan_sizes,
    shapes_of,
    source,
)


class Level(enum.IntEnum):
    """How a value depends on A."""

    CONSTANT = 0
    STEP = 1
    AFFINE = 2
    PIECEWISE = 3
    SMOOTH = 4


class Step(NamedTuple):
    """One primitive of a function: which values it reads and makes, by number."""

    name: str
    run: Callable[..., Sequence[Any]]
    level: Callable[[list["Level"]], list["Level"]]
    params: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    within: tuple[str, ...]


class Stop(NamedTuple):
    """A primitive whose result is smooth though what it reads is at most piecewise affine."""

    primitive: str
    shapes: tuple[tuple[int, ...], ...]
    within: tuple[str, ...]

    def __str__(self) -> str:
        operands = " and ".join(_shape(shape) for shape in self.shapes)
        return f"{self.primitive} of {operands}" + (f", in {' / '.join(self.within)}" if self.within else "")


class Program(NamedTuple):
    """A function as a list of steps over numbered values, calls entered, with each value's shape and level."""

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict[int, Any]
    avals: tuple[Any, ...]
    levels: tuple[Level, ...]
    stops: tuple[Stop, ...]
    frontier: tuple[int, ...]


def trace(f: Callable[[Any], Any], A: Any) -> Program:
    """The function as a `Program` of one pytree argument; what does not reach its outputs is left out."""
    leaves, tree = jax.tree.flatten(A)
    closed = jax.make_jaxpr(lambda leaves: f(jax.tree.unflatten(tree, leaves)))(leaves)
    walk = _Walk()
    inputs = [walk.value(var.aval, Level.AFFINE if _is_inexact(var) else Level.CONSTANT) for var in closed.jaxpr.invars]
    if _has_effects(closed.jaxpr):
        # What is written to a ref, or printed, is reached in ways that the walk does not see: one unknown step.
        outputs = [walk.value(var.aval, Level.SMOOTH) for var in closed.jaxpr.outvars]
        smooth = [Level.SMOOTH] * len(outputs)
        whole = Step(
            "a function with effects",
            jaxpr_as_fun(closed),
            lambda _: smooth,
            {"jaxpr": closed},
            (*inputs,),
            (*outputs,),
            (),
        )
        walk.steps.append(whole)
        walk.stopped(whole.name, inputs, outputs, ())
    else:
        outputs = walk.through(closed.jaxpr, closed.consts, inputs, ())
    return walk.program(inputs, outputs)


def join(*levels: Level) -> Level:
    """The level of a sum of values: a step and an affine value make a piecewise affine one."""
    top = max(levels, default=Level.CONSTANT)
    return Level.PIECEWISE if top == Level.AFFINE and Level.STEP in levels else top


def variable(level: Level) -> bool:
    """Whether a value of this level has a derivative other than zero."""
    return level >= Level.AFFINE


class _Walk:
    """Numbers the values of a jaxpr, and gives each a level; calls are entered as if they were written out."""

    def __init__(self, rules=frozenset()):
        # The custom rules that are being walked, by name: one that calls itself is not entered again.
        self.rules = rules
        self.steps, self.avals, self.levels, self.constants, self.stops = [], [], [], {}, []

    def value(self, aval, level):
        self.avals.append(aval)
        self.levels.append(level)
        return len(self.avals) - 1

    def constant(self, aval, value):
        number = self.value(aval, Level.CONSTANT)
        self.constants[number] = value
        return number

    def through(self, jaxpr, consts, inputs, within):
        """The numbers of a jaxpr's outputs. Consts are arrays; none where only levels are wanted."""
        number = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            number[var] = self.constant(var.aval, const)

        def read(atom):
            return self.constant(atom.aval, atom.val) if isinstance(atom, Literal) else number[atom]

        for eqn in _alive(jaxpr):
            made = self.equation(eqn, [read(atom) for atom in eqn.invars], within)
            number.update(zip(eqn.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn, inputs, within):
        name, levels = eqn.primitive.name, [self.levels[v] for v in inputs]
        if name in CALLS:
            inner = inner_jaxpr(eqn.params)
            here = eqn.params.get("name")
            # What is called _where or <lambda> tells a reader nothing.
            named = isinstance(here, str) and not here.startswith(("_", "<"))
            outputs = self.through(inner.jaxpr, inner.consts, inputs, (*within, here) if named else within)
            if name.startswith("custom_vjp") and any(variable(level) for level in levels):
                return self.by_its_rule(eqn, inputs, outputs, within)
            return outputs
        made = [
            self.value(var.aval, level)
            for var, level in zip(eqn.outvars, _levels(eqn, levels, self.rules), strict=True)
        ]
        self.steps.append(
            Step(
                name, binder(eqn), lambda levels: _levels(eqn, levels, frozenset()), eqn.params,
                tuple(inputs), tuple(made), within,
            )
        )  # fmt: skip
        if any(self.levels[v] == Level.SMOOTH for v in made) and max(levels) < Level.SMOOTH:
            self.stopped(called(eqn) if name == "custom_jvp_call" else name, inputs, made, within)
        return made

    def by_its_rule(self, eqn, inputs, outputs, within):
        """The outputs of a custom_vjp under new numbers, at the level that its rule allows."""
        levels = [self.levels[v] for v in inputs]
        affine = _rule_is_affine(eqn, levels, self.rules, reverse=True)
        slope = Level.PIECEWISE if affine else Level.SMOOTH
        made = []
        for v, var in zip(outputs, eqn.outvars, strict=True):
            # A rule may give a step a slope, as straight-through estimators do.
            level = join(self.levels[v], slope, *levels) if _is_inexact(var) else self.levels[v]
            made.append(self.value(var.aval, level))
            self.steps.append(Step("copy", lambda x: [x], lambda levels: levels, {}, (v,), (made[-1],), within))
        if not affine:
            self.stopped("custom_vjp rule", inputs, made, within)
        return made

    def stopped(self, name, inputs, outputs, within):
        read = [v for v in inputs if self.levels[v] > Level.CONSTANT]
        self.stops.append((Stop(name, tuple(self.avals[v].shape for v in read), within), read, outputs))

    def program(self, inputs, outputs):
        needed, steps = set(outputs), []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                steps.append(step)
                needed.update(step.inputs)
        stops = [(stop, read) for stop, read, made in self.stops if needed.intersection(made)]
        frontier = dict.fromkeys(v for _, read in stops for v in read if variable(self.levels[v]))
        return Program(
            tuple(reversed(steps)),
            tuple(inputs),
            tuple(outputs),
            {v: _as_jax(constant) for v, constant in self.constants.items() if v in needed},
            tuple(self.avals),
            tuple(self.levels),
            tuple(stop for stop, _ in stops),
            tuple(frontier),
        )


def _as_jax(constant):
    """A NumPy constant, which traced values cannot index, as a JAX one."""
    if isinstance(constant, jax.Array) or np.ndim(constant) == 0:
        return constant
    return jnp.asarray(np.asarray(constant))


def _levels(eqn, levels: list[Level], rules: frozenset[str]) -> list[Level]:
    """The levels of an equation's outputs, from those of its inputs."""
    made = []
    for level, var in zip(_levels_of_any(eqn, levels, rules), eqn.outvars, strict=True):
        # To JAX what is not a float has no derivative; and what is empty has nothing to differentiate.
        most = Level.CONSTANT if 0 in var.aval.shape else Level.SMOOTH if _is_inexact(var) else Level.STEP
        made.append(min(level, most))
    return made


def _levels_of_any(eqn, levels, rules):
    name, params = eqn.primitive.name, eqn.params
    count = len(eqn.outvars)
    if name in ("scan", "while", "cond"):
        return {"scan": _scan, "while": _while, "cond": _cond}[name](params, levels, rules)
    if name == "custom_jvp_call":
        return _custom_jvp(eqn, levels, rules)
    if max(levels, default=Level.CONSTANT) <= Level.STEP:
        return [join(*levels)] * count  # any function of locally constant values is locally constant
    if name == "stop_gradient":
        return [Level.STEP] * count
    if any(jnp.issubdtype(atom.aval.dtype, jnp.complexfloating) for atom in eqn.invars):
        # |z| and z / |z| are smooth, and complex numbers have no order.
        return [_linear(eqn, levels)] * count
    if name in STEPS:
        return [Level.STEP] * count
    if name in PIECEWISE_LINEAR and max(levels) < Level.SMOOTH:
        return [Level.PIECEWISE] * count
    return [_linear(eqn, levels)] * count


def _linear(eqn, levels):
    """The level of a primitive's output where only its linearity is at stake."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scatter" and params["update_jaxpr"] is not None:
        return Level.SMOOTH  # x.at[i].apply(f)
    if name in LINEAR:
        return join(*levels)
    varying = [level for level in levels if level >= Level.AFFINE]
    if name in BILINEAR and len(varying) == 1:
        return join(*levels)
    if name in ("div", "rem") and not variable(levels[1]):
        return Level.PIECEWISE if name == "rem" and levels[0] < Level.SMOOTH else join(*levels)
    if name == "integer_pow" and params["y"] in (0, 1):
        return join(*levels)
    if name == "triangular_solve" and not variable(levels[0]):
        return join(*levels)
    return Level.SMOOTH


def _levels_through(closed, levels, rules):
    """The levels of an inner jaxpr's outputs; its constants are constant."""
    walk = _Walk(rules)
    inputs = [walk.value(var.aval, level) for var, level in zip(closed.jaxpr.invars, levels, strict=True)]
    outputs = walk.through(closed.jaxpr, closed.consts, inputs, ())
    return [walk.levels[v] for v in outputs]


def _scan(params, levels, rules):
    consts, carry = scan_sizes(params)
    return _to_a_fixed_point(
        lambda now: _levels_through(params["jaxpr"], levels[:consts] + now + levels[consts + carry :], rules),
        levels[consts : consts + carry],
    )


def _while(params, levels, rules):
    test, body = params["cond_nconsts"], params["body_nconsts"]
    start = levels[test + body :]
    carry = _to_a_fixed_point(
        lambda now: _levels_through(params["body_jaxpr"], levels[test : test + body] + now, rules), start
    )
    (predicate,) = _levels_through(params["cond_jaxpr"], levels[:test] + carry, rules)
    return [join(predicate, level) for level in carry]


def _cond(params, levels, rules):
    index, *operands = levels
    branches = [_levels_through(branch, operands, rules) for branch in params["branches"]]
    return [join(index, *each) for each in zip(*branches, strict=True)]


def _to_a_fixed_point(body, carry):
    while True:
        out = body(list(carry))
        joined = [join(before, after) for before, after in zip(carry, out, strict=False)]
        if joined == list(carry):
            return joined + out[len(carry) :]
        carry = joined


def _custom_jvp(eqn, levels, rules):
    primal = _levels_through(inner_jaxpr(eqn.params), levels, rules)
    if not any(variable(level) for level in levels):
        return primal
    if not _rule_is_affine(eqn, levels, rules):
        return [Level.SMOOTH] * len(primal)
    # A rule may give a step a slope, as straight-through estimators do.
    return [join(level, Level.PIECEWISE, *levels) for level in primal]


def _rule_is_affine(eqn, levels, rules, *, reverse=False):
    """Whether a custom rule's slope is locally constant: tangents (cotangents) that are held do not move with A."""
    name = source(eqn)
    if name in rules:
        return False
    moving = [i for i, level in enumerate(levels) if _is_inexact(eqn.invars[i]) and level != Level.CONSTANT]
    run = binder(eqn)

    def of_moving(operands):
        def f(*some):
            full = list(operands)
            for i, value in zip(moving, some, strict=True):
                full[i] = value
            return [out for out in run(*full) if jnp.issubdtype(out.dtype, jnp.inexact)]

        return f, [operands[i] for i in moving]

    def tangents(operands, directions):
        f, point = of_moving(operands)
        return jax.jvp(f, point, directions)[1]

    def cotangents(operands, directions):
        f, point = of_moving(operands)
        return jax.vjp(f, *point)[1](directions)

    operands = shapes_of([atom.aval for atom in eqn.invars])
    outputs = shapes_of([var.aval for var in eqn.outvars])
    outputs = [out for out in outputs if jnp.issubdtype(out.dtype, jnp.inexact)]
    directions = outputs if reverse else [operands[i] for i in moving]
    if not moving or not outputs:
        return True
    closed = jax.make_jaxpr(cotangents if reverse else tangents)(operands, directions)
    if _has_effects(closed.jaxpr):
        return False
    found = _levels_through(closed, [*levels, *[Level.CONSTANT] * len(directions)], rules | {name})
    return max(found, default=Level.CONSTANT) <= Level.STEP


def _alive(jaxpr):
    """The equations that reach a jaxpr's outputs: a custom rule traces the function itself, too, and drops it."""
    needed, equations = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            equations.append(eqn)
            needed.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
    return reversed(equations)


def _is_inexact(atom):
    return jnp.issubdtype(atom.aval.dtype, jnp.inexact)


def _has_effects(jaxpr):
    return bool(jaxpr.effects) or any(
        eqn.effects or any(map(_has_effects, inner_jaxprs(eqn.params))) for eqn in jaxpr.eqns
    )


def _shape(shape):
    return "[" + " ".join(map(str, shape)) + "]"
