"""TODO."""

from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from jaxcam.tracing._jaxpr import inner_jaxpr, inner_jaxprs
from jaxcam.tracing._primitives import ARITHMETIC, CALLS, RULES

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


class Mark(NamedTuple):
    """A marked value of a traced program: its name, shape and dtype, and where it stands.

    `within` has the transformations that a program does not come apart in; `jitted` is whether a jit is around it,
    whose trace may be that of several calls.
    """

    name: str
    aval: Any
    within: tuple[str, ...]
    jitted: bool = False


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
