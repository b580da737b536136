"""The rule of a stage for the local part of a single location, for values whose local part is the same at each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam.derivatives._pairs import one_location_of, zeros_at_one
from jaxcam.derivatives._plan import Stage
from jaxcam.derivatives._push import Coefficients, sum_of_present
from jaxcam.derivatives._shared_local import SharedLocal
from jaxcam.tracing import evaluate


def rule_of_single(
    way: SharedLocal, stage: Stage, values: dict[int, Any]
) -> Callable[[Sequence[Any]], list[Coefficients]] | None:
    """The local parts of a uniform stage from those of its inputs, at one location; None if a step cannot run so.

    A linear stage is applied to L. For a product of S + L and g, whose own part is L g:
    (L g)_1 = L_1 g, (L g)_2 = L_2 g + L_1 g_1.

    Args:
      way: how the locations meet.
      stage: with an output that is located and uniform.
      values: all values of the program.
    """
    if not all(step.outputs[0] in way.single for step in stage.steps):
        return None
    positions = way.located[stage.outputs[0]]
    located = [v for v in stage.inputs if v in way.located]
    read = {v for step in stage.steps for v in step.inputs} & values.keys()
    is_elementwise = not any(step.name in ("dot_general", "conv_general_dilated") for step in stage.steps)
    others = {v: one_location_of(values[v], positions) if is_elementwise else values[v] for v in read}

    def outputs_of(locals_, commons):
        made = evaluate(stage.steps, {**others, **commons, **dict(zip(located, locals_, strict=True))})
        return [made[v] for v in stage.outputs]

    def slopes(locals_, commons):
        """The tangents along the local parts, which are linear in them; commons replace the operands they name."""

        def tangents(directions, commons):
            points = [jnp.zeros_like(direction) for direction in directions]
            return jax.jvp(lambda *x: outputs_of(x, commons), points, directions)[1]

        axes = ([None if x is None else 0 for x in locals_], {v: 0 for v in commons})
        points = [
            zeros_at_one(values[v], way.located[v]) if x is None else x for v, x in zip(located, locals_, strict=True)
        ]
        return jax.vmap(tangents, in_axes=axes)(points, commons)

    def rule(inputs):
        by_value = dict(zip(stage.inputs, inputs, strict=True))
        first, second = ([by_value[v].local[order] for v in located] for order in (0, 1))
        firsts = [None] * len(stage.outputs) if _all_none(first) else slopes(first, {})
        seconds = [None] * len(stage.outputs) if _all_none(second) else slopes(second, {})
        if stage.kind == "product" and not _all_none(first):
            moved = {v: c[0] for v, c in by_value.items() if v not in located and c[0] is not None}
            if is_elementwise:
                moved = {v: one_location_of(c, [1 + position for position in positions]) for v, c in moved.items()}
            if moved:
                seconds = [sum_of_present(a, b) for a, b in zip(seconds, slopes(first, moved), strict=True)]
        return list(zip(firsts, seconds, strict=True))

    return rule


def _all_none(coefficients):
    return all(c is None for c in coefficients)
