"""Grad-CAM++ needs second and third derivatives where Y1 > 0 only: exact takes as long as that share of the directions.

gelu VGG-16 with random weights at 224 x 224, cut at block5_conv3, as in exact_on_smooth_heads: 25,088 of 100,352
locations pass max pooling, and about half of these have a positive derivative. The first ratio is that of
`derivatives.exact`, the second the share of the pushed directions with Y1 > 0, which is the floor.
"""

import functools

import jax

from benchmarks import timing
from benchmarks.exact_on_smooth_heads import gelu_vgg
from jaxcam.derivatives import exact

BOUNDS = {"exact, Y1 > 0 / all directions": 0.6}


def measure(*, small: bool = False) -> dict:
    """The time of exact derivatives at positive locations over that at all locations; small runs a small network."""
    head, params, A = gelu_vgg(small)

    @functools.partial(jax.jit, static_argnames="where")
    def derivatives(params, A, where):
        return exact(lambda A: head(params, A)[3], A, where=where)

    rivals = {
        "all directions": functools.partial(derivatives, params, A, None),
        "Y1 > 0": functools.partial(derivatives, params, A, _is_positive),
    }
    times = timing.in_turn(rivals, repeats=1 if small else 3)
    u1 = rivals["all directions"]().u1
    return {
        "ratios": {
            "exact, Y1 > 0 / all directions": timing.median_ratio(times, "Y1 > 0", "all directions"),
            "directions, Y1 > 0 / all that pass": float((u1 > 0).sum() / (u1 != 0).sum()),
        },
        "bounds": BOUNDS,
        "seconds": timing.summary(times),
    }


def _is_positive(u1):
    return u1 > 0
