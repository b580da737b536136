"""A network of depthwise convolutions, cut, takes at most 0.3 of the time that it takes uncut on a CPU.

EfficientNet-Lite0 at 224 x 224 with the features and the head of a cut, whose depthwise convolutions are shifted
products, against the model's own forward pass, whose convolutions are XLA's; and the gradient of the class score in the
image. Below it single convolutions: a row for each kind that networks have. A ratio is the time as shifted products
over XLA's own. On other devices than a CPU nothing is rewritten, and the ratios are about 1.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam
from benchmarks import timing
from jaxcam.tracing import as_shifted_products

BOUND = 0.3
# (side, channels in, kernel, stride, groups, multiplier): MobileNet and EfficientNet, ConvNeXt, ResNeXt.
CONVOLUTIONS = (
    (112, 32, 3, 1, 32, 1),
    (56, 144, 3, 1, 144, 1),
    (28, 240, 5, 1, 240, 1),
    (14, 672, 5, 2, 672, 1),
    (7, 1152, 5, 1, 1152, 1),
    (56, 96, 7, 1, 96, 1),
    (28, 64, 3, 1, 64, 2),
    (56, 128, 3, 1, 32, 1),
    (14, 512, 3, 1, 32, 1),
    (14, 1024, 3, 1, 32, 1),
)


def measure(*, small: bool = False) -> dict:
    """Ratios of shifted products over XLA's convolutions."""
    repeats = 2 if small else 11
    shape = (64, 64, 3) if small else (224, 224, 3)
    model = jaxcam.EfficientNetLite(classes=10 if small else 1000, image_shape=shape, rngs=nnx.Rngs(0))
    cut = jaxcam.cut(model, "blocks/10", image_shape=shape)
    graphdef, params = nnx.split(model)
    image = jax.random.uniform(jax.random.key(0), shape)

    def uncut(params, x):
        return nnx.merge(graphdef, params)(x[None])[0]

    def halves(params, x):
        return cut.head(params, cut.features(params, x), x)

    def gradient(outputs_of):
        return jax.jit(jax.grad(lambda x: outputs_of(params, x)[3]))

    times = timing.in_turn(
        {
            "cut": functools.partial(jax.jit(halves), params, image),
            "uncut": functools.partial(jax.jit(uncut), params, image),
            "gradient, cut": functools.partial(gradient(halves), image),
            "gradient, uncut": functools.partial(gradient(uncut), image),
        },
        repeats=repeats,
    )
    ratios = {
        "forward pass: cut / uncut": timing.median_ratio(times, "cut", "uncut"),
        "gradient in the image: cut / uncut": timing.median_ratio(times, "gradient, cut", "gradient, uncut"),
    }
    single = {}
    for sizes in CONVOLUTIONS[:2] if small else CONVOLUTIONS:
        name, rivals = _rivals(*sizes)
        of_kind = timing.in_turn(rivals, repeats=repeats)
        single[name] = {
            "forward": timing.median_ratio(of_kind, "shifted", "convolution"),
            "gradient": timing.median_ratio(of_kind, "shifted, gradient", "convolution, gradient"),
        }
    return {
        "ratios": ratios,
        "bounds": {name.split(": ")[1]: BOUND for name in list(ratios)[:1]},
        "seconds": timing.summary(times),
        "convolutions": single,
        "table": _table(single),
    }


def _rivals(side, channels, k, stride, groups, multiplier):
    """The name of a convolution, and it and its gradient both ways."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, side, side, channels)), jnp.float32)
    out = channels * multiplier
    kernel = jnp.asarray(rng.normal(size=(k, k, channels // groups, out)), jnp.float32)

    def convolution(x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    (eqn,) = (eqn for eqn in jax.make_jaxpr(convolution)(x).eqns if eqn.primitive.name == "conv_general_dilated")

    def shifted(x):
        return as_shifted_products(x, kernel, eqn.params)

    def gradient(f):
        return jax.jit(jax.grad(lambda x: (f(x) ** 2).sum()))

    rivals = {
        "shifted": functools.partial(jax.jit(shifted), x),
        "convolution": functools.partial(jax.jit(convolution), x),
        "shifted, gradient": functools.partial(gradient(shifted), x),
        "convolution, gradient": functools.partial(gradient(convolution), x),
    }
    return f"[{side} {side} {channels}] {k} x {k}, stride {stride}, {groups} groups, {out} out", rivals


def _table(single):
    """The single convolutions, as text."""
    rows = (f"  {r['forward']:6.3f} {r['gradient']:9.3f}  {name}" for name, r in single.items())
    return "\n".join(["forward  gradient  convolution", *rows])
