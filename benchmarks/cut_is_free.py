"""Cutting costs nothing at run time: features, then head, of a cut ResNet-18 at most 1.02 times the uncut forward pass.

ResNet-18 as published, in NNX and in Linen, 224 x 224, batch of one, cut inside a residual block of the third stage
(where the head still reads what goes round the layer) and at the end of it. The rival is the model's own forward pass
in eval mode, jitted by the means of its framework, with the parameters as arguments too. Beside it what compiling
takes, with the parameters as arguments and, as a warning, closed over; and the operations of the two halves compiled
apart, at the end of the block, over those of the model: what a half does not need is not in it.
"""

import functools
import time
from typing import Any

import jax
from flax import nnx

import jaxcam
from benchmarks import resnets, timing

BOUND = 1.02


def measure(*, small: bool = False) -> dict:
    """Ratios of the two halves in one jit over the uncut model; small runs narrow networks on small images."""
    size: dict[str, Any] = {"blocks": (1, 1), "widths": (8, 16), "classes": 10} if small else {}
    shape = (32, 32, 3) if small else (224, 224, 3)
    image = jax.random.uniform(jax.random.key(0), shape)
    stage = 1 if small else 2
    ratios: dict[str, float] = {}
    seconds: dict[str, dict[str, float]] = {}
    compiling: dict[str, float] = {}
    operations: dict[str, float] = {}

    model = resnets.ResNet(**size, rngs=nnx.Rngs(0))
    evaluated = nnx.clone(model)
    evaluated.eval()
    graphdef, params = nnx.split(evaluated)
    module = resnets.LinenResNet(**size)
    variables = jax.jit(module.init)(jax.random.key(0), image[None])

    def uncut_nnx(params, x):
        return nnx.merge(graphdef, params)(x[None])[0]

    def uncut_linen(variables, x):
        return module.apply(variables, x[None], train=False)[0]

    block = 0
    for name, whole, uncut, learned, layers in (
        ("NNX", model, uncut_nnx, params, (f"stages/{stage}/{block}/conv1", f"stages/{stage}/{block}")),
        (
            "Linen",
            (module, variables),
            uncut_linen,
            variables,
            (f"stage{stage}_block{block}/conv1", f"stage{stage}_block{block}"),
        ),
    ):
        rivals = {"uncut": functools.partial(jax.jit(uncut), learned, image)}
        for layer in layers:
            cut = jaxcam.cut(whole, layer, image_shape=shape)
            inside = "inside a block" if cut.reads_input else "after a block"
            rivals[inside] = functools.partial(jax.jit(both_halves), cut, image)
        A = jax.eval_shape(cut.features, cut.params, image)
        apart = flops(cut.features, cut.params, image) + flops(cut.head, cut.params, A, image)
        operations[f"{name}, operations of the halves / uncut"] = apart / flops(uncut, learned, image)
        compiling |= {f"{name}, {key}": value for key, value in compile_times(cut, uncut, learned, image).items()}
        times = timing.in_turn(rivals, repeats=3 if small else 41)
        ratios |= {
            f"{name}, cut {rival} / uncut": timing.median_ratio(times, rival, "uncut")
            for rival in rivals
            if rival != "uncut"
        }
        seconds |= {f"{name}, {rival}": summary for rival, summary in timing.summary(times).items()}
    ratios |= operations
    return {"ratios": ratios, "bound": BOUND, "seconds": seconds, "compiling": compiling, "table": table(compiling)}


def both_halves(cut, x):
    """The model by way of its activation."""
    return cut.head(cut.params, cut.features(cut.params, x), x)


def flops(function, *arguments):
    """As XLA counts them in the compiled program."""
    return (jax.jit(function).lower(*arguments).compile().cost_analysis() or {})["flops"]


def compile_times(cut, uncut, learned, image):
    """Seconds from nothing to a compiled program, tracing among them."""

    def seconds(function, *arguments):
        start = time.perf_counter()
        jax.jit(function).lower(*arguments).compile()
        return time.perf_counter() - start

    return {
        "cut, parameters as arguments": seconds(lambda cut, x: both_halves(cut, x), cut, image),
        "uncut, parameters as arguments": seconds(lambda params, x: uncut(params, x), learned, image),
        "cut, parameters closed over": seconds(lambda x: both_halves(cut, x), image),
    }


def table(compiling):
    """Compiling, as text."""
    return "compiling, seconds\n" + "\n".join(f"  {value:6.2f}  {name}" for name, value in compiling.items())
