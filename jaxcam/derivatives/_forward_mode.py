"""Programs that have no plan, because a primitive in them has no reverse mode or no forward mode."""

from collections.abc import Sequence

from jaxcam.derivatives._program import Program, variable
from jaxcam.tracing import CUSTOM_VJP, Step, inner_jaxprs


def is_forward_only(program: Program) -> bool:
    """Whether a primitive without a reverse mode acts between A and the result: a while loop, a dilated maximum."""

    def has_no_reverse_mode(name, params):
        if name.startswith("reduce_window_m"):
            return any(d != 1 for d in (*params["base_dilation"], *params["window_dilation"]))
        return name == "while"

    return any(_holds(step.name, step.params, has_no_reverse_mode) for step in _moving_steps(program))


def has_custom_vjp_inside(program: Program) -> bool:
    """Whether a scan or a branch has a custom_vjp inside, where it cannot be written out."""
    return any(_holds(step.name, step.params, lambda name, _: name in CUSTOM_VJP) for step in _moving_steps(program))


def _moving_steps(program) -> Sequence[Step]:
    return [step for step in program.steps if any(variable(program.levels[out]) for out in step.outputs)]


def _holds(name, params, condition):
    """Whether a primitive, or any inside its jaxprs, meets a condition on name and parameters."""
    return condition(name, params) or any(
        _holds(eqn.primitive.name, eqn.params, condition) for inner in inner_jaxprs(params) for eqn in inner.eqns
    )
