"""Second and third derivatives of a scalar function along every unit direction of A, by Taylor coefficients.

Along e_n, each value v of the function is v + t v1 + t^2 v2 + ...; v1 and v2 are carried by hand for a chunk of
directions at once, while all that does not depend on the direction (v itself, the derivatives of an activation there)
is computed once:

- a linear step, or a piecewise linear one, acts on each coefficient;
- a product follows Leibniz: (a b)2 = a0 b2 + a1 b1 + a2 b0;
- a run of elementwise steps from one value to another is one function phi of it:
  v1 = phi' r1, v2 = phi' r2 + phi''/2 r1^2;
- any other step goes through nested `jvp`.

The last coefficients of u are not pushed through, they are collected: u is linear in what a step adds to its own
result, with the gradient g of u there as the factor, so u2 = 2 sum <g, own second coefficient> and
u3 = 6 sum <g, own third coefficient>, over the steps that are not linear; for phi they are phi''/2 r1^2 and
phi'' r1 r2 + phi'''/6 r1^3. So no third coefficient is carried, and nothing beyond the last smooth step.

Directions come as they are used. The first steps of a head often send each location of A to one element of a smaller
value: pooling, flattening, relu. `waist` finds how far that goes; along e_n the head is then its rest along
s_n e_m, so its derivatives are those of the rest along e_m, times s_n, s_n^2, s_n^3. One direction serves all
locations that share m, and those with s_n = 0 need none.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcam.linearity import Level, Program, Step, inner_jaxprs, variable

BYTES_AT_A_TIME = 2**28  # of coefficients, for the directions of one chunk
DIRECTIONS_AT_A_TIME = 512
JACOBIAN_BYTES = 2**30
ROWS_AT_A_TIME = 32

ELEMENTWISE = frozenset(
    "neg add sub add_any mul div rem pow integer_pow square sqrt rsqrt cbrt exp exp2 log log1p expm1 logistic tanh sin "
    "cos tan asin acos atan sinh cosh asinh acosh atanh atan2 erf erfc erf_inv lgamma digamma max min abs clamp "
    "select_n convert_element_type reduce_precision copy copy_p name sign floor ceil round stop_gradient "
    "eq ne lt le gt ge not and or xor is_finite nextafter optimization_barrier".split()
)
MOVES = frozenset("reshape squeeze expand_dims transpose rev slice pad broadcast_in_dim copy copy_p".split())
PRODUCTS = frozenset("mul dot_general conv_general_dilated".split())


class Event(NamedTuple):
    """Steps from values that have coefficients to values that get them."""

    kind: str  # "linear", "curve" (elementwise), "product", "quotient" or "nested"
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Plan(NamedTuple):
    """How the directions are pushed through a program: static, made while tracing."""

    program: Program
    start: int  # the value whose unit directions are pushed
    feeds: np.ndarray  # for each element of A, the element of `start` that it feeds, or -1
    columns: tuple[int, ...]  # values whose Jacobian columns are made before, by reverse mode
    before: tuple[Event, ...]  # what leads to those
    pushed: tuple[Event, ...]  # what every direction is pushed through
    events: tuple[Event, ...]  # all, in order, from `start` to the result
    directions: int
    size: int  # of them at a time
    flops: float


# ---- The plan: what is done, in which order, before any number is known.


def plan(program: Program, batch_size: int | None = None) -> Plan:
    """The plan for a program of one array with a scalar result that is not locally affine."""
    start, feeds = waist(program)
    events = _events(program, start)
    directions = math.prod(program.avals[start].shape)
    columns, before = _reverse_columns(program, start, events, directions)
    pushed = _needed(events, _curved_inputs(events), stop=columns)
    each = sum(_flops(program, event, start) * (2 if _is_smooth(program, event) else 1) for event in pushed)
    held = sum(_bytes(program, v) for event in pushed for v in event.outputs) + sum(_bytes(program, v) for v in columns)
    size = batch_size or max(1, min(DIRECTIONS_AT_A_TIME, BYTES_AT_A_TIME // max(1, 2 * held)))
    rows = sum(_size(program, v) for v in columns) * sum(_flops(program, event) for event in before)
    return Plan(program, start, feeds, columns, before, pushed, events, directions, size, rows + directions * each)


def waist(program: Program) -> tuple[int, np.ndarray]:
    """The last value that all of A's influence goes through, each element of A to one element of it at most.

    Returns:
      The value's number, and for each element of A, flat, the element that it feeds, or -1 for none.
    """
    (value,) = program.inputs
    feeds = np.arange(_size(program, value))
    while value not in program.outputs:
        readers = [
            step
            for step in program.steps
            if value in step.inputs and any(variable(program.levels[out]) for out in step.outputs)
        ]
        if len(readers) != 1 or len(readers[0].outputs) != 1:
            break
        (step,) = readers
        others = [v for v in step.inputs if v != value]
        if step.inputs.count(value) != 1 or any(variable(program.levels[v]) for v in others):
            break
        on = None if program.levels[step.outputs[0]] == Level.SMOOTH else _feeds(program, step, value)
        if on is None:
            break
        feeds = np.where(feeds < 0, -1, on[feeds])
        (value,) = step.outputs
    return value, feeds


def _feeds(program, step, value):
    """For each element of a step's input, flat, the one element of the output that it feeds, or -1; None if several."""
    shape, (out,) = program.avals[value].shape, step.outputs
    out_shape, params = program.avals[out].shape, step.params
    size = math.prod(shape)
    if _is_elementwise(step) and shape == out_shape:
        return np.arange(size)
    if step.name in MOVES:
        # The step itself says where each element goes, when it is run on their numbers.
        numbers = [
            np.arange(1, size + 1, dtype=np.int32).reshape(shape) if v == value else np.zeros((), np.int32)
            for v in step.inputs
        ]
        with jax.ensure_compile_time_eval():
            source = np.asarray(step.run(*map(jnp.asarray, numbers))[0]).ravel()
        if np.bincount(source, minlength=size + 1)[1:].max(initial=0) > 1:
            return None
        feeds = np.full(size + 1, -1)
        feeds[source] = np.arange(source.size)
        return feeds[1:]
    if step.name in ("reduce_sum", "reduce_max", "reduce_min"):
        kept = [1 if axis in params["axes"] else n for axis, n in enumerate(shape)]
        return np.broadcast_to(np.arange(math.prod(out_shape)).reshape(kept), shape).ravel()
    if step.name in ("reduce_window_sum", "reduce_window_max", "reduce_window_min"):
        return _feeds_windows(shape, out_shape, **params)
    return None


def _feeds_windows(
    shape, out_shape, *, window_dimensions, window_strides, padding, base_dilation, window_dilation, **_
):
    if any(d != 1 for d in (*base_dilation, *window_dilation)):
        return None
    if any(stride < window for window, stride in zip(window_dimensions, window_strides, strict=True)):
        return None
    windows, inside = [], np.ones(shape, bool)
    for axis, n in enumerate(shape):
        along = np.arange(n) + padding[axis][0]
        at = along // window_strides[axis]
        kept = (along - at * window_strides[axis] < window_dimensions[axis]) & (at < out_shape[axis])
        view = [-1 if i == axis else 1 for i in range(len(shape))]
        windows.append(np.where(kept, at, 0).reshape(view))
        inside = inside & kept.reshape(view)
    flat = np.ravel_multi_index(np.broadcast_arrays(*windows), out_shape) if shape else np.zeros((), int)
    return np.where(inside, flat, -1).ravel()


def _events(program, start):
    """The steps after `start`, with elementwise runs joined and each kind named."""
    varying = {start}
    # For values inside an elementwise run: where it starts, the level in that, and the steps by number.
    roots: dict[int, tuple[int, Level, frozenset[int]]] = {}
    events: list[Event] = []
    done = {start}

    def materialise(v):
        if v not in done:
            root, level, numbers = roots[v]
            materialise(root)
            steps = tuple(program.steps[number] for number in sorted(numbers))
            events.append(Event("curve" if level == Level.SMOOTH else "linear", steps, (root,), (v,)))
            done.add(v)

    def relative(v):
        return (roots[v][1] if v in roots else Level.AFFINE) if v in varying else min(program.levels[v], Level.STEP)

    for number, step in enumerate(program.steps):
        moving = tuple(dict.fromkeys(v for v in step.inputs if v in varying))
        made = [out for out in step.outputs if variable(program.levels[out])]
        if not moving or not made:
            continue
        varying.update(made)
        from_roots = {roots[v][0] if v in roots else v for v in moving}
        same_shape = {program.avals[v].shape for v in (*moving, *made)}
        if _is_elementwise(step) and len(from_roots) == 1 and len(same_shape) == 1:
            (level,) = step.level([relative(v) for v in step.inputs])
            before = (roots[v][2] for v in moving if v in roots)
            roots[made[0]] = (*from_roots, level, frozenset({number}).union(*before))
            continue
        for v in moving:
            materialise(v)
        level = max(step.level([Level.AFFINE if v in varying else relative(v) for v in step.inputs]))
        if level <= Level.PIECEWISE:
            kind = "linear"
        elif step.name in PRODUCTS:
            kind = "product"
        else:
            kind = "quotient" if step.name == "div" and len(moving) == 2 else "nested"
        events.append(Event(kind, (step,), moving, tuple(made)))
        done.update(made)
    materialise(program.outputs[0])
    return tuple(events)


def _curved_inputs(events):
    return {v for event in events if event.kind != "linear" for v in event.inputs}


def _needed(events, wanted, *, stop=()):
    """The events that make the wanted values, or lead to them, without those that make `stop`."""
    wanted, kept = set(wanted) - set(stop), []
    for event in reversed(events):
        if event.kind != "linear" or wanted.intersection(event.outputs):
            kept.append(event)
            wanted.update(set(event.inputs) - set(stop))
    return tuple(reversed(kept))


def _reverse_columns(program, start, events, directions):
    """The frontier's values, and the events before them, where reverse mode is the cheaper way to their columns."""
    linear = {v for event in events if event.kind == "linear" for v in event.outputs}
    read = {v for event in events if event.kind != "linear" or _is_smooth(program, event) for v in event.inputs}
    columns = tuple(sorted(v for v in read & linear if program.levels[v] != Level.SMOOTH))
    affine = tuple(event for event in events if not _is_smooth(program, event))
    before = _needed(affine, columns)
    forward = directions * sum(_flops(program, event, start) for event in before)
    rows = sum(_size(program, v) for v in columns)
    reverse = rows * sum(_flops(program, event) for event in before)
    fits = rows * directions * np.dtype(program.avals[start].dtype).itemsize <= JACOBIAN_BYTES
    return (columns, before) if columns and fits and reverse < forward else ((), ())


def _is_smooth(program, event):
    return any(program.levels[v] == Level.SMOOTH for v in event.outputs)


def _is_elementwise(step):
    if step.name == "custom_jvp_call":
        return len(step.outputs) == 1 and all(_elementwise_jaxpr(inner) for inner in inner_jaxprs(step.params))
    return step.name in ELEMENTWISE and len(step.outputs) == 1


def _elementwise_jaxpr(jaxpr):
    shapes = {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars} | {v.aval.shape for v in jaxpr.invars}
    names = {eqn.primitive.name for eqn in jaxpr.eqns if eqn.primitive.name not in ELEMENTWISE}
    inside = all(_elementwise_jaxpr(inner) for eqn in jaxpr.eqns for inner in inner_jaxprs(eqn.params))
    return inside and names <= {"jit", "pjit", "custom_jvp_call", "broadcast_in_dim"} and len(shapes - {()}) <= 1


def _size(program, v):
    return math.prod(program.avals[v].shape)


def _bytes(program, v):
    return _size(program, v) * np.dtype(program.avals[v].dtype).itemsize


def _flops(program, event, start=None):
    """Floating-point operations of an event for one coefficient of one direction."""
    return sum(_step_flops(program, step, start) for step in event.steps)


def _step_flops(program, step, start):
    out = max(_size(program, v) for v in step.outputs)
    if step.name == "dot_general":
        if start in step.inputs and _reads_rows(program, step, start):
            return out
        (contracted, _), _ = step.params["dimension_numbers"]
        return 2 * out * math.prod(program.avals[step.inputs[0]].shape[axis] for axis in contracted)
    if step.name == "conv_general_dilated":
        kernel = program.avals[step.inputs[1]].shape
        return 2 * out * math.prod(kernel) // kernel[step.params["dimension_numbers"].rhs_spec[0]]
    return max(out, *(_size(program, v) for v in step.inputs), 1)


def forward_only(program: Program) -> bool:
    """Whether a while loop stands between A and the result: it has no reverse mode."""

    def loops(name, params):
        return name == "while" or any(
            loops(eqn.primitive.name, eqn.params) for inner in inner_jaxprs(params) for eqn in inner.eqns
        )

    moving = (step for step in program.steps if any(variable(program.levels[out]) for out in step.outputs))
    return any(loops(step.name, step.params) for step in moving)


# ---- The numbers.


def run(steps: tuple[Step, ...], values: dict[int, Any]) -> dict[int, Any]:
    """The values, with those added that the steps make."""
    values = dict(values)
    for step in steps:
        values.update(zip(step.outputs, step.run(*(values[v] for v in step.inputs)), strict=True))
    return values


def along_all(
    plan: Plan, values: dict[int, Any], *, progress: Callable[[], None] | None = None
) -> tuple[jax.Array, jax.Array]:
    """u2 and u3 on A's shape, from the values of all steps; `progress` is called after each chunk of directions."""
    program, start = plan.program, plan.start
    (A,), (u,) = program.inputs, program.outputs
    wide = _wide(values[u]).dtype
    gradients = _gradients(plan, values)
    prepared = [_prepare(event, values, program) for event in plan.pushed]
    jacobian = _columns(plan, values)

    def chunk(indices):
        coefficients: dict[int, Any] = {
            v: (jnp.moveaxis(rows[..., indices], -1, 0), None) for v, rows in jacobian.items()
        }
        coefficients[start] = (_Unit(indices, values[start]), None)
        second = third = jnp.zeros(indices.shape, wide)
        for event, ready in zip(plan.pushed, prepared, strict=True):
            made, own = ready([coefficients.get(v, (None, None)) for v in event.inputs])
            coefficients.update(zip(event.outputs, made, strict=True))
            for v, (own2, own3) in zip(event.outputs, own, strict=True) if event.kind != "linear" else ():
                second = second + _inner_product(gradients[v], own2)
                third = third + _inner_product(gradients[v], own3)
        return 2 * second, 6 * third

    scale = _scale(plan, values).ravel().astype(wide)
    count, size = plan.directions, min(plan.size, plan.directions)
    chunks = -(-count // size)
    feeds = jnp.asarray(np.where(plan.feeds < 0, count, plan.feeds), jnp.int32)
    masked = program.levels[start] == Level.PIECEWISE
    order = jnp.arange(count)
    if masked:
        used = jnp.zeros(count, jnp.int32).at[feeds].max((scale != 0).astype(jnp.int32), mode="drop")
        order = jnp.argsort(-used, stable=True)
    padded = jnp.concatenate([order, order[: chunks * size - count]]).reshape(chunks, size)

    # The trip count is fixed, so that a map in a loss has a gradient: chunks without a live direction are passed over.
    @jax.checkpoint
    def body(indices):
        if not masked:
            return chunk(indices)
        none = (jnp.zeros(size, wide),) * 2
        return jax.lax.cond(used[indices].any(), chunk, lambda _: none, indices)

    def step(_, indices):
        second, third = body(indices)
        if progress is not None:
            jax.debug.callback(lambda _: progress(), second[0])
        return None, (second, third)

    _, by_order = jax.lax.scan(step, None, padded)
    dead = (feeds == count) | (scale == 0)

    def on_A(pushed, power):
        by_direction = jnp.zeros(count, wide).at[order].set(pushed.ravel()[:count])
        return jnp.where(dead, 0, scale**power * by_direction[feeds % count]).reshape(program.avals[A].shape)

    return on_A(by_order[0], 2), on_A(by_order[1], 3)


class _Unit(NamedTuple):
    """Unit directions, not written out: element `indices[i]` of the i-th is one."""

    indices: jax.Array
    like: jax.Array

    def dense(self):
        return jax.nn.one_hot(self.indices, self.like.size, dtype=self.like.dtype).reshape(-1, *self.like.shape)


def _dense(coefficient):
    return coefficient.dense() if isinstance(coefficient, _Unit) else coefficient


def _scale(plan, values):
    """s_n: the derivative of the one element of `start` that A_n feeds."""
    (A,) = plan.program.inputs
    if plan.start == A:
        return jnp.ones_like(values[A])
    _, pull = jax.vjp(lambda x: run(_steps_to(plan.program, plan.start), {**values, A: x})[plan.start], values[A])
    return pull(jnp.ones_like(values[plan.start]))[0]


def _steps_to(program, value):
    wanted, kept = {value}, []
    for step in reversed(program.steps):
        if wanted.intersection(step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return tuple(reversed(kept))


def _apply(event, values, inputs):
    made = run(event.steps, {**values, **dict(zip(event.inputs, inputs, strict=True))})
    return [made[v] for v in event.outputs]


def _gradients(plan, values):
    """The gradient of u with respect to each value that a curved event makes, each with the others' inputs held."""
    (u,) = plan.program.outputs
    curved = [v for event in plan.pushed if event.kind != "linear" for v in event.outputs]

    def tail(added):
        now = dict(values)
        for event in plan.events:
            made = _apply(event, values, [now[v] for v in event.inputs])
            added_to = [value + added[v] if v in added else value for v, value in zip(event.outputs, made, strict=True)]
            now.update(zip(event.outputs, added_to, strict=True))
        return now[u]

    return jax.grad(tail)({v: jnp.zeros_like(values[v]) for v in curved})


def _columns(plan, values):
    """The Jacobian's columns of the frontier, `[*shape directions]` for each of its values, a row a backward pass."""
    if not plan.columns:
        return {}

    def frontier(x):
        now = {**values, plan.start: x}
        for event in plan.before:
            now.update(zip(event.outputs, _apply(event, values, [now[v] for v in event.inputs]), strict=True))
        return [now[v] for v in plan.columns]

    outputs, pull = jax.vjp(frontier, values[plan.start])
    flat, unflatten = ravel_pytree(outputs)

    def row(i):
        return pull(unflatten(jax.nn.one_hot(i, flat.size, dtype=flat.dtype)))[0].ravel()

    rows = jax.lax.map(row, jnp.arange(flat.size), batch_size=min(flat.size, ROWS_AT_A_TIME))
    ends = np.cumsum([each.size for each in outputs])[:-1]
    return {
        v: part.reshape(*each.shape, -1)
        for v, part, each in zip(plan.columns, jnp.split(rows, ends), outputs, strict=True)
    }


# ---- What each kind of event does: `ready(coefficients of its inputs)` gives those of its outputs, and, where it is
# curved, the second and third coefficient that it adds by itself. Coefficients are `(first, second)`, `[batch *shape]`,
# or None for zero.


def _prepare(event, values, program):
    if event.kind == "linear":
        return _linear(event, values, program)
    return {"curve": _curve, "product": _product, "quotient": _quotient, "nested": _nested}[event.kind](event, values)


def _linear(event, values, program):
    base = [values[v] for v in event.inputs]
    first, shapes = event.steps[0], {program.avals[v].shape for v in (*event.inputs, *event.outputs)}
    if len(event.inputs) == 1 and len(shapes) == 1 and all(_is_elementwise(step) for step in event.steps):
        (slope,) = jax.jvp(lambda x: _apply(event, values, [x]), base, [jnp.ones_like(base[0])])[1]
        return lambda inputs: ([tuple(None if c is None else slope * _dense(c) for c in inputs[0])], None)
    _, linear = jax.linearize(lambda *inputs: _apply(event, values, inputs), *base)

    def act(some):
        if isinstance(some[0], _Unit) and len(some) == 1 and _reads_rows(program, first, event.inputs[0]):
            return [_rows(first, values, event.inputs[0], some[0].indices, program)]
        return _batched(linear, some, base)

    def ready(inputs):
        made = [act([c[k] for c in inputs]) if any(c[k] is not None for c in inputs) else None for k in (0, 1)]
        count = range(len(event.outputs))
        return [tuple(None if each is None else each[i] for each in made) for i in count], None

    return ready


def _reads_rows(program, step, value):
    """Whether a step is a dense layer on the whole of a value, so that unit directions pick rows of its weights."""
    if step.name != "dot_general" or step.inputs.count(value) != 1:
        return False
    contracted, batch = step.params["dimension_numbers"]
    side = step.inputs.index(value)
    shape = program.avals[value].shape
    return not batch[0] and all(n == 1 for axis, n in enumerate(shape) if axis not in contracted[side])


def _rows(step, values, value, indices, program):
    side = step.inputs.index(value)
    contracted, _ = step.params["dimension_numbers"]
    weights = values[step.inputs[1 - side]]
    # The weights' contracted axes in the order of the value's own, then the free ones.
    by_axis = dict(zip(contracted[side], contracted[1 - side], strict=True))
    front = [by_axis[axis] for axis in sorted(by_axis)]
    free = [axis for axis in range(weights.ndim) if axis not in front]
    rows = weights.transpose(*front, *free).reshape(values[value].size, -1)[indices]
    out = program.avals[step.outputs[0]]
    return rows.astype(out.dtype).reshape(-1, *out.shape)


def _batched(f, some, base):
    """f over a batch of coefficients, those that are None being zero."""
    axes = [None if c is None else 0 for c in some]
    return jax.vmap(f, in_axes=axes)(
        *(jnp.zeros_like(x) if c is None else _dense(c) for c, x in zip(some, base, strict=True))
    )


def _slope(f):
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]


def _curve(event, values):
    """v = phi(r), elementwise: phi's derivatives are taken once, not for each direction."""

    def phi(x):
        return _apply(event, values, [x])[0]

    r = values[event.inputs[0]]
    d1 = _slope(phi)(r)
    d2, d3 = (_wide(d) for d in (_slope(_slope(phi))(r), _slope(_slope(_slope(phi)))(r)))
    half, sixth = d2 / 2, d3 / 6

    def ready(inputs):
        ((r1, r2),) = inputs
        r1 = _dense(r1)
        square = _wide(r1) ** 2
        own2 = half * square
        own3 = sixth * (square * r1) if r2 is None else _wide(r1) * (d2 * r2 + sixth * square)
        second = own2.astype(r1.dtype) if r2 is None else d1 * r2 + own2.astype(r1.dtype)
        return [(d1 * r1, second)], [(own2, own3)]

    return ready


def _sum(*terms):
    some = [term for term in terms if term is not None]
    return functools.reduce(jnp.add, some) if some else None


def _product(event, values):
    (step,) = event.steps
    a, b = step.inputs
    moving = [v if v in event.inputs else None for v in step.inputs]

    def times(x, y):
        if x is None or y is None:
            return None
        axes = [None if each is base else 0 for each, base in ((x, values[a]), (y, values[b]))]
        return jax.vmap(lambda x, y: step.run(x, y)[0], in_axes=axes)(_dense(x), _dense(y))

    def ready(inputs):
        of = dict(zip(event.inputs, inputs, strict=True))
        (a1, a2), (b1, b2) = (of[v] for v in moving)
        own2, own3 = times(a1, b1), _sum(times(a1, b2), times(a2, b1))
        first = _sum(times(a1, values[b]), times(values[a], b1))
        second = _sum(times(a2, values[b]), times(values[a], b2), own2)
        return [(first, second)], [(own2, own3)]

    return ready


def _quotient(event, values):
    (step,) = event.steps
    a0, b0 = (values[v] for v in step.inputs)
    q0 = a0 / b0

    def ready(inputs):
        (a1, a2), (b1, b2) = ((_dense(first), second) for first, second in inputs)
        q1 = (a1 - q0 * b1) / b0
        own2 = -q1 * b1 / b0
        q2 = _sum(own2, None if a2 is None else a2 / b0, None if b2 is None else -q0 * b2 / b0)
        own3 = _sum(-q2 * b1 / b0, None if b2 is None else -q1 * b2 / b0)
        return [(q1, q2)], [(own2, own3)]

    return ready


def _nested(event, values):
    base = [values[v] for v in event.inputs]

    def along(t, firsts, seconds):
        at = [
            x + t.astype(x.dtype) * a + (t * t).astype(x.dtype) * b
            for x, a, b in zip(base, firsts, seconds, strict=True)
        ]
        return _apply(event, values, at)

    def derivatives(firsts, seconds):
        def f(t):
            return along(t, firsts, seconds)

        def straight(t):
            return along(t, firsts, [jnp.zeros_like(b) for b in seconds])

        zero = jnp.zeros((), _wide(base[0]).dtype)
        return _slope(f)(zero), _slope(_slope(f))(zero), _slope(_slope(straight))(zero), _slope(_slope(_slope(f)))(zero)

    def ready(inputs: list[Any]) -> tuple[list[Any], list[Any]]:
        some = [c for pair in zip(*inputs, strict=True) for c in pair]
        half = len(inputs)
        one, two, own2, own3 = _batched(lambda *c: derivatives(c[:half], c[half:]), some, [*base, *base])
        made = [(first, second / 2) for first, second in zip(one, two, strict=True)]
        return made, [(second / 2, third / 6) for second, third in zip(own2, own3, strict=True)]

    return ready


def _inner_product(gradient, own):
    if own is None:
        return 0
    return (_wide(gradient) * _wide(own)).sum(range(1, own.ndim))


def _wide(x):
    """At least float32: squares and cubes of half-precision derivatives underflow."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
