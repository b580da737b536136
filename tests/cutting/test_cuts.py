"""A cut at several layers: each derivative is that of the cut at this layer alone, in one backward pass for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.tracing import inner_jaxprs
from tests import zoo


def u(outputs):
    """A score that is smooth, so that it has derivatives of every order."""
    return jnp.sin(outputs).sum()


def normal_like(tree, seed):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def along(f, direction):
    """The first and second derivative of t -> f(t * direction) at 0, by nested jvp."""

    def line(t):
        return f(t * direction)

    one = jnp.ones(())
    return jax.jvp(lambda t: jax.jvp(line, (t,), (one,))[1], (0 * one,), (one,))


def assert_cuts_are_the_cuts(model, layers, shape, call, **options):
    """Under jit and vmap: activations, outputs, gradients and second derivatives, against a `Cut` of each layer."""
    cuts = jaxcam.cut(model, layers, **options)
    each = {layer: jaxcam.cut(model, layer, **options) for layer in layers}
    assert isinstance(cuts, jaxcam.Cuts) and cuts.layers == tuple(layers)
    xs = jax.random.uniform(jax.random.key(0), (2, *shape))

    def together(cuts, x):
        A, outputs = cuts.tapped(cuts.params, {}, x)
        zeros = jax.tree.map(jnp.zeros_like, A)
        slopes = jax.grad(lambda deltas: u(cuts.tapped(cuts.params, deltas, x)[1]))(zeros)
        curves = {
            layer: along(
                lambda delta, layer=layer: u(cuts.tapped(cuts.params, {layer: delta}, x)[1]), jnp.cos(A[layer])
            )
            for layer in cuts.layers
        }
        return (A, slopes, curves), outputs

    def alone(each, x):
        A = {layer: cut.features(cut.params, x) for layer, cut in each.items()}
        heads = {layer: lambda A, cut=cut: u(cut.head(cut.params, A, x)) for layer, cut in each.items()}
        slopes = {layer: jax.grad(head)(A[layer]) for layer, head in heads.items()}
        curves = {
            layer: along(lambda delta, layer=layer: heads[layer](A[layer] + delta), jnp.cos(A[layer]))
            for layer in heads
        }
        return A, slopes, curves

    found, outputs = jax.jit(jax.vmap(together, (None, 0)))(cuts, xs)
    wanted = jax.jit(jax.vmap(alone, (None, 0)))(each, xs)
    for name, these, those in zip(("values", "slopes", "curves"), found, wanted, strict=True):
        for (path, a), b in zip(jax.tree.leaves_with_path(these), jax.tree.leaves(those), strict=True):
            what = name + jax.tree_util.keystr(path)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, float(jnp.abs(b).max())), err_msg=what)
            assert name == "curves" or jnp.abs(b).max() > 0, what
    np.testing.assert_allclose(outputs, call(xs), rtol=1e-4, atol=1e-5)
    return cuts


def test_a_vgg(digits):
    layers = ["block3_conv2", "block1_conv2", "fc1"]  # in an order of the user's
    cuts = assert_cuts_are_the_cuts(digits, layers, (64, 64, 3), digits, image_shape=(64, 64, 3))
    assert repr(cuts) == "Cuts(layers=('block3_conv2', 'block1_conv2', 'fc1'), 605,402 parameters)"
    A, _ = cuts.tapped(cuts.params, {}, jnp.ones((64, 64, 3)))
    assert list(A) == layers
    assert jaxcam.cut(jaxcam.digits(), layers).tapped is cuts.tapped


class Forked(nnx.Module):
    """A stem, two branches from it side by side, a module that is nothing but another, and a head."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.left, self.right = nnx.Conv(4, 4, (3, 3), rngs=rngs), nnx.Conv(4, 4, (1, 1), rngs=rngs)
        self.last = nnx.Sequential(nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs))
        self.alias = self.right
        self.fc = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        x = x + nnx.relu(self.left(nnx.tanh(x))) * self.right(x)
        return self.fc(nnx.silu(self.last(x)).mean((1, 2)))


def by_hand(model, deltas, x):
    """The same with the deltas written into it, and the values."""
    x = stem = model.stem(x[None]) + deltas["stem"][None]
    left = model.left(nnx.tanh(x)) + deltas["left"][None]
    right = model.right(x) + deltas["right"][None]
    x = x + nnx.relu(left) * right
    last = model.last(x) + deltas["last"][None]
    values = {"left": left, "last": last, "stem": stem, "right": right}
    return jax.tree.map(lambda value: value[0], values), model.fc(nnx.silu(last).mean((1, 2)))[0]


def test_branches_side_by_side_with_something_added_to_each():
    """Against the model with the additions written out: values, gradients and second derivatives across layers."""
    model, x = Forked(), jax.random.normal(jax.random.key(1), (8, 8, 3))
    layers = ["left", "last", "stem", "right"]
    cuts = jaxcam.cut(model, layers, image_shape=x.shape)
    A, outputs = cuts.tapped(cuts.params, {}, x)
    assert list(A) == layers
    np.testing.assert_allclose(outputs, model(x[None])[0], rtol=1e-5, atol=1e-6)
    deltas, direction = normal_like(A, 2), normal_like(A, 3)

    def all_of(function, deltas):
        def slopes(deltas):
            return jax.grad(lambda deltas: u(function(deltas)[1]))(deltas)

        return function(deltas), jax.jvp(slopes, (deltas,), (direction,))

    found = jax.jit(lambda cuts, deltas: all_of(lambda deltas: cuts.tapped(cuts.params, deltas, x), deltas))(
        cuts, deltas
    )
    wanted = jax.jit(lambda deltas: all_of(lambda deltas: by_hand(model, deltas, x), deltas))(deltas)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    some, _ = cuts.tapped(cuts.params, {"right": deltas["right"]}, x)
    np.testing.assert_array_equal(some["left"], A["left"])  # beside it, not behind
    np.testing.assert_allclose(some["right"], A["right"] + deltas["right"], rtol=1e-5, atol=1e-6)
    assert jnp.abs(some["last"] - A["last"]).max() > 1e-3


def test_one_value_under_several_names():
    """A module that returns what another does, and one that has two names: with the activation behind them as well."""
    model = Forked()
    for layers, after in ((["last", "last/layers/0"], jax.nn.silu), (["alias", "right"], None)):
        assert_cuts_are_the_cuts(model, layers, (8, 8, 3), model, after=after)
    x = jnp.ones((8, 8, 3))
    cuts = jaxcam.cut(model, ["last", "last/layers/0"], after=jax.nn.silu)
    ones = jnp.ones((4, 4, 6))
    values, _ = cuts.tapped(cuts.params, {"last": ones, "last/layers/0": 2 * ones}, x)
    np.testing.assert_allclose(values["last"], nnx.silu(model.last(model_until_last(model, x)))[0] + 3, rtol=1e-5)
    with pytest.raises(ValueError, match="after=relu is not what the model applies to the output of 'last'.* silu$"):
        jaxcam.cut(model, ["last", "last/layers/0"], after=jax.nn.relu, image_shape=x.shape)


def model_until_last(model, x):
    x = model.stem(x[None])
    return x + nnx.relu(model.left(nnx.tanh(x))) * model.right(x)


def test_jitted_blocks_that_share_a_trace():
    specimen = zoo.LINEN["jit"]
    model = module, variables = specimen.build()
    layers = ["block0", "block1", "block1/Conv_0"]
    cuts = assert_cuts_are_the_cuts(
        model, layers, specimen.image_shape, lambda xs: module.apply(variables, xs, train=False)
    )
    A, _ = cuts.tapped(cuts.params, {}, jnp.ones(specimen.image_shape))
    assert jnp.abs(A["block0"] - A["block1"]).max() > 1e-3
    cuts = jaxcam.cut(
        model, ["stem", "block1"]
    )  # whose mark is not in the trace of the first block, which stands for it
    values, _ = cuts.tapped(cuts.params, {}, jnp.ones(specimen.image_shape))
    np.testing.assert_allclose(values["block1"], A["block1"], rtol=1e-5, atol=1e-6)


def test_tokens_in_their_grid():
    class Tokens(nnx.Module):
        """Patches, with a token before them that they all flow into, and that is the output."""

        def __init__(self):
            rngs = nnx.Rngs(0)
            self.patches = nnx.Conv(3, 5, (2, 2), strides=2, rngs=rngs)
            self.one, self.two = nnx.Linear(5, 5, rngs=rngs), nnx.Linear(5, 5, rngs=rngs)
            self.fc = nnx.Linear(5, 4, rngs=rngs)

        def __call__(self, x):
            tokens = self.patches(x).reshape(x.shape[0], -1, 5)
            tokens = jnp.concatenate([tokens.mean(1, keepdims=True), tokens], 1)
            tokens = tokens + jnp.tanh(self.one(tokens))
            return self.fc(jnp.tanh(self.two(tokens)).mean(1))

    layers = ["two", "one"]
    cuts = assert_cuts_are_the_cuts(Tokens(), layers, (4, 6, 3), Tokens(), grid=(2, 3), prefix=1)
    A, _ = cuts.tapped(cuts.params, {}, jnp.ones((4, 6, 3)))
    assert {layer: value.shape for layer, value in A.items()} == dict.fromkeys(layers, (2, 3, 5))
    with pytest.raises(
        ValueError, match=r"expected \(4, k\) of layer 'one' for grid=\(2, 2\) with prefix=0, got \(7, 5\)"
    ):
        jaxcam.cut(Tokens(), ["one", "two"], grid=(2, 2), image_shape=(4, 6, 3))


def test_further_inputs_are_part_of_it():
    specimen = zoo.LINEN["two_inputs"]
    model = specimen.build()
    cuts = jaxcam.cut(model, ["Conv_0", "film"], inputs=specimen.inputs)
    alone = jaxcam.cut(model, "film", inputs=specimen.inputs)
    assert jax.tree.structure(cuts.params) == jax.tree.structure(alone.params)
    x = jnp.ones(specimen.image_shape)
    _, outputs = cuts.tapped(cuts.params, {}, x)
    np.testing.assert_allclose(outputs, alone.head(alone.params, alone.features(alone.params, x), x), rtol=1e-5)


@pytest.mark.parametrize("kind", ["vgg", "nnx"])
def test_one_backward_pass_serves_all_layers(kind, digits):
    """The convolutions of the joint gradient are those of the gradient at the earliest layer, forward and back."""
    model, shape, layers = {
        "vgg": (digits, (64, 64, 3), ["block3_conv2", "block1_conv2", "block2_conv1"]),
        "nnx": (Forked(), (8, 8, 3), ["left", "last", "stem", "right"]),
    }[kind]
    earliest = {"vgg": "block1_conv2", "nnx": "stem"}[kind]
    x = jnp.ones(shape)
    cuts, cut = jaxcam.cut(model, layers), jaxcam.cut(model, earliest)
    A, _ = jax.eval_shape(cuts.tapped, cuts.params, {}, x)

    def together(deltas):
        return jax.value_and_grad(lambda deltas: u(cuts.tapped(cuts.params, deltas, x)[1]))(deltas)

    def alone(A):
        return cut.features(cut.params, x), jax.grad(lambda A: u(cut.head(cut.params, A, x)))(A)

    assert convolutions(jax.make_jaxpr(alone)(A[earliest]).jaxpr) == {"vgg": 6 + 4, "nnx": 4 + 3}[kind]
    assert convolutions(jax.make_jaxpr(together)(A).jaxpr) == {"vgg": 6 + 4, "nnx": 4 + 3}[kind]


def convolutions(jaxpr):
    inner = sum(convolutions(each) for eqn in jaxpr.eqns for each in inner_jaxprs(eqn.params))
    return inner + sum(eqn.primitive.name == "conv_general_dilated" for eqn in jaxpr.eqns)


@pytest.mark.parametrize("kind", ["vgg", "nnx"])
def test_what_deltas_cannot_be(kind, digits):
    model, layers, shape = {
        "vgg": (digits, ("block1_conv2", "block3_conv2"), (64, 64, 3)),
        "nnx": (Forked(), ("left", "stem"), (8, 8, 3)),
    }[kind]
    cuts = jaxcam.cut(model, layers)
    x = jnp.ones(shape)
    A, _ = cuts.tapped(cuts.params, {}, x)
    with pytest.raises(ValueError, match=f"deltas has 'fc': choose one of {layers[0]}, {layers[1]}"):
        cuts.tapped(cuts.params, {"fc": 0.0}, x)
    with pytest.raises(ValueError, match=rf"expected shape \(.*\) for deltas\['{layers[0]}'\], got \(3,\)"):
        cuts.tapped(cuts.params, {layers[0]: jnp.ones(3)}, x)
    half = {layers[1]: np.ones(A[layers[1]].shape, np.float16)}  # a delta takes the type of the value
    values, _ = cuts.tapped(cuts.params, half, x)
    np.testing.assert_allclose(values[layers[1]], A[layers[1]] + 1, rtol=1e-6)
    assert values[layers[1]].dtype == A[layers[1]].dtype


@pytest.mark.parametrize(
    ("kind", "name", "layers", "message"),
    [
        ("nnx", "called_twice", [], "no layers: a name, or several, that jaxcam.layers lists"),
        ("nnx", "called_twice", ["stem", "last", "stem"], "layer 'stem' is given twice: each layer once"),
        ("nnx", "called_twice", ["stem", "stages/7"], "no layer 'stages/7': choose one of "),
        ("nnx", "called_twice", ["stem", "refine"], "layer 'refine' is called 2 times: a cut needs one call"),
        (
            "nnx",
            "scan",
            ["stem", "blocks/conv"],
            "layer 'blocks/conv' is called 3 times: a cut needs one call",
        ),
        ("nnx", "ensemble", ["stem", "members/conv"], "'members/conv' is called under vmap: it is many layers in one"),
        (
            "linen",
            "called_twice",
            ["stem", "stage9"],
            "'stage9' is not called in eval mode, or not for the outputs: choose",
        ),
        ("linen", "called_twice", ["refine", "stem"], "layer 'refine' is called 2 times"),
    ],
)
def test_what_cannot_be_cut_says_why(kind, name, layers, message):
    specimen = {"nnx": zoo.NNX, "linen": zoo.LINEN}[kind][name]
    with pytest.raises(ValueError, match=message) as refused:
        jaxcam.cut(specimen.build(), layers, image_shape=specimen.image_shape)
    assert "\n" not in str(refused.value)


def test_what_a_vgg_and_a_model_that_draws_say(digits):
    with pytest.raises(ValueError, match="no layer 'block9_conv1': choose one of block1_conv1"):
        jaxcam.cut(digits, ["block1_conv1", "block9_conv1"])
    with pytest.raises(ValueError, match="layer 'fc1' is given twice"):
        jaxcam.cut(digits, ("fc1", "fc1"))
    with pytest.raises(
        TypeError, match="a VGG takes no grid: it cuts itself at its layers, a jaxcam.VGG after their activation"
    ):
        jaxcam.cut(digits, ["fc1"], grid=(2, 2))
    with pytest.raises(ValueError, match=r"\[64 64 3\] without a batch axis, got .*: use jax.vmap for many"):
        jaxcam.cut(digits, ["fc1"], image_shape=(1, 64, 64, 3))

    class Drawing(nnx.Module):
        def __init__(self):
            self.conv, self.rngs = nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0)), nnx.Rngs(1)

        def __call__(self, x):
            return (self.conv(x) + self.rngs.normal((4,)).reshape(1, 1, 1, 4)).mean((1, 2))

    with pytest.raises(ValueError, match="the model draws random numbers in eval mode"):
        jaxcam.cut(Drawing(), ["conv"], image_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="updates its statistics bn/mean, bn/var, as in training"):
        jaxcam.cut(Training(), ["conv"], image_shape=(8, 8, 3))


class Training(nnx.Module):
    def __init__(self):
        self.conv, self.bn = nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.bn(self.conv(x), use_running_average=False).mean((1, 2))
