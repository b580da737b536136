"""What a traced program shows of its outputs: a softmax, logistic functions, or neither.

>>> closed = jax.make_jaxpr(jax.nn.softmax)(jax.numpy.ones(3))
>>> kind_of_outputs(closed, jax.tree.structure(0))
'probabilities'
"""

from typing import Any

import jax
from jax.extend.core import ClosedJaxpr

from jaxcam.tracing import PLAIN_CALLS, bounds_of_outputs, entering, flatten, last_activation, past_marks

ROUNDING = 1e-5  # a mean of probabilities may exceed 1 by as much
ACTIVATIONS = {"probabilities": "softmax", "sigmoids": "logistic"}


def kind_of_outputs(closed: ClosedJaxpr, structure: Any) -> str:
    """One of the kinds of `jaxcam.cutting.output_kind`, which explains them.

    Args:
      closed: a program; the marks of layers in it are passed over.
      structure: the tree of its outputs.
    """
    if len(closed.jaxpr.outvars) != 1 or structure != jax.tree.structure(0):
        return "unknown"

    program = flatten(closed, past_marks(entering(PLAIN_CALLS)))
    last = last_activation(program, program.outputs[0])
    if last is not None:
        return next(kind for kind, name in ACTIVATIONS.items() if name == last.name)
    ((low, high),) = bounds_of_outputs(closed)
    return "unknown" if low >= 0 and high <= 1 + ROUNDING else "logits"
