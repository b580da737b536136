"""The named identity: marks a value of a program while the program is traced."""

from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from jaxcam.tracing._jaxpr import inner_jaxpr, inner_jaxprs
from jaxcam.tracing._primitives import ARITHMETIC, CALLS, CUSTOM_RULES, JIT
from jaxcam.tracing._steps import Enter

MARK = "jaxcam_mark"
# Its parameters: the name, and the transformations that it went through while it was traced.
_mark = Primitive(MARK)
_mark.def_impl(lambda x, **_: x)
_mark.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_mark, lambda _, x, **__: [x])


def _mark_jvp(primals, tangents, *, name, within):
    return _mark.bind(*primals, name=name, within=(*within, "jvp")), tangents[0]


def _mark_batched(values, axes, *, name, within):
    return _mark.bind(*values, name=name, within=(*within, "vmap")), axes[0]


ad.primitive_jvps[_mark] = _mark_jvp
batching.primitive_batchers[_mark] = _mark_batched


class Mark(NamedTuple):
    """A marked value of a traced program.

    Attributes:
      name: given to `mark`.
      aval: the value's shape and dtype.
      within: the transformations and calls around it that a program cannot be split in.
      jitted: whether a jit is around it. Several calls may share its trace.
    """

    name: str
    aval: Any
    within: tuple[str, ...]
    jitted: bool = False


def mark(tree: Any, name: str) -> Any:
    """The same values, marked by name for the program that is being traced. Leaves that are not arrays stay unmarked.

    A single array is marked with the name itself, several with the name and their index: `name[0]`, `name[1]`.
    """
    leaves, structure = jax.tree.flatten(tree)
    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
    for place, i in enumerate(arrays):
        leaves[i] = _mark.bind(leaves[i], name=name if len(arrays) == 1 else f"{name}[{place}]", within=())
    return jax.tree.unflatten(structure, leaves)


def marks(jaxpr: Jaxpr) -> list[Mark]:
    """The marks of a jaxpr and of those inside it, in the order of the equations."""
    found = []
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == MARK:
            found.append(Mark(eqn.params["name"], eqn.outvars[0].aval, eqn.params["within"]))
        around = () if name in CALLS - CUSTOM_RULES else (name,)
        for inner in inner_jaxprs(eqn.params):
            for inside in marks(inner):
                found.append(inside._replace(within=(*around, *inside.within), jitted=inside.jitted or name in JIT))
    return found


def past_marks(enter: Enter) -> Enter:
    """An `enter` for `flatten` that leaves the marks out, and else does what the other does."""

    def leave_out_or_enter(builder, eqn, inputs):
        return inputs if eqn.primitive.name == MARK else enter(builder, eqn, inputs)

    return leave_out_or_enter


def computed(closed: ClosedJaxpr, prefix: str) -> list[str]:
    """The names, without the prefix, of the program's marked values that arithmetic makes.

    A value that the program was given and only passed through calls is not among them, nor is what a loop returns:
    loops are not followed. Marks inside calls are not looked at.
    """
    names = []
    for eqn in closed.jaxpr.eqns:
        if eqn.primitive.name == MARK and eqn.params["name"].startswith(prefix):
            if _maker_name(closed.jaxpr, eqn.invars[0]) in ARITHMETIC:
                names.append(eqn.params["name"].removeprefix(prefix))
    return names


def _maker_name(jaxpr: Jaxpr, atom: Any) -> str | None:
    """The name of the primitive that makes a value; None for an input or a constant."""
    for eqn in jaxpr.eqns:
        if atom in eqn.outvars:
            if eqn.primitive.name == MARK:
                return _maker_name(jaxpr, eqn.invars[0])
            if eqn.primitive.name not in CALLS - CUSTOM_RULES:
                return eqn.primitive.name
            inner = inner_jaxpr(eqn.params).jaxpr
            result = inner.outvars[eqn.outvars.index(atom)]
            if isinstance(result, Literal):
                return None
            if result in inner.invars:
                return _maker_name(jaxpr, eqn.invars[inner.invars.index(result)])
            return _maker_name(inner, result)
    return None
