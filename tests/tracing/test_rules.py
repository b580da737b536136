"""Another rule at every relu and at nothing else, however the relu is written."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxcam
from jaxcam.tracing import _jaxpr as jaxprs
from jaxcam.tracing import rules
from tests.oracles import pixels as oracle
from tests.zoo.linen import LINEN as LINEN_ZOO
from tests.zoo.nnx import NNX

X = jax.random.normal(jax.random.key(0), (6, 4))
G = jax.random.normal(jax.random.key(1), (6, 4))
PARAMS, IMAGE = oracle.network(np.random.default_rng(0))


def by(rule):
    return {"guided": rules.guided, "deconvnet": rules.deconvnet}[rule]


def pulled(f, x=X, g=G):
    """What f gives, and what g becomes on its way back through it."""

    def both(x):
        out, pull = jax.vjp(f, x)
        return out, pull(g.astype(out.dtype))[0]

    return jax.jit(both)(x)


def calls(primitive, f, x):
    """How often a function calls a primitive."""

    def count(jaxpr):
        inside = (inner for eqn in jaxpr.eqns for inner in jaxprs.inner_jaxprs(eqn.params))
        return sum(eqn.primitive.name == primitive for eqn in jaxpr.eqns) + sum(map(count, inside))

    return count(jax.make_jaxpr(f)(x).jaxpr)


def with_its_own_rule(f):
    """f with the gradient that it has anyway, as a custom_vjp."""
    own = jax.custom_vjp(f)
    own.defvjp(lambda *args: (f(*args), args), lambda args, g: jax.vjp(f, *args)[1](g))
    return own


def with_its_own_tangents(f):
    own = jax.custom_jvp(f)
    own.defjvp(lambda args, tangents: jax.jvp(f, args, tangents))
    return own


RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "nnx.relu": nnx.relu,
    "nn.relu": nn.relu,
    "x > 0": lambda x: jnp.where(x > 0, x, 0),
    "x >= 0": lambda x: jnp.where(x >= 0, x, 0.0),
    "x < 0": lambda x: jnp.where(x < 0, 0, x),
    "0 >= x": lambda x: jnp.where(0 >= x, jnp.zeros_like(x), x),
    "0 < x": lambda x: jnp.where(0 < x, x, 0),
    "not": lambda x: jnp.where(~(x <= 0), x, 0),
    "lax.select": lambda x: lax.select(x > 0, x, jnp.zeros_like(x)),
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum, swapped": lambda x: jnp.maximum(0.0, x),
    "maximum, an array": lambda x: jnp.maximum(x, np.zeros((6, 4), np.float32)),
    "lax.max": lambda x: lax.max(x, lax.full_like(x, 0)),
    "clip": lambda x: jnp.clip(x, 0),
    "clip, min": lambda x: jnp.clip(x, min=0),
    "clip, both": lambda x: jnp.clip(x, 0, 6),
    "clamp": lambda x: lax.clamp(0.0, x, 6.0),
    "relu6": jax.nn.relu6,
    "times": lambda x: x * (x > 0).astype(x.dtype),
    "times a choice": lambda x: jnp.where(x > 0, 1.0, 0.0) * x,
    "jit": jax.jit(jax.jit(lambda x: jnp.maximum(x, 0))),
    "remat": jax.checkpoint(lambda x: jnp.maximum(x, 0)),
    "remat, given the zero": lambda x: jax.checkpoint(jnp.maximum)(x, 0.0),
    "custom_jvp": with_its_own_tangents(lambda x: jnp.maximum(x, 0)),
    "custom_vjp": with_its_own_rule(lambda x: jnp.where(x > 0, x, 0)),
    "scan": lambda x: lax.scan(lambda c, _: (jnp.maximum(c, 0), None), x, length=2)[0],
    "map": lambda x: lax.map(jax.nn.relu, x),
    "reversed": lambda x: lax.scan(lambda zero, row: (zero, jnp.maximum(row, 0)), 0.0, x, reverse=True)[1],
    "cond": lambda x: lax.cond(x.sum() > -99, jax.nn.relu, jnp.sin, x),
    "vmap": jax.vmap(jax.nn.relu),
    "printed": lambda x: (jax.debug.callback(lambda x: None, x), jax.nn.relu(x))[1],
    "bfloat16": lambda x: jnp.maximum(x.astype(jnp.bfloat16), 0),
    "float16": lambda x: jax.nn.relu(x.astype(jnp.float16)),
}
SCALE = {"scale": jnp.ones(4), "bias": jnp.ones(4)}
NONE = {
    "leaky, by hand": lambda x: jnp.maximum(x, 0.1 * x),
    "softplus, by hand": lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
    "prelu": lambda x: jax.nn.relu(x) - 0.25 * jax.nn.relu(-x),
    "elu, by hand": lambda x: jax.nn.relu(x) + jnp.minimum(jnp.exp(x) - 1, 0),
    "logaddexp": lambda x: jnp.logaddexp(x, 0.0),
    "sqrt": lambda x: jnp.sqrt(jnp.maximum(x, 0) + 1e-3),
    "sqrt, in a scan": lambda x: jnp.sqrt(lax.scan(lambda c, _: (jnp.maximum(c, 0), None), x, length=2)[0] + 1e-3),
    "rsqrt": lambda x: x * lax.rsqrt(jnp.maximum(x, 0) + 1),
    "log": lambda x: jnp.log(jnp.where(x > 0, x, 0)[None] + 1e-3)[0],
    "denominator": lambda x: x / (jnp.maximum(x, 0) + 1),
    "power": lambda x: (jnp.maximum(x, 0) + 1) ** -0.5,
    "hard sigmoid": lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),
    "negative": lambda x: jnp.minimum(x, 0),
    "mask": lambda x: jnp.where(G > 0, x, 0),
    "condition": lambda x: jnp.where(jnp.maximum(x, 0) > 1, 2 * x, x),
    "no gradient": lambda x: x + lax.stop_gradient(jax.nn.relu(x)),
    "max pooling": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "SAME"),
    "abs": jnp.abs,
    "LayerNorm": nnx.LayerNorm(4, rngs=nnx.Rngs(0)),
    "GroupNorm": nnx.GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0)),
    "Linen's LayerNorm": lambda x: nn.LayerNorm().apply({"params": SCALE}, x),
    "Linen's GroupNorm": lambda x: nn.GroupNorm(num_groups=2).apply({"params": SCALE}, x),
} | {
    name: getattr(jax.nn, name)
    for name in "celu elu gelu hard_sigmoid hard_swish hard_tanh leaky_relu log_sigmoid log_softmax mish selu silu "
    "softmax softplus soft_sign sparse_plus sparse_sigmoid squareplus standardize".split()
}  # fmt: skip
AMONG_OTHERS = {
    "concatenated": (lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)]), 2),
    "gate": (lambda x: jax.nn.relu(x) * jnp.sin(x), 1),
    "root of a square": (lambda x: (lambda y: jnp.sqrt(y * y + 1))(jax.nn.relu(x)), 1),
    "square": (lambda x: jax.nn.relu(x) ** 2, 1),
    "skip": (lambda x: x + jax.nn.relu(x), 1),
    "L2": (lambda x: (lambda y: y / jnp.sqrt((y * y).sum() + 1e-6))(jax.nn.relu(x)), 1),
    "share": (lambda x: (lambda y: y / (y.sum() + 1e-6))(jnp.maximum(x, 0)), 1),
    "log1p": (lambda x: jnp.log1p(jnp.maximum(x, 0)), 1),
    "twice": (lambda x: jnp.maximum(jnp.sin(jax.nn.relu(x)), 0), 2),
    "LayerNorm": (lambda x: NONE["LayerNorm"](jnp.maximum(x, 0)), 1),
}


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_however_it_is_written(name):
    f = RELUS[name]
    out, guided = pulled(rules.guided(f))
    _, deconvnet = pulled(rules.deconvnet(f))
    x, g = (np.asarray(each.astype(out.dtype).astype(X.dtype)) for each in (X, G))
    np.testing.assert_array_equal(out, np.maximum(x, 0).astype(out.dtype))
    np.testing.assert_array_equal(guided, np.where((x > 0) & (g > 0), g, 0))
    np.testing.assert_array_equal(deconvnet, np.where(g > 0, g, 0))


@pytest.mark.parametrize("name", NONE)
def test_not_a_relu(name):
    with pytest.raises(ValueError, match="has no relu: guided backprop would be its plain gradient"):
        jax.eval_shape(rules.guided(NONE[name]), X)


@pytest.mark.parametrize("name", AMONG_OTHERS)
def test_the_rule_is_at_each_relu_once(name):
    f, count = AMONG_OTHERS[name]
    assert calls("custom_vjp_call", rules.guided(f), X) == count


def test_values_at_the_edges():
    """NaN, infinity and zero are what the function makes of them."""
    x = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.0, -0.0])
    for name in ("jax.nn.relu", "x > 0", "clip, both"):
        f = jax.jit(RELUS[name])
        out, pull = jax.vjp(jax.jit(rules.guided(f)), x)
        np.testing.assert_array_equal(out, f(x))
        assert pull(jnp.ones(5))[0][3:].tolist() == [0, 0]


def test_the_upper_end_of_a_clip_is_no_relu():
    x, g = jnp.array([-1.0, 2.0, 7.0, -1.0, 2.0, 7.0]), jnp.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    for name in ("clip, both", "clamp", "relu6"):
        for rule, wanted in (("guided", [0, 1, 0, 0, 0, 0]), ("deconvnet", [1, 1, 0, 0, 0, 0])):
            assert pulled(by(rule)(RELUS[name]), x, g)[1].tolist() == wanted


def test_trees_in_and_out():
    def f(x):
        return {"a": jax.nn.relu(x["in"]), "b": (x["in"].argmax(), x["other"], 3)}

    x = {"in": X, "other": jnp.arange(3), "unused": 2.0}
    found = jax.jit(rules.guided(f))(x)
    assert jax.tree.structure(found) == jax.tree.structure(f(x))
    np.testing.assert_array_equal(found["a"], np.maximum(X, 0))
    _, back = pulled(lambda t: rules.guided(f)({**x, "in": t})["a"])
    np.testing.assert_array_equal(back, np.where((X > 0) & (G > 0), G, 0))


# ---- Networks, against the oracle.


class Net(nnx.Module):
    def __init__(self, activation, remat=False):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 3, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(75, 6, rngs=rngs)
        self.out = nnx.Linear(6, 4, use_bias=False, rngs=rngs)
        self.activation, self.remat = activation, remat
        self.conv.kernel[...], self.conv.bias[...] = PARAMS["K"], PARAMS["b"]
        self.hidden.kernel[...], self.hidden.bias[...] = PARAMS["V"], PARAMS["c"]
        self.out.kernel[...] = PARAMS["Z"]

    def __call__(self, x):
        block = lambda layer, x: self.activation(layer(x))
        block = nnx.remat(block) if self.remat else block
        return self.out(block(self.hidden, block(self.conv, x).reshape(-1)))


class Block(nn.Module):
    features: int
    convolved: bool = False

    @nn.compact
    def __call__(self, x):
        layer = (
            nn.Conv(self.features, (3, 3), name="layer") if self.convolved else nn.Dense(self.features, name="layer")
        )
        return jnp.maximum(layer(x), 0)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.jit(Block)(3, convolved=True, name="first")(x)
        x = nn.remat(nn.jit(Block))(6, name="second")(x.reshape(-1))
        return nn.Dense(4, use_bias=False, name="out")(x)


LINEN = {
    "first": {"layer": {"kernel": PARAMS["K"], "bias": PARAMS["b"]}},
    "second": {"layer": {"kernel": PARAMS["V"], "bias": PARAMS["c"]}},
    "out": {"kernel": PARAMS["Z"]},
}


def pure(model):
    graph, state = nnx.split(model)
    return lambda x: nnx.merge(graph, state, copy=True)(x)


NETS = {
    "jax.nn.relu": Net(jax.nn.relu),
    "nnx.relu": Net(nnx.relu),
    "jnp.maximum": Net(lambda x: jnp.maximum(x, 0)),
    "jnp.where": Net(lambda x: jnp.where(x > 0, x, 0)),
    "remat": pure(Net(nnx.relu, remat=True)),
    "Linen, jitted blocks": lambda x: LinenNet().apply({"params": LINEN}, x),
}


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("name", NETS)
def test_networks(name, rule):
    f = by(rule)(NETS[name])
    found = jax.jit(jax.vmap(jax.grad(lambda x, target: f(x)[target]), in_axes=(None, 0)))(IMAGE, jnp.arange(4))
    for target in range(4):
        wanted = oracle.gradient(PARAMS, IMAGE, target, rule)
        assert np.abs(wanted - oracle.gradient(PARAMS, IMAGE, target)).max() > 0.1
        np.testing.assert_allclose(found[target], wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("where", ["scan", "nnx.scan"])
def test_layers_in_a_scan(where):
    """As the same layers one after the other."""
    keys = jax.random.split(jax.random.key(0), 3)
    model = nnx.vmap(lambda key: nnx.Linear(4, 4, rngs=nnx.Rngs(key)))(keys)
    kernels = model.kernel[...]

    def scanned(x):
        if where == "scan":
            return lax.scan(lambda x, k: (jnp.maximum(x @ k, 0), x.sum()), x, kernels)
        step = nnx.remat(lambda x, layer: (jax.nn.relu(layer(x)), x.sum()))
        layers = nnx.merge(*nnx.split(model), copy=True)
        return nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))(x, layers)

    def layers(x):
        sums = []
        for k in kernels:
            sums.append(x.sum())
            x = jax.nn.relu(x @ k)
        return x, jnp.stack(sums)

    g = G, jnp.array([1.0, -1.0, 0.5])
    plain, guided, one_by_one = (
        jax.jit(lambda x, f=f: jax.vjp(f, x)[1](g)[0])(X)
        for f in (scanned, rules.guided(scanned), rules.guided(layers))
    )
    np.testing.assert_allclose(guided, one_by_one, rtol=1e-5, atol=1e-6)
    assert np.abs(guided - plain).max() > 0.1


@pytest.mark.parametrize("norm", ["LayerNorm", "GroupNorm"])
def test_guards_keep_their_gradient(norm):
    """(relu(norm(x W))) Z by hand: the norm's backward pass is its own, and only the relu is guided."""
    rng = np.random.default_rng(1)
    W, Z, x, g = (rng.normal(size=size).astype(np.float32) for size in ((4, 6), (6, 3), 4, 3))
    layer = nnx.LayerNorm(6, rngs=nnx.Rngs(0)) if norm == "LayerNorm" else nnx.GroupNorm(6, 2, rngs=nnx.Rngs(0))
    net = lambda x: jax.nn.relu(layer((x @ W)[None])[0]) @ Z
    found = jax.jit(lambda x: jax.vjp(rules.guided(net), x)[1](g)[0])(x)
    W, Z, x, g = (each.astype(np.float64) for each in (W, Z, x, g))
    h = (x @ W).reshape(1 if norm == "LayerNorm" else 2, -1)
    deviation = np.sqrt(h.var(1, keepdims=True) + layer.epsilon)
    n = (h - h.mean(1, keepdims=True)) / deviation
    back = oracle.relu_back("guided", n, (Z @ g).reshape(n.shape))
    back = (back - back.mean(1, keepdims=True) - n * (back * n).mean(1, keepdims=True)) / deviation
    np.testing.assert_allclose(found, W @ back.ravel(), rtol=1e-4, atol=1e-5)


def test_rules_of_ones_own():
    """Kept where the function is no relu and no block of layers; a block with a relu is entered."""
    block = jax.custom_vjp(lambda x, k: jnp.maximum(x @ k, 0))
    block.defvjp(lambda x, k: (block(x, k), None), lambda _, g: (100 * g, jnp.zeros([4, 4])))
    sine = jax.custom_vjp(lambda x: jnp.sin(jnp.maximum(x, 0)))
    sine.defvjp(lambda x: (sine(x), None), lambda _, g: (3 * g,))
    passed = np.where((X > 0) & (G > 0), G, 0)
    np.testing.assert_allclose(pulled(rules.guided(lambda x: block(x, jnp.eye(4))))[1], passed)
    np.testing.assert_allclose(pulled(rules.guided(lambda x: sine(jax.nn.relu(x))))[1], 3 * passed)


def test_under_transformations():
    one = jax.grad(rules.guided(lambda x: jax.nn.relu(x * x - 1).sum()))
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(X), np.where(X * X > 1, 2 * X, 0), rtol=1e-6)
    # In a loss: the guided gradient has a gradient in the weights that the function closes over.
    loss = lambda w: (jax.grad(rules.guided(lambda x: jax.nn.relu(x * w).sum()))(X) ** 2).sum()
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(2.0), 4 * np.sum(X > 0), rtol=1e-5)


ZOO = {f"{kind} {name}": each for kind, zoo in (("NNX", NNX), ("Linen", LINEN_ZOO)) for name, each in zoo.items()}


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name):
    """Every jax.nn.relu and relu6 of every small model, and no guard of its norms."""
    specimen = ZOO[name]
    options = {"image_shape": specimen.image_shape, "inputs": specimen.inputs}
    model = specimen.build()
    cut = jaxcam.cut(model, next(iter(jaxcam.layers(model, **options))), **options)
    f = lambda x: cut.head(cut.params, cut.features(cut.params, x), x)
    x = jnp.ones(specimen.image_shape)
    written = calls("custom_jvp_call", f, x)
    if written == 0:
        with pytest.raises(ValueError, match="has no relu"):
            rules.guided(f)(x)
    else:
        assert calls("custom_vjp_call", rules.guided(f), x) == written


TWICE = {
    "and half of it": lambda h: h + 0.5 * h,
    "times a weight": lambda h: h + h * jnp.linspace(0.5, 2, h.shape[-1], dtype=h.dtype)[None],
    "and its square": lambda h: h + h * h,
    "and a curve of it": lambda h: h + jnp.tanh(h),
    "and its like": lambda h: h + h[::-1],
    "and a relu of it": None,  # the network's own
}


@pytest.mark.parametrize("name", TWICE)
def test_a_relu_that_is_used_twice(name):
    """What is made of a relu's output and added to it makes no other activation of it."""
    rng = np.random.default_rng(3)
    W, V, x = (jnp.asarray(rng.normal(size=shape), "float32") for shape in ((6, 5), (5,), (4, 6)))

    @jax.custom_vjp
    def by_hand(x):
        return jnp.where(x > 0, x, 0)

    by_hand.defvjp(lambda x: (by_hand(x), x), lambda x, g: (jnp.where((x > 0) & (g > 0), g, 0),))

    def f(relu):
        tail = TWICE[name] or (lambda h: h + relu(h - 1))
        return lambda x: (tail(relu(x @ W)) @ V).sum()

    found, wanted = jax.grad(rules.guided(f(jax.nn.relu)))(x), jax.grad(f(by_hand))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert not np.allclose(wanted, jax.grad(f(jax.nn.relu))(x), atol=1e-3)
