"""Loops of known length written out, so that what is marked in one of their rounds is a value of the program.

>>> import jax, jax.numpy as jnp
>>> from jaxcam.tracing import mark, marks
>>> def model(x):
...     return jax.lax.scan(lambda y, scale: (mark(scale * y, "round"), None), x, jnp.arange(1.0, 4.0))[0]
>>> program = jax.make_jaxpr(model)(2.0)
>>> [mark.within for mark in marks(program.jaxpr)], [mark.within for mark in marks(unrolled(program, ["round"]).jaxpr)]
([('scan',)], [(), (), ()])
"""

import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jaxcam.tracing._jaxpr import binder, inner_jaxpr, inner_jaxprs, scan_sizes
from jaxcam.tracing._marks import marks
from jaxcam.tracing._primitives import CALLS, CUSTOM_RULES

SCAN = "scan"


def unrolled(closed: ClosedJaxpr, names: Collection[str], most_rounds: float = math.inf) -> ClosedJaxpr:
    """The program with every scan written out that holds a mark of one of the names, and the calls around them.

    Args:
      closed: the program.
      names: of marks, or the beginning of marks of several arrays: "block" for "block[0]".
      most_rounds: a longer scan stays as it is.
    """

    def holds_mark(eqn: JaxprEqn) -> bool:
        return any(mark.name.split("[")[0] in names for inner in inner_jaxprs(eqn.params) for mark in marks(inner))

    def run(jaxpr: ClosedJaxpr, *values: Any) -> list[Any]:
        known = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
        known |= zip(jaxpr.jaxpr.invars, values, strict=True)

        def value_of(atom):
            return atom.val if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.jaxpr.eqns:
            inputs, name = [value_of(atom) for atom in eqn.invars], eqn.primitive.name
            if name == SCAN and eqn.params["length"] <= most_rounds and holds_mark(eqn):
                made = _rounds(eqn, inputs, run)
            elif name in CALLS - CUSTOM_RULES and holds_mark(eqn):
                made = run(inner_jaxpr(eqn.params), *inputs)
            else:
                made = binder(eqn)(*inputs)
            known.update(zip(eqn.outvars, made, strict=True))
        return [value_of(atom) for atom in jaxpr.jaxpr.outvars]

    return jax.make_jaxpr(lambda *values: run(closed, *values))(*closed.in_avals)


def _rounds(eqn, inputs, run) -> list[Any]:
    """What a scan returns, one round after another."""
    body, length, backwards = inner_jaxpr(eqn.params), eqn.params["length"], eqn.params["reverse"]
    const_count, carry_count = scan_sizes(eqn.params)
    consts, carry = inputs[:const_count], inputs[const_count : const_count + carry_count]
    stacked = inputs[const_count + carry_count :]
    results: list[Any] = [None] * length
    for i in reversed(range(length)) if backwards else range(length):
        made = run(body, *consts, *carry, *(jax.lax.index_in_dim(x, i, keepdims=False) for x in stacked))
        carry, results[i] = made[:carry_count], made[carry_count:]
    return [*carry, *map(jnp.stack, zip(*results, strict=True))]
