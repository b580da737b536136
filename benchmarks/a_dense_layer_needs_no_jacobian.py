"""Reading a dense layer's columns from its weights saves the Jacobian: predicted, 1.4 to 1.6 times faster.

gelu VGG-16, block5_conv3, as in exact_on_smooth_heads. The frontier is one dense layer away from max pooling, so the
column of each direction is a row of that layer's weights. The rival takes the columns by reverse mode, a product of the
weights with an identity, 25,088 x 4096^2 multiply-adds, half as many as all that follows.
"""

import functools
from unittest import mock

import jax

from benchmarks import timing
from benchmarks.exact_on_smooth_heads import gelu_vgg
from jaxcam.derivatives import _plan, _push, exact

PREDICTED = [1.4, 1.6]


def measure(*, small: bool = False) -> dict:
    """The ratio of exact derivatives with the Jacobian over those without."""
    head, params, A = gelu_vgg(small)

    def derivatives(params, A):
        return exact(lambda A: head(params, A)[3], A)

    rivals = {"from the weights": functools.partial(jax.jit(derivatives), params, A)}
    with (
        mock.patch.object(_plan, "picks_weight_rows", lambda *_: False),
        mock.patch.object(_push, "picks_weight_rows", lambda *_: False),
    ):
        by_reverse_mode = jax.jit(lambda params, A: derivatives(params, A)).lower(params, A).compile()
    rivals["by reverse mode"] = functools.partial(by_reverse_mode, params, A)
    times = timing.in_turn(rivals, repeats=1 if small else 3)
    ratio = timing.median_ratio(times, "by reverse mode", "from the weights")
    return {
        "ratios": {"exact, columns by reverse mode / from the weights": ratio},
        "predicted": PREDICTED,
        "seconds": timing.summary(times),
    }
