"""The plan of `exact` for a function: that of its program, or of the same function written so that less is pushed.

Two rewrites leave every value and derivative as it is: elements that nothing reads are not computed (`_narrow.py`), and
the division of a softmax comes behind the sum that it weighs (`_softmax.py`). In the last block of a transformer whose
head reads the class token alone, the directions of all tokens are then pushed as one for each channel:

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.derivatives._program import trace
    >>> def head(A):
    ...     tokens = jnp.concatenate([jnp.ones([1, 8]), A])
    ...     return jnp.tanh(jax.nn.softmax(tokens @ tokens.T) @ tokens)[0].sum()
    >>> program = trace(head, jnp.ones([49, 8]))
    >>> make_plan(program).directions, choose_plan(program).directions
    (392, 8)
"""

from jaxcam.derivatives._narrow import narrowed
from jaxcam.derivatives._plan import Plan, make_plan
from jaxcam.derivatives._program import BY_RULE_OF, Level, Program
from jaxcam.derivatives._softmax import with_late_division

# A program is rewritten only if that saves at least this factor. Others keep the steps that they were traced with.
WORTH_REWRITING = 2


def choose_plan(program: Program, batch_size: int | None = None) -> Plan | None:
    """The plan for a program of one array with a scalar result; None if the result is locally affine.

    Args:
      program: from `trace`.
      batch_size: as in `make_plan`.
    """
    if _is_locally_affine(program):
        return None
    plan, rewritten = make_plan(program, batch_size), _rewritten(program)
    if rewritten is None:
        return plan
    if _is_locally_affine(rewritten):
        return None  # all that is smooth was in elements that nothing reads
    plan_of_rewritten = make_plan(rewritten, batch_size)
    return plan_of_rewritten if WORTH_REWRITING * plan_of_rewritten.flops <= plan.flops else plan


def _rewritten(program: Program) -> Program | None:
    """The program without elements that nothing reads, with divisions of softmax last; None if nothing changes."""
    if any(BY_RULE_OF in step.params for step in program.steps):
        return None  # a program does not keep the rule of a custom_vjp when it is traced again
    rewritten = with_late_division(narrowed(program))
    return None if rewritten is program else rewritten


def _is_locally_affine(program):
    return program.levels[program.outputs[0]] <= Level.PIECEWISE
