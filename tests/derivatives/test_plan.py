"""Which directions are pushed, and which are left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcam.derivatives import _program, _taylor
from jaxcam.derivatives._plan import make_plan
from jaxcam.tracing import evaluate
from tests.derivatives.heads import HEADS, IMAGE, normal


def plan_of(f, A, batch_size=None):
    return make_plan(_program.trace(f, A), batch_size)


@pytest.mark.parametrize(
    ("name", "directions", "independent_axes", "by_reverse_mode"),
    [
        ("dense, gelu", 16, 0, False),  # one in four locations passes max pooling
        ("pool, layer norm, softmax", 4, 0, False),  # all locations of a channel are one direction
        ("layer norm, pool", 1, 3, False),  # locations do not meet before the pooling, and channels in sums
        ("batch norm, silu", 1, 3, False),  # no two elements meet
        ("relu conv, softmax", 64, 0, True),  # 3 logits, 64 directions
        ("attention", 64, 0, False),  # everything meets everything
    ],
)
def test_the_plan_leaves_out_what_changes_nothing(name, directions, independent_axes, by_reverse_mode):
    shape, f = HEADS[name]
    plan = plan_of(f, normal(0, *shape))
    assert plan.directions == directions and len(plan.independent_axes) == independent_axes
    assert bool(plan.jacobian_values) == by_reverse_mode


def test_directions_that_reach_nothing_are_found(x64):
    """Overlapping max pooling lets some locations through twice and some not at all."""
    pooled = lambda A: nnx.max_pool(A[None], (3, 3), (1, 1)).ravel() @ normal(1, 16, 7)
    A = normal(0, *IMAGE)
    plan = plan_of(lambda A: jax.nn.gelu(pooled(A)).sum(), A)
    program = plan.program
    values = evaluate(program.steps, {**program.constants, program.inputs[0]: A})
    moving = _taylor._moves_the_frontier(plan, _taylor._combinations_of_frontier(plan, values))
    columns = jnp.abs(jax.jacrev(pooled)(A)).max(0) > 0
    assert 0 < columns.sum() < 40
    np.testing.assert_array_equal(np.asarray(moving).reshape(A.shape) > 0, columns)
