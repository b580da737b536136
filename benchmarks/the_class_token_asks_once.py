"""Where the class token alone is read, exact pushes all tokens of a channel at once: seconds in the place of minutes.

Vision transformers with random weights, cut at the output of `norm1` of the last block, the input of its attention:

- two blocks of width 192 with 3 heads, at 96 and at 224 pixels;
- ViT-B/16 at 224 pixels.

The rival is the plan of the program as it is traced, which pushes every direction through all tokens. It is timed whole
at 96 pixels, and on one of its chunks (`where=`) and scaled at 224. Brute force (three nested jvp along one-hot
directions) is timed on some directions and scaled. "Y1 > 0" is what Grad-CAM++ asks for. The floor is the number of
operations of the plan at the rate of matrix products in the same run. Errors are those of the sampled directions, in
float32.
"""

import functools
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam
from benchmarks import timing
from jaxcam.derivatives import _exact, brute_force, exact, exact_cost
from jaxcam.derivatives._plan import make_plan
from jaxcam.networks.vit import ViT

BOUNDS = {"two blocks of width 192, 224 pixels: exact, s": 10, "ViT-B/16, 224 pixels: exact, s": 20}
SAMPLED = 16


def networks(small):
    """The arguments of each network, and whether the rival is timed whole."""
    if small:
        return {
            "two blocks of width 24, 32 pixels": (
                {"width": 24, "depth": 2, "heads": 3, "image_shape": (32, 32, 3)},
                True,
            )
        }
    tiny = {"width": 192, "depth": 2, "heads": 3}
    return {
        "two blocks of width 192, 96 pixels": ({**tiny, "image_shape": (96, 96, 3)}, True),
        "two blocks of width 192, 224 pixels": (tiny, False),
        "ViT-B/16, 224 pixels": ({"width": 768, "depth": 12, "heads": 12}, False),
    }


def measure(*, small: bool = False) -> dict:
    """Seconds and ratios for each network; small runs a small one."""
    ratios, details = {}, {}
    for name, (arguments, whole) in networks(small).items():
        result = compare(arguments, whole)
        ratios[f"{name}: exact, s"] = result["exact, s"]
        ratios[f"{name}: every direction by itself / exact"] = result["by itself, s"] / result["exact, s"]
        ratios[f"{name}: brute force / exact"] = result["brute force, scaled, s"] / result["exact, s"]
        ratios[f"{name}: Y1 > 0 / exact"] = result["Y1 > 0, s"] / result["exact, s"]
        ratios[f"{name}: exact / floor"] = result["exact, s"] / result["floor, s"]
        details[name] = result
    return {"ratios": ratios, "bounds": BOUNDS, "details": details}


def compare(arguments, whole):
    """Times of exact, of the rival, of brute force on a sample, and of matrix products, each compiled before."""
    model = ViT(**arguments, classes=10, rngs=nnx.Rngs(0))
    cut = jaxcam.cut(model, f"blocks/{arguments['depth'] - 1}/norm1")
    image = jax.random.uniform(jax.random.key(0), model.image_shape)
    A = jax.jit(lambda cut, image: cut.features(cut.params, image))(cut, image)

    def score(cut):
        return lambda A: cut.head(cut.params, A, image)[3]

    some = jnp.arange(0, A.size, A.size // SAMPLED)[:SAMPLED]
    derivatives = jax.jit(lambda cut, A, where=None: exact(score(cut), A, where=where), static_argnames="where")

    @jax.jit
    def slow(cut, A):
        f = score(cut)
        return brute_force(lambda values: f(A.ravel().at[some].set(values).reshape(A.shape)), A.ravel()[some])

    calls = {
        "exact": derivatives.lower(cut, A).compile(),
        "Y1 > 0": derivatives.lower(cut, A, where=_is_positive).compile(),
        "brute force": slow.lower(cut, A).compile(),
    }
    cost = exact_cost(score(cut), A)
    with mock.patch.object(_exact, "choose_plan", make_plan):
        by_itself = exact_cost(score(cut), A)
        chunk = -(-by_itself.directions // by_itself.chunks)
        mask = None if whole else (jnp.arange(A.size) < chunk).reshape(A.shape)
        calls["by itself"] = jax.jit(lambda cut, A: exact(score(cut), A, where=mask)).lower(cut, A).compile()
    x, W = jax.random.normal(jax.random.key(0), (2048, 512)), jax.random.normal(jax.random.key(1), (512, 512))
    products = jax.jit(lambda x, W: jax.lax.fori_loop(0, 20, lambda _, x: 1e-2 * (x @ W), x)).lower(x, W).compile()
    seconds, results = {}, {}
    for name, call in calls.items():
        start = time.perf_counter()
        results[name] = jax.block_until_ready(call(cut, A))
        seconds[name] = time.perf_counter() - start
    of_products = timing.in_turn({"products": functools.partial(products, x, W)}, repeats=5)["products"]
    rate = 20 * 2 * x.size * W.shape[1] / statistics.median(of_products)
    result, truth = results["exact"], results["brute force"]
    return {
        "locations": A.size,
        "directions": cost.directions,
        "directions by themselves": by_itself.directions,
        "plan's operations": cost.flops,
        "operations by themselves": by_itself.flops,
        "exact, s": seconds["exact"],
        "Y1 > 0, s": seconds["Y1 > 0"],
        "by itself, s": seconds["by itself"] * (1 if whole else by_itself.chunks),
        "by itself, timed on": "all chunks" if whole else f"one chunk of {by_itself.chunks}",
        "brute force, scaled, s": seconds["brute force"] * A.size / some.size,
        "floor, s": cost.flops / rate,
        "matrix rate, GFLOP/s": rate / 1e9,
        **{
            f"{order} against brute force": float(
                jnp.abs(getattr(result, order).ravel()[some] - expected).max() / jnp.abs(expected).max()
            )
            for order, expected in truth._asdict().items()
            if order != "u"
        },
    }


def _is_positive(u1):
    return u1 > 0
