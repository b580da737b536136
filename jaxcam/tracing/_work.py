"""Floating-point operations of a traced program, counted from shapes: estimates that choose between ways.

>>> import jax, jax.numpy as jnp
>>> flops_of(jax.make_jaxpr(lambda x, W: jnp.tanh(x @ W))(jnp.ones([2, 3]), jnp.ones([3, 4])))
56
"""

import math
from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxcam.tracing._jaxpr import inner_jaxprs


def flops_of(program: ClosedJaxpr | Jaxpr) -> int:
    """The operations of a program. Each round of a scan counts; a while loop counts as one round."""
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum(_flops_of_equation(eqn) for eqn in jaxpr.eqns)


def _flops_of_equation(eqn):
    inside = sum(map(flops_of, inner_jaxprs(eqn.params)))
    if inside:
        return inside * eqn.params.get("length", 1)
    shapes = [[getattr(var.aval, "shape", ()) for var in side] for side in (eqn.invars, eqn.outvars)]
    return flops_of_primitive(eqn.primitive.name, eqn.params, *shapes)


def flops_of_primitive(
    name: str, params: dict[str, Any], inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]
) -> int:
    """The operations of a primitive on operands of these shapes: two for each product of a sum, else one an element."""
    out = max(map(math.prod, outputs), default=1)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * out * math.prod(inputs[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = inputs[1]
        return 2 * out * math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
    return max(out, *map(math.prod, inputs), 1)
