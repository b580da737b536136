"""The push of pairs through a contraction over the locations, as of attention with its values.

In o = sum_q a_q b_q a direction of location p changes the shared part of every term, and its own term by more:

    o(t) = sum_q (a_q b_q at the shared parts) + (a_p b_p at S + L) - (a_p b_p at S).

The terms are kept apart by a contraction that has the locations among its batch axes. The result is an own value: a row
for each direction and location. If only the own location moves, the shared parts are zero, and one term remains:

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.derivatives._plan import make_plan
    >>> from jaxcam.derivatives._program import trace
    >>> attend = lambda A: jnp.tanh(jnp.exp(A @ jnp.ones(3)) @ (A @ jnp.ones([3, 2]))).sum()
    >>> plan = make_plan(trace(attend, jnp.ones([5, 3])))
    >>> (stage,) = [stage for stage in plan.stages if stage.kind == "product"]
    >>> plan.directions, plan.shared_local.state_of(stage.outputs[0])
    (3, 'own')
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.derivatives._pairs import ZERO, Pair, at_every_location, locations_alone
from jaxcam.derivatives._plan import Plan, Stage
from jaxcam.derivatives._push import Coefficients, TaylorRule, sum_of_present
from jaxcam.derivatives._shared_local import SharedLocal
from jaxcam.tracing import Step


def contraction_rule(
    plan: Plan, way: SharedLocal, stage: Stage, plain: TaylorRule, values: dict[int, Any]
) -> Callable[..., tuple[list[Coefficients], list[Coefficients] | None]]:
    """The rule of a contraction over the locations: from pairs, and the curve, to rows.

    Args:
      plan: with `shared_local`.
      way: how the locations meet.
      stage: of one `dot_general`.
      plain: its rule for whole operands.
      values: all values of the program.
    """
    (step,) = stage.steps
    a, b = (values[v] for v in step.inputs)
    (value, *_) = (v for v in step.inputs if v in way.located)
    locations = [plan.program.avals[plan.seed].shape[axis] for axis in way.axes]
    terms = functools.partial(_terms, step, way)

    def multiply(x, y):
        """The terms of the locations, `[directions *locations *shape]`."""
        if x is None or y is None:
            return None
        axes = [None if x is a else 0, None if y is b else 0]
        return locations_alone(jax.vmap(terms, in_axes=axes)(x, y), locations=locations, offset=way.offsets[value])

    def products(coefficients):
        """The first and second coefficient of the terms, and what the product adds to the second and third."""
        by_value = dict(zip(stage.inputs, coefficients, strict=True))
        (a1, a2), (b1, b2) = (by_value.get(v, ZERO) for v in step.inputs)
        added = multiply(a1, b1), sum_of_present(multiply(a1, b2), multiply(a2, b1))
        first = sum_of_present(multiply(a1, b), multiply(a, b1))
        return first, sum_of_present(multiply(a2, b), multiply(a, b2), added[0]), *added

    def rule(inputs, curve):
        shared = [c.shared if isinstance(c, Pair) else c for c in inputs]
        at_own = [
            at_every_location(plan.program.avals[v].shape, c.at_own_location()) if isinstance(c, Pair) else c
            for v, c in zip(stage.inputs, inputs, strict=True)
        ]
        (of_all,), added = plain(shared)
        totals = (*of_all, *(ZERO if added is None else added[0]))
        rows = map(_as_rows, totals, products(shared), products(at_own))
        v1, v2, added2, added3 = rows
        return [(v1, v2)], None if added is None else [(added2, added3)]

    def _as_rows(total, at_shared, at_own):
        total = None if total is None else jnp.expand_dims(total, range(1, 1 + len(locations)))
        row = sum_of_present(total, at_own, None if at_shared is None else -at_shared)
        return None if row is None else row.reshape(-1, *plan.program.avals[stage.outputs[0]].shape)

    return rule


def _terms(step: Step, way: SharedLocal, a: jax.Array, b: jax.Array) -> jax.Array:
    """The terms of a contraction over the locations: `[*locations *shape]`."""
    contracted, batch = step.params["dimension_numbers"]
    side, value = next((side, v) for side, v in enumerate(step.inputs) if v in way.located)
    over = [contracted[side].index(axis) for axis in way.located[value]]
    kept_a, kept_b = ([axis for i, axis in enumerate(axes) if i not in over] for axes in contracted)
    apart_a, apart_b = ((*of_batch, *(axes[i] for i in over)) for of_batch, axes in zip(batch, contracted, strict=True))
    terms = jax.lax.dot_general(
        a, b, ((kept_a, kept_b), (apart_a, apart_b)),
        precision=step.params["precision"], preferred_element_type=step.params["preferred_element_type"],
    )  # fmt: skip
    locations = range(len(batch[0]), len(batch[0]) + len(over))
    return jnp.moveaxis(terms, locations, range(len(over)))
