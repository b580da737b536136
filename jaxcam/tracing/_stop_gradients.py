"""A program without its stop_gradients: the same values, and the gradient that they cut off."""

from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxcam.tracing._primitives import CUSTOM_RULES, STOP_GRADIENT


def without_stop_gradients(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The program with each `stop_gradient` replaced by its operand, also inside calls, loops and branches.

    A function with a custom rule keeps it: its gradient is what the rule says.
    """
    return ClosedJaxpr(_rewritten(closed.jaxpr), closed.consts)


def _rewritten(jaxpr: Jaxpr) -> Jaxpr:
    operands: dict[Any, Any] = {}

    def looked_through(atom):
        return atom if isinstance(atom, Literal) else operands.get(atom, atom)

    eqns = []
    for eqn in jaxpr.eqns:
        inputs = [looked_through(atom) for atom in eqn.invars]
        if eqn.primitive.name in STOP_GRADIENT:
            operands[eqn.outvars[0]] = inputs[0]
        else:
            eqns.append(eqn.replace(invars=inputs, params=_params(eqn)))
    return jaxpr.replace(eqns=eqns, outvars=[looked_through(atom) for atom in jaxpr.outvars])


def _params(eqn: JaxprEqn) -> dict[str, Any]:
    if eqn.primitive.name in CUSTOM_RULES:
        return eqn.params
    return {name: _param(value) for name, value in eqn.params.items()}


def _param(value: Any) -> Any:
    if isinstance(value, ClosedJaxpr):
        return without_stop_gradients(value)
    if isinstance(value, Jaxpr):
        return _rewritten(value)
    if isinstance(value, tuple | list) and any(isinstance(item, ClosedJaxpr | Jaxpr) for item in value):
        return type(value)(map(_param, value))
    return value
