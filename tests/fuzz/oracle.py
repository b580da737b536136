"""What the maps should be: plain `jax.grad` and three nested `jvp` in float64, and the papers' formulas in NumPy.

Shares no code with jaxcam. Every quantity is computed for the given parameters and image, and for copies of both that
are changed by some roundings of their type. The distance of their maps from the map bounds the error of float32. In two
copies the derivatives differ by the error that plain `jax.grad` and `jvp` have in float32: a saturated tanh or sigmoid
loses digits in the network's own program.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.fuzz.networks import NETWORKS

COPIES = 6  # the first is not changed
ROUNDINGS = 4


@jax.custom_vjp
def guided_relu(x):
    return jnp.maximum(x, 0)


guided_relu.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, g: (jnp.where((x > 0) & (g > 0), g, 0),))


@jax.custom_vjp
def deconvnet_relu(x):
    return jnp.maximum(x, 0)


deconvnet_relu.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, g: (jnp.where(g > 0, g, 0),))
RELUS = {"plain": None, "guided": guided_relu, "deconvnet": deconvnet_relu}


# Scores of the logits, whatever the network ends in. They are written again here, in other forms than in jaxcam.


def log_softmax(z, t):
    others = jnp.where(jnp.arange(z.size) == t, -1e30, z - z[t])
    top = jax.lax.stop_gradient(others.max())
    return -jax.nn.softplus(top + jnp.log(jnp.exp(others - top).sum()))


def score_of_logits(ending, classes, score):
    """The score that jaxcam's score computes for a network with this ending."""
    is_sigmoid = ending == "sigmoid" or (ending == "logits" and classes == 1)
    if score == "logit":  # the network's own output, in its own program, which is saturated where it is
        endings = {"softmax": lambda z, t: jax.nn.softmax(z)[t], "sigmoid": lambda z, t: jax.nn.sigmoid(z[t])}
        return endings.get(ending, lambda z, t: z[t])
    if score == "log_softmax":
        return (lambda z, t: -jax.nn.softplus(-z[t])) if is_sigmoid else log_softmax
    if score == "probability":
        return (lambda z, t: 1 / (1 + jnp.exp(-z[t]))) if is_sigmoid else (lambda z, t: jnp.exp(log_softmax(z, t)))
    return score


# Programs: one for each network, score and kind of derivative.


def _one(network, relu_of):
    relu = RELUS[relu_of] or network.relu
    features = lambda params, x: network.features(params, x, relu)
    logits = lambda params, A, x: network.logits(params, A, x, relu)
    return features, logits


@functools.cache
def _program(name, score, kind, relu_of="plain"):
    network = NETWORKS[name]
    features, logits = _one(network, relu_of)
    score_of = score_of_logits(network.ending, network.classes, score)

    def u_of(params, A, x, target):
        z = logits(params, A, x)
        if network.ending == "structured":
            return score_of({"logits": z, "mask": A.sum(-1)}, target)
        return score_of(z, target)

    def compute(params, x, rounding, target):
        A = features(params, x) * rounding
        if kind == "input":
            u, vjp = jax.vjp(lambda x: u_of(params, features(params, x) * rounding, x, target), x)
            return {"A": A, "u": u, "gx": vjp(jnp.ones_like(u))[0]}
        u, u1 = jax.value_and_grad(lambda A: u_of(params, A, x, target))(A)
        result = {"A": A, "u": u, "u1": u1}
        if kind == "third":
            result |= dict(zip(("u2", "u3"), _diagonals(lambda A: u_of(params, A, x, target), A), strict=True))
        if kind == "closed form":
            J = jax.jacrev(lambda A: logits(params, A, x))(A)
            z = logits(params, A, x)
            result |= dict(zip(("u2", "u3"), _along_columns(lambda z: score_of(z, target), z, J), strict=True))
        return result

    return jax.jit(jax.vmap(compute, in_axes=(0, 0, 0, None)))


def _derivatives_along(f):
    """Second and third derivative of a function of one number at 0."""
    d = lambda f: lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]
    zero = jnp.zeros(())
    return d(d(f))(zero), d(d(d(f)))(zero)


def _diagonals(f, A):
    units = jnp.eye(A.size).reshape(-1, *A.shape)
    pairs = jax.vmap(lambda unit: _derivatives_along(lambda t: f(A + t * unit)))(units)
    return tuple(values.reshape(A.shape) for values in pairs)


def _along_columns(score, z, J):
    columns = J.reshape(z.size, -1).T
    pairs = jax.vmap(lambda column: _derivatives_along(lambda t: score(z + t * column)))(columns)
    return tuple(values.reshape(J.shape[1:]) for values in pairs)


@functools.cache
def _forward(name):
    network = NETWORKS[name]
    features, logits = _one(network, "plain")

    def compute(params, x, rounding):
        A = features(params, x) * rounding
        return A, logits(params, A, x)

    return jax.jit(jax.vmap(compute))


@functools.cache
def _shape_at_layer(name):
    network = NETWORKS[name]
    params = {key: jax.ShapeDtypeStruct(shape, np.float32) for key, shape in network.arrays.items()}
    image = jax.ShapeDtypeStruct(network.shape, np.float32)
    return jax.eval_shape(lambda params, x: network.features(params, x, network.relu), params, image).shape


class Point(NamedTuple):
    """Copies of parameters and images, float64, `[copies ...]`, and factors near 1 for the activation."""

    params: dict[str, np.ndarray]
    image: np.ndarray
    rounding: np.ndarray


class Oracle:
    """The derivatives of one network, score and target at copies of one image.

    Attributes:
      outside: what was seen outside the range of float32, or was not finite in float64.
    """

    def __init__(self, name, params, image, score, rng):
        self.name, self.score, self.rng = name, score, rng
        self.network = NETWORKS[name]
        self.rounding = float(np.finfo(np.float32).eps) if self.network.dtype == np.float32 else 2.0**-8
        self.input_rounding = max(self.rounding, float(jnp.finfo(image.dtype).eps))
        self.outside: set[str] = set()
        self.clean = Point(
            {key: self.copies(np.asarray(value, np.float64), self.rounding) for key, value in params.items()},
            self.copies(np.asarray(image, np.float64), self.input_rounding),
            self.copies(np.ones(_shape_at_layer(name))),
        )

    def copies(self, array, rounding=None):
        """`[copies ...]`: the array, and copies with a relative error of some roundings."""
        rounding = self.rounding if rounding is None else rounding
        errors = ROUNDINGS * rounding * self.rng.uniform(-1, 1, (COPIES, *array.shape))
        errors[0] = 0
        return array[None] * (1 + errors)

    def again(self, arrays):
        """Arrays that are copies already, each with errors of its own: the rounding of one more step."""
        errors = ROUNDINGS * self.rounding * self.rng.uniform(-1, 1, arrays.shape)
        errors[0] = 0
        return self.seen("an intermediate value", arrays * (1 + errors))

    def seen(self, what, arrays):
        """The arrays, of which is noted whether float32 holds them."""
        top = np.abs(arrays[0]).max(initial=0)
        if not np.isfinite(arrays).all() or top > 1e37 or 0 < top < 1e-35:
            self.outside.add(what)
        return arrays

    def at_image(self, image):
        """The point at another image, of the image's type."""
        image = self.copies(np.asarray(image, np.float64), self.input_rounding)
        return self.clean._replace(image=image, rounding=self.copies(np.ones(_shape_at_layer(self.name))))

    def forward(self, point=None):
        point = point or self.clean
        with jax.enable_x64(True):
            A, z = map(np.asarray, _forward(self.name)(*point))
        return self.seen("A", A), self.seen("the logits", z)

    def predicted(self):
        """The class of the largest output, and whether all copies agree beyond rounding."""
        _, z = self.forward()
        if self.network.ending == "sigmoid":
            z = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
        if self.network.ending == "softmax":
            z = np.exp(z - z.max(-1, keepdims=True))
        top = np.sort(z, -1)
        gap = top[:, -1] - top[:, -2] if z.shape[-1] > 1 else np.full(len(z), np.inf)
        unclear = (gap <= 8 * self.rounding * np.abs(top[:, -1])).any() or len(set(z.argmax(-1))) > 1
        return int(z[0].argmax()), bool(unclear)

    def run(self, kind, target, point=None, relu_of="plain"):
        point = point or self.clean
        with jax.enable_x64(True), np.errstate(all="ignore"):
            result = _program(self.name, self.score, kind, relu_of)(*point, target)
            result = {key: np.asarray(value) for key, value in result.items()}
        for key, value in result.items():
            self.seen(key, value)
        self._add_error_of_float32(result, kind, point, target, relu_of)
        return result

    def _add_error_of_float32(self, result, kind, point, target, relu_of):
        """Adds the error of the derivatives in float32 to the second copy, and takes it from the third."""
        inputs = jax.tree.map(lambda array: np.asarray(array[:1], np.float32), point)
        target = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32 if leaf.dtype.kind == "f" else None), target)
        with np.errstate(all="ignore"):
            in_float32 = _program(self.name, self.score, kind, relu_of)(*inputs, target)
        for name in {"gx", "u1", "u2", "u3"} & result.keys():
            error = np.asarray(in_float32[name], np.float64)[0] - result[name][0]
            if not np.isfinite(error).all():
                self.outside.add(f"{name} in float32")
                continue
            result[name] = result[name].copy()
            result[name][1] += error
            result[name][2] -= error

    def through_link(self, D, link):
        """log scale, and Y1, Y2, Y3 as copies `[copies *spatial k]`."""
        u1, u2, u3 = (self.again(D[key]) if key in D else None for key in ("u1", "u2", "u3"))
        if link == "identity":
            return np.zeros(COPIES), [u1, u2, u3]
        scale = self.again(D["u"])  # each sample's own rounding: that of the parameters is the same for all
        if u2 is None:
            return scale, [u1, None, None]
        return scale, [u1, self.again(u2 + u1**2), self.again(u3 + 3 * u1 * u2 + u1**3)]


# The papers' formulas, on copies `[copies *spatial k]`.


def _space(A):
    return tuple(range(1, A.ndim - 1))


def divided(a, b):
    with np.errstate(all="ignore"):
        return np.where(b == 0, 0, a / np.where(b == 0, 1, b))


def weights_plus_plus(oracle, A, Y, numerator, alpha):
    S = oracle.again(A.sum(_space(A), keepdims=True))
    denominator = 2 * Y[1] + oracle.again(oracle.seen("S Y3", S * Y[2]))
    factor = divided(Y[0] if numerator == "first" else Y[1], denominator)
    if alpha == "bounded":
        factor = np.clip(factor, 0, 0.5)
    return oracle.again((oracle.seen("alpha", factor) * np.maximum(Y[0], 0)).sum(_space(A), keepdims=True))


def channel_weights(oracle, method, A, Y, numerator="second", alpha="defined"):
    mean = lambda array: oracle.again(array.mean(_space(A), keepdims=True))
    rules = {
        "grad_cam": lambda: mean(Y[0]),
        "counterfactual_grad_cam": lambda: -mean(Y[0]),
        "grad_cam_plus": lambda: mean(np.maximum(Y[0], 0)),
        "xgrad_cam": lambda: divided(
            (A * Y[0]).sum(_space(A), keepdims=True), oracle.again(A).sum(_space(A), keepdims=True)
        ),
        "hires_cam": lambda: Y[0],
        "layer_cam": lambda: np.maximum(Y[0], 0),
        "largest": lambda: Y[0].max(_space(A), keepdims=True),
        "cam": lambda: Y[0].sum(_space(A), keepdims=True),
        "grad_cam_pp": lambda: weights_plus_plus(oracle, A, Y, numerator, alpha),
        "smooth_grad_cam_pp": lambda: weights_plus_plus(oracle, A, Y, numerator, alpha),
    }
    return rules[method]()


def summed(oracle, A, w, choose=None):
    products = oracle.again(A * oracle.seen("w", w))
    return np.maximum(products.sum(-1) if choose is None else choose(products), 0)


def averaged(scales, values):
    """The mean of e^scale * values, without the largest factor; scales `[samples copies]`."""
    scales = np.stack(scales)
    factors = np.exp(scales - scales.max(0, keepdims=True))
    return [
        None if samples[0] is None else sum(_along(f, samples[m]) for m, f in enumerate(factors)) / len(factors)
        for samples in zip(*values, strict=True)
    ]


def _along(factors, array):
    return factors.reshape(-1, *(1,) * (array.ndim - 1)) * array


def resized(maps, shape):
    """Maps `[copies *spatial]` resized linearly with half-pixel centers, by a matrix for each axis."""
    for axis, size in enumerate(shape, start=1):
        matrix = _linear_matrix(maps.shape[axis], size)
        maps = np.moveaxis(np.tensordot(maps, matrix, (axis, 1)), -1, axis)
    return maps


def _linear_matrix(old, new):
    widest = max(old / new, 1)
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    matrix = np.maximum(1 - np.abs(centers[:, None] - np.arange(old)[None]) / widest, 0)
    return matrix / matrix.sum(1, keepdims=True)


def normalized(maps):
    axes = tuple(range(1, maps.ndim))
    low, high = maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)
    return divided(maps - low, high - low)


def score_cam(oracle, target):
    A, _ = oracle.forward()
    us = []
    for k in range(A.shape[-1]):
        mask = normalized(resized(A[..., k], oracle.network.shape[:-1]))
        masked = oracle.again(oracle.clean.image * mask[..., None])
        us.append(oracle.run("first", target, oracle.clean._replace(image=masked))["u"])
    us = oracle.again(np.stack(us, -1))
    weights = np.exp(us - us.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    return summed(oracle, A, weights.reshape(len(A), *(1,) * (A.ndim - 2), -1))


def integrated_gradients(oracle, target, steps, baseline):
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    image = oracle.clean.image
    total: Any = 0
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        on_the_line = oracle.again(baseline + node * (image - baseline))
        total = total + weight * oracle.run("input", target, oracle.clean._replace(image=on_the_line))["gx"]
    return oracle.again(image - baseline) * oracle.again(total)


class Expected(NamedTuple):
    """The result, and how far from it float32 may be; `reason` says why there is nothing to compare."""

    value: np.ndarray
    tolerance: np.ndarray
    reason: str | None = None


def expected(oracle, maps, slack):
    """The map of what was not changed, and a bound on the error of float32: `slack` times that of the copies."""
    largest = np.abs(maps[0]).max(initial=0)
    spread = np.abs(maps - maps[:1]).max(0)
    # The error of a location is also that of its neighbors: they share sums and weights.
    tolerance = 1e-5 * largest + slack * np.maximum(spread, spread.mean()) + 1e-30
    oracle.seen("the map", maps)
    reason = None
    if oracle.outside:
        reason = f"out of float32's range: {', '.join(sorted(oracle.outside))}"
    elif largest > 0 and tolerance.max() > 0.3 * largest:
        reason = "ill-conditioned: the bound exceeds 0.3 of the map's maximum"
    return Expected(maps[0], tolerance, reason)
