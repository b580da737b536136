"""Where locations meet only in sums, exact pushes channels, not locations: at least 60 times faster than brute force.

- A gated head: squeeze-and-excite over 480 channels at 7 x 7, projections to 80 and 640, silu, pooling, dense.
- The end of EfficientNet-B0 as in exact_on_smooth_heads: 1152 channels at 7 x 7.
- The projections of the gated head behind group norm.

The rival is the plan that pushes every direction by itself. It is timed on one chunk of its directions (`where=`) and
scaled, and so is brute force (three nested jvp along one-hot directions, 128 at a time) on 128 locations. The floor is
the number of operations of the plan at the rate of matrix products in the same run. Errors are those of the sampled
locations, in float32.
"""

import functools
import statistics
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import timing
from benchmarks.exact_on_smooth_heads import efficientnet, gate, projected_head
from jaxcam.derivatives import _plan, brute_force, exact, exact_cost

AT_LEAST = {"gated head: brute force / exact": 60, "EfficientNet-B0's end: every direction by itself / exact": 17}
SAMPLED = 128


def group_norm(_, A):
    """Group norm with 8 groups."""
    x = A.reshape(*A.shape[:2], 8, -1)
    axes = (0, 1, 3)
    x = (x - x.mean(axes, keepdims=True)) * jax.lax.rsqrt(x.var(axes, keepdims=True) + 1e-5)
    return x.reshape(A.shape)


def measure(*, small: bool = False) -> dict:
    """Ratios against brute force and the plan of single directions, for each head; small runs small heads."""
    widths = (16, 4, 8, 12, 10) if small else (480, 20, 80, 640, 1000)
    heads = {
        "gated head": projected_head(widths, gate),
        "EfficientNet-B0's end": efficientnet(small),
        "group norm, 8 groups": projected_head(widths, group_norm),
    }
    ratios, details = {}, {}
    for name, (head, params, A) in heads.items():
        found = compare(head, params, A, repeats=1 if small else 3)
        ratios[f"{name}: every direction by itself / exact"] = found["by itself, scaled, s"] / found["exact, s"]
        ratios[f"{name}: brute force / exact"] = found["brute force, scaled, s"] / found["exact, s"]
        ratios[f"{name}: exact / floor"] = found["exact, s"] / found["floor, s"]
        details[name] = found
    return {"ratios": ratios, "at least": AT_LEAST, "details": details}


def compare(head, params, A, *, repeats):
    """Times of exact, of one chunk of the other plan, of brute force on a sample, and of matrix products, in turn."""

    def score(params):
        return lambda A: head(params, A)[3]

    some = jnp.arange(0, A.size, max(1, A.size // SAMPLED))[:SAMPLED]

    @functools.partial(jax.jit, static_argnames="where")
    def ours(params, A, where=None):
        return exact(score(params), A, where=where)

    @jax.jit
    def slow(params, A):
        def f(values):
            return score(params)(A.ravel().at[some].set(values).reshape(A.shape))

        return brute_force(f, A.ravel()[some], batch_size=SAMPLED)

    cost = exact_cost(score(params), A)
    with mock.patch.object(_plan, "find_shared_local", lambda *_: []):
        by_itself = exact_cost(score(params), A)
        chunk = -(-by_itself.directions // by_itself.chunks)
        # As many directions as fill a chunk; a direction may serve several elements of A.
        of_a_chunk = jnp.arange(A.size) % by_itself.directions < chunk
        of_chunk = jax.jit(lambda params, A: exact(score(params), A, where=of_a_chunk.reshape(A.shape)))
        one_chunk = of_chunk.lower(params, A).compile()
    x, W = jax.random.normal(jax.random.key(0), (2048, 512)), jax.random.normal(jax.random.key(1), (512, 512))
    products = jax.jit(lambda x, W: jax.lax.fori_loop(0, 20, lambda _, x: 1e-2 * (x @ W), x))
    rivals = {
        "exact": functools.partial(ours, params, A),
        "one chunk": functools.partial(one_chunk, params, A),
        "brute force": functools.partial(slow, params, A),
        "products": functools.partial(products, x, W),
    }
    times = timing.in_turn(rivals, repeats=repeats)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    rate = 20 * 2 * x.size * W.shape[1] / seconds["products"]
    found, truth = rivals["exact"](), rivals["brute force"]()
    return {
        "locations": A.size,
        "directions": cost.directions,
        "directions by themselves": by_itself.directions,
        "plan's operations": cost.flops,
        "operations by themselves": by_itself.flops,
        "exact, s": seconds["exact"],
        "by itself, scaled, s": seconds["one chunk"] * by_itself.chunks,
        "brute force, scaled, s": seconds["brute force"] * A.size / some.size,
        "floor, s": cost.flops / rate,
        "matrix rate, GFLOP/s": rate / 1e9,
        **{
            f"{order} against brute force": float(
                jnp.abs(getattr(found, order).ravel()[some] - expected).max() / jnp.abs(expected).max()
            )
            for order, expected in truth._asdict().items()
            if order != "u"
        },
    }
