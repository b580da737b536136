"""Exact derivatives of smooth heads: at least 15 times faster than brute force, at most 2 times their floor.

- gelu VGG-16 with random weights at 224 x 224, cut at block5_conv3: all 100,352 locations of one image. The floor is
  what cannot be left out: the first and second coefficients of the 25,088 locations that pass max pooling, through one
  4096 x 4096 layer, at the rate of such matrix products in the same run.
- The head of ConvNeXt-T on 7 x 7 x 768: pooling, layer norm, dense; and with the norm before the pooling.
- The end of EfficientNet-B0 on 7 x 7 x 1152: squeeze-and-excite, two 1 x 1 convolutions with batch norm, silu, pooling,
  dense. The locations of a channel share the gate's answer: the floor is the count of the plan at the matrix rate.

Brute force (three nested jvp along one-hot directions) is timed on a fiftieth of the locations and scaled, 128 and 512
directions at a time, and the better of the two counts. Memory is the largest that the process has held when the exact
derivatives are done, before brute force starts.
"""

import functools
import math
import resource
import statistics
import sys

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam
from benchmarks import timing
from jaxcam.derivatives import brute_force, exact, exact_cost

BOUNDS = {"exact / floor": 2, "memory, GB": 6}
AT_LEAST = {"brute force / exact": 15}


def gelu_vgg(small):
    """`(head(params, A), params, A)` of VGG-16 with gelu."""
    gelu = functools.partial(jax.nn.gelu, approximate=False)
    build, layer = (jaxcam.vgg_digits, "block3_conv2") if small else (jaxcam.vgg16, "block5_conv3")
    model = build(rngs=nnx.Rngs(0), activation=gelu)
    cut = jaxcam.cut(model, layer)
    image = jax.random.uniform(jax.random.key(0), model.image_shape)
    A = jax.jit(lambda cut, image: cut.features(cut.params, image))(cut, image)
    return (lambda cut, A: cut.head(cut.params, A, image)), cut, A


def convnext(small, *, pool_first):
    """Pooling, layer norm, dense, as in ConvNeXt; or the norm at each location, then pooling."""
    k = 16 if small else 768
    A = jax.random.normal(jax.random.key(0), (7, 7, k))
    W = jax.random.normal(jax.random.key(1), (k, 10 if small else 1000)) / math.sqrt(k)

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)

    def head(W, A):
        return (norm(A.mean((0, 1))) if pool_first else norm(A).mean((0, 1))) @ W

    return head, W, A


def projected_head(widths, before):
    """A gate or a norm, `before`, two 1 x 1 convolutions with batch norm, silu, pooling, dense.

    `widths` are the channels: of A, squeezed in a gate, of both convolutions, and the classes.
    """
    k, squeezed, narrow, wide, classes = widths
    A = jax.nn.silu(jax.random.normal(jax.random.key(0), (7, 7, k)))
    shapes = {"down": (k, squeezed), "up": (squeezed, k), "narrow": (k, narrow), "wide": (narrow, wide)}
    shapes["dense"] = (wide, classes)
    keys = jax.random.split(jax.random.key(1), len(shapes))
    params = {
        name: jax.random.normal(key, shape) / math.sqrt(shape[0])
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }

    def head(p, A):
        x = before(p, A) @ p["narrow"] * 1.1 + 0.1  # batch norm in eval mode is a scale and a shift
        return jax.nn.silu(x @ p["wide"] * 0.9 - 0.1).mean((0, 1)) @ p["dense"]

    return head, params, A


def gate(p, A):
    """Squeeze-and-excite."""
    squeezed = jax.nn.silu(A.mean((0, 1), keepdims=True) @ p["down"])
    return A * jax.nn.sigmoid(squeezed @ p["up"])


def efficientnet(small):
    """EfficientNet-B0's end, from the gate of its last block."""
    return projected_head((16, 4, 8, 12, 10) if small else (1152, 48, 320, 1280, 1000), gate)


@jax.jit
def multiply(x, W):
    """Twenty products of a chunk of directions with a layer, each on the result of the one before."""
    return jax.lax.fori_loop(0, 20, lambda _, x: 1e-2 * (x @ W), x)


def measure(*, small: bool = False) -> dict:
    """Ratios against brute force and floor for each head; small runs small ones."""
    n = 64 if small else 4096
    x, W = jax.random.normal(jax.random.key(0), (512, n)), jax.random.normal(jax.random.key(1), (n, n))
    heads = {
        "gelu VGG-16": (gelu_vgg(small), 3),
        "ConvNeXt-T's head": (convnext(small, pool_first=True), 5),
        "layer norm before pooling": (convnext(small, pool_first=False), 3),
        "EfficientNet-B0's end": (efficientnet(small), 1),
    }
    ratios, details = {}, {}
    for name, ((head, params, A), repeats) in heads.items():
        seconds, found = compare(
            head, params, A, functools.partial(multiply, x, W), 1 if small else repeats, small=small
        )
        rate = 20 * 2 * 512 * n * n / statistics.median(seconds["twenty matrix products"])
        flops = 4 * 25_088 * 4096**2 if name == "gelu VGG-16" and not small else found["plan's operations"]
        floor = flops / rate
        time = statistics.median(seconds["exact"])
        ratios[f"{name}: brute force / exact"] = found["brute force, scaled, s"] / time
        ratios[f"{name}: exact / floor"] = time / floor
        details[name] = {**found, "exact, s": time, "floor, s": floor, "matrix rate, GFLOP/s": rate / 1e9}
    return {"ratios": ratios, "bounds": BOUNDS, "at least": AT_LEAST, "details": details}


def compare(head, params, A, products, repeats, *, small):
    """Times of exact and the matrix products in turn, then of brute force on a fiftieth of the locations."""

    @jax.jit
    def ours(params, A):
        return exact(lambda A: head(params, A)[3], A)

    @functools.partial(jax.jit, static_argnames="size")
    def slow(params, A, some, size):
        def f(values):
            return head(params, A.ravel().at[some].set(values).reshape(A.shape))[3]

        return brute_force(f, A.ravel()[some], batch_size=size)

    cost = exact_cost(lambda A: head(params, A)[3], A)
    rivals = {"exact": functools.partial(ours, params, A), "twenty matrix products": products}
    seconds = timing.in_turn(rivals, repeats=repeats)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    some = jnp.arange(0, A.size, 50)
    sizes = {
        f"{size} at a time": functools.partial(slow, params, A, some, size)
        for size in ((128,) if small else (128, 512))
    }
    rest = {size: statistics.median(times) for size, times in timing.in_turn(sizes, repeats=1).items()}
    size = min(rest, key=lambda size: rest[size])
    found, wanted = ours(params, A), sizes[size]()
    errors = {
        f"{each} against brute force": float(
            jnp.abs(getattr(found, each).ravel()[some] - truth).max() / jnp.abs(truth).max()
        )
        for each, truth in wanted._asdict().items()
        if each != "u"
    }
    return seconds, {
        "locations": A.size,
        "directions": cost.directions,
        "plan's operations": cost.flops,
        "memory, GB": memory,
        "brute force": size,
        "brute force, scaled, s": rest[size] * A.size / some.size,
        **errors,
    }
