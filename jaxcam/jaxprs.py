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

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, Primitive
from jax.interpreters import ad, batching, mlir, partial_eval

# Entered as if written out where they are called.
CALLS = frozenset(
    "jit pjit closed_call core_call remat checkpoint remat2 custom_vjp_call custom_vjp_call_jaxpr".split()
)
ARITHMETIC = frozenset("add sub mul div max min select_n dot_general reduce_sum sqrt rsqrt stop_gradient".split())
RULES = frozenset("custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr".split())

# The identity, with a name. Which transformations it went through while it was traced is part of what is found.
_mark = Primitive("jaxcam_mark")
_mark.def_impl(lambda x, **_: x)
_mark.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_mark, lambda _, x, **__: [x])


def _mark_jvp(primals, tangents, *, name, within):
    return _mark.bind(*primals, name=name, within=(*within, "jvp")), tangents[0]


def _mark_batched(values, axes, *, name, within):
    return _mark.bind(*values, name=name, within=(*within, "vmap")), axes[0]


ad.primitive_jvps[_mark] = _mark_jvp
batching.primitive_batchers[_mark] = _mark_batched


def shapes_of(tree: Any) -> Any:
    """Shapes and types of arrays, or of what a program says of them, in a `jax.ShapeDtypeStruct` each.

    With all that a type says: inside a shard_map, where an array may differ from device to device, and for axes that
    are Explicit how it is divided. A program that was traced without could not be run on such arrays.
    """
    found = jax.eval_shape(lambda tree: tree, tree)
    return jax.tree.map(lambda leaf: leaf.update(weak_type=False) if leaf.weak_type else leaf, found)


def typed_as(value: jax.Array, like: jax.Array) -> jax.Array:
    """The value as one that differs from device to device where `like` does, and is divided as it where shapes agree.

    A tangent has to be of its primal's type, also in this, and a constant is not. The zeros cost nothing when compiled.
    """
    shape = None if value.shape == like.shape else ()
    return value + jax.lax.full_like(like, 0, dtype=value.dtype, shape=shape)


class Mark(NamedTuple):
    """A marked value of a traced program: its name, shape and dtype, and where it stands.

    `within` has the transformations that a program does not come apart in; `jitted` is whether a jit is around it,
    whose trace may be that of several calls.
    """

    name: str
    aval: Any
    within: tuple[str, ...]
    jitted: bool = False


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


def mark(tree: Any, name: str) -> Any:
    """The same values, marked by name for a program that is being traced; what is no array is left as it is.

    A single array has the name itself; of several, each has the name and its place: `name[0]`, `name[1]`.
    """
    leaves, structure = jax.tree.flatten(tree)
    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
    for place, i in enumerate(arrays):
        leaves[i] = _mark.bind(leaves[i], name=name if len(arrays) == 1 else f"{name}[{place}]", within=())
    return jax.tree.unflatten(structure, leaves)


def marks(jaxpr: Any) -> list[Mark]:
    """The marks of a jaxpr in the order of its equations, the inner ones among them."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive is _mark:
            found.append(Mark(eqn.params["name"], eqn.outvars[0].aval, eqn.params["within"]))
        where = () if eqn.primitive.name in CALLS - RULES else (eqn.primitive.name,)
        jitted = eqn.primitive.name in ("jit", "pjit")
        for inner in inner_jaxprs(eqn.params):
            found += [m._replace(within=(*where, *m.within), jitted=m.jitted or jitted) for m in marks(inner)]
    return found


def live(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The program without what does not reach its outputs, inside its calls too, and which of its inputs it needs."""
    jaxpr, needs = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return ClosedJaxpr(jaxpr, closed.consts), tuple(needs)


def computed(closed: ClosedJaxpr, prefix: str) -> list[str]:
    """The names, without the prefix, of marks of the program's top whose value is a result of arithmetic.

    A value that the program was given, and that went through calls as it was, is not. What comes out of a loop is not
    followed, and counts as given.
    """
    found = []
    for eqn in closed.jaxpr.eqns:
        if eqn.primitive is _mark and eqn.params["name"].startswith(prefix):
            if _maker(closed.jaxpr, eqn.invars[0]) in ARITHMETIC:
                found.append(eqn.params["name"].removeprefix(prefix))
    return found


def _maker(jaxpr, atom):
    """The name of the primitive that makes a value; None for an input or a constant."""
    for eqn in jaxpr.eqns:
        if atom in eqn.outvars:
            if eqn.primitive is _mark:
                return _maker(jaxpr, eqn.invars[0])
            if eqn.primitive.name not in CALLS - RULES:
                return eqn.primitive.name
            inner = inner_jaxpr(eqn.params).jaxpr
            result = inner.outvars[eqn.outvars.index(atom)]
            if isinstance(result, Literal):
                return None
            if result in inner.invars:
                return _maker(jaxpr, eqn.invars[inner.invars.index(result)])
            return _maker(inner, result)
    return None


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


def _title(eqn):
    return called(eqn) if eqn.primitive.name in RULES else str(eqn.params.get("name") or eqn.primitive.name)


def scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's inputs are the same at every step, and how many are carried from one to the next."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry = params["ft_in"].unpack()[:2]  # since jax 0.11
    return len(consts), len(carry)


def called(eqn: Any) -> str:
    """The name of the function that a custom rule belongs to."""
    return source(eqn).split(" at ")[0]


def source(eqn: Any) -> str:
    """The name of the function that a custom rule belongs to, and where it was written."""
    return getattr(inner_jaxpr(eqn.params).jaxpr.debug_info, "func_src_info", None) or eqn.primitive.name


def inner_jaxprs(params: dict[str, Any]) -> list[Any]:
    """The jaxprs among a primitive's parameters."""
    leaves = [leaf for value in params.values() for leaf in (value if isinstance(value, list | tuple) else [value])]
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")]


def inner_jaxpr(params: dict[str, Any]) -> ClosedJaxpr:
    """A call's jaxpr, closed."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params:
            inner = params[name]
            return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    raise TypeError(f"a call with parameters {', '.join(params)} has no jaxpr that jaxcam knows")


def binder(eqn: Any) -> Callable[..., list[Any]]:
    """The function that applies an equation's primitive to values, with a list for its outputs."""

    def run(*values):
        # Before jax 0.10 the functions of a custom rule came apart from the other parameters.
        bound = eqn.primitive.get_bind_params(eqn.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        out = eqn.primitive.bind(*functions, *values, **params)
        return list(out) if eqn.primitive.multiple_results else [out]

    return run
