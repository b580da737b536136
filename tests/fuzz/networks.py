"""Small networks in plain JAX, of any float type and with any relu, so that an oracle can run them in its own way.

A network is three functions, `features(params, x) -> A`, `logits(params, A, x)` and the ending that makes outputs of
the logits. jaxcam gets a `Cut` of them; the oracle never sees the cut.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam


class Network(NamedTuple):
    """A network.

    Attributes:
      shape: of its image, `[*spatial c]`.
      classes: the length of its logits.
      arrays: the shapes of its parameters.
      features: `(params, x, relu) -> A`.
      logits: `(params, A, x, relu) -> [classes]`.
      ending: "logits", "softmax", "sigmoid" or "structured": what the outputs are.
      relu: the activation.
      dtype: of the parameters, to which the image is cast.
    """

    shape: tuple[int, ...]
    classes: int
    arrays: dict[str, tuple[int, ...]]
    features: Callable[..., jax.Array]
    logits: Callable[..., jax.Array]
    ending: str = "logits"
    relu: Callable[[jax.Array], jax.Array] = jax.nn.relu
    dtype: Any = np.float32


def convolve(x, kernel):
    """x `[*spatial c]`, of any rank, with zeros around; a kernel of size 1 or 3."""
    space = "DHW"[-(x.ndim - 1) :]
    layout = (f"N{space}C", f"{space}IO", f"N{space}C")
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1,) * (x.ndim - 1), "SAME", dimension_numbers=layout, precision="highest"
    )[0]


def one_convolution(params, x, relu):
    x = x.astype(params["first"].dtype)
    hidden = convolve(x, params["first"])
    return relu(hidden + jnp.broadcast_to(params["bias"], hidden.shape))


def dense(params, A):
    pooled = A.mean(range(A.ndim - 1))
    return jnp.dot(pooled, params["dense"], precision="highest") + params["offset"]


def pooled(params, A, x, relu):
    return dense(params, A)


def second_convolution(params, A, x, relu):
    return dense(params, relu(convolve(A, params["second"])))


def max_pooled(params, A, x, relu):
    windows = jax.lax.reduce_window(A, -jnp.inf, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID")
    return dense(params, relu(convolve(windows, params["second"])))


def attention(params, A, x, relu):
    tokens = A.reshape(-1, A.shape[-1])
    product = functools.partial(jnp.matmul, precision="highest")
    query, key, value = (product(tokens, params[name]) for name in ("query", "key", "value"))
    mixed = tokens + product(jax.nn.softmax(product(query, key.T) / 2), value)
    centered = mixed - mixed.mean(-1, keepdims=True)
    scaled = centered * jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-3)
    return dense(params, relu(scaled))


def around_the_layer(params, A, x, relu):
    x = x.astype(A.dtype)
    return dense(params, relu(convolve(A, params["second"]) + convolve(x, params["skip"])))


def _arrays(spatial, c, k, classes, **more):
    return {"first": (*(3,) * len(spatial), c, k), "bias": (k,), "dense": (k, classes), "offset": (classes,), **more}


def _network(spatial, c, k, classes, logits, hidden=None, **options):
    """A network with a convolution at the layer; behind it a second one, and what is `hidden`, unless that is None."""
    more = {} if hidden is None else {"second": (*(3,) * len(spatial), k, k)} | hidden
    more = {name: shape for name, shape in more.items() if shape is not None}
    arrays = _arrays(spatial, c, k, classes, **more)
    return Network((*spatial, c), classes, arrays, one_convolution, logits, **options)


# exact gelu: its tanh form overflows at other arguments than the function
gelu = functools.partial(jax.nn.gelu, approximate=False)
MATRICES = {name: (4, 4) for name in ("query", "key", "value")}
NETWORKS = {
    "relu": _network((5, 4), 2, 3, 4, second_convolution, {}),
    "pooled": _network((6, 5), 3, 4, 5, pooled),
    "max": _network((6, 6), 1, 3, 4, max_pooled, {}),
    "gelu": _network((4, 3), 2, 3, 4, second_convolution, {}, relu=gelu),
    "attention": _network((3, 3), 2, 4, 3, attention, MATRICES | {"second": None}, relu=jnp.tanh),
    "around": _network((4, 4), 2, 3, 3, around_the_layer, {"skip": (3, 3, 2, 3)}),
    "softmax": _network((4, 5), 3, 3, 4, second_convolution, {}, ending="softmax"),
    "sigmoids": _network((4, 4), 2, 3, 3, second_convolution, {}, ending="sigmoid"),
    "one logit": _network((5, 3), 1, 4, 1, second_convolution, {}),
    "one sigmoid": _network((3, 4), 2, 3, 1, second_convolution, {}, ending="sigmoid"),
    "structured": _network((4, 4), 2, 3, 4, second_convolution, {}, ending="structured"),
    "signal": _network((12,), 2, 3, 3, second_convolution, {}),
    "smooth signal": _network((9,), 3, 4, 4, second_convolution, {}, relu=jax.nn.silu),
    "volume": _network((3, 4, 3), 1, 3, 3, second_convolution, {}),
    "half": _network((5, 4), 2, 3, 4, second_convolution, {}, dtype=jnp.bfloat16),
}


def ended(network, z, A):
    """The outputs of a network with the logits z."""
    if network.ending == "structured":
        return {"logits": z, "mask": A.sum(-1), "label": z.argmax()}
    return {"logits": lambda z: z, "softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[network.ending](z)


class Features(NamedTuple):
    """The features of a network by its name, equal to others of that name, as jit compares them."""

    name: str

    def __call__(self, params, x):
        network = NETWORKS[self.name]
        return network.features(params, x, network.relu)


class Head(NamedTuple):
    """The head of a network by its name."""

    name: str

    def __call__(self, params, A, x):
        network = NETWORKS[self.name]
        return ended(network, network.logits(params, A, x, network.relu), A)


def cut_of(name, params):
    return jaxcam.Cut(params, Features(name), Head(name), layer=name)


def cuts_of(name, params):
    """The network, with what is added to its layer."""
    return jaxcam.Cuts(params, Tapped(name), (name,))


class Tapped(NamedTuple):
    """`cuts.tapped` of a network by its name."""

    name: str

    def __call__(self, params, deltas, x):
        A = Features(self.name)(params, x)
        A = A + deltas[self.name].astype(A.dtype) if self.name in deltas else A
        return {self.name: A}, Head(self.name)(params, A, x)


class Model(nnx.Module):
    """The network "relu" as a Flax model, whose parameters are given."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        *spatial, c, k = NETWORKS["relu"].arrays["first"]
        self.first = nnx.Conv(c, k, tuple(spatial), precision="highest", rngs=rngs)
        self.second = nnx.Conv(k, k, tuple(spatial), use_bias=False, precision="highest", rngs=rngs)
        self.dense = nnx.Linear(k, NETWORKS["relu"].classes, precision="highest", rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        return self.dense(nnx.relu(self.second(x)).mean((1, 2)))


@functools.cache
def _cut_of_model():
    return jaxcam.cut(Model(), "first", after=nnx.relu)


def cut_of_flax_model(params):
    """The cut of `Model` with the parameters of the network "relu"."""
    values = {
        ("first", "kernel"): params["first"],
        ("first", "bias"): params["bias"],
        ("second", "kernel"): params["second"],
        ("dense", "kernel"): params["dense"],
        ("dense", "bias"): params["offset"],
    }

    def replaced(path, leaf):
        names = [str(getattr(part, "key", getattr(part, "name", part))) for part in path]
        return next(value for key, value in values.items() if set(key) <= set(names))

    cut = _cut_of_model()
    return dataclasses.replace(cut, params=jax.tree_util.tree_map_with_path(replaced, cut.params))


def random_params(name, rng):
    """Parameters, float32, and what is special about them."""
    network = NETWORKS[name]
    kind = rng.choice(["normal", "no bias", "small", "large", "zeros", "dead"], p=[0.7, 0.1, 0.06, 0.06, 0.04, 0.04])
    scale = {"small": 1e-3, "large": 30.0, "zeros": 0.0}.get(kind, 1.0)
    params = {}
    for key, shape in network.arrays.items():
        fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 4
        params[key] = (scale * rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)
    if kind == "no bias":
        params["bias"] *= 0
        params["offset"] *= 0
    if kind == "dead":  # every relu behind the layer is 0
        params["dense"] *= 0
    return {key: np.asarray(value).astype(network.dtype) for key, value in params.items()}, str(kind)
