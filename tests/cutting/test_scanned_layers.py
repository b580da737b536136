"""Layers inside a scan, by the number of the round: the scan is written out in the traced program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam

X = jax.random.uniform(jax.random.key(0), (5, 6, 3))
ROUNDS = 3


def grad_cam(head, A, target):
    gradient = np.asarray(jax.grad(lambda A: head(A)[target])(A))
    return np.maximum((np.asarray(A) * gradient.mean((0, 1))).sum(-1), 0)


class Round(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.tanh(nn.Conv(3, (3, 3), name="conv")(x)), x.mean()


class Scanned(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        block = nn.remat(Round, prevent_cse=False) if self.remat else Round
        scan = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=ROUNDS)
        x, means = scan(name="blocks")(x, None)
        return nn.Dense(4, name="head")(x.mean((1, 2))) + means.sum()


def conv_of(params, number):
    kernel, bias = (params["params"]["blocks"]["conv"][name][number] for name in ("kernel", "bias"))
    return lambda x: nn.Conv(3, (3, 3)).apply({"params": {"kernel": kernel, "bias": bias}}, x)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_round_of_a_linen_scan(number, remat):
    model = Scanned(remat)
    params = model.init(jax.random.key(1), X[None])
    convs = [conv_of(params, i) for i in range(ROUNDS)]

    def run(A=None):
        x, means = X[None], 0.0
        for i, conv in enumerate(convs):
            means = means + x.mean()
            y = conv(x)
            if i == number:
                y = y if A is None else A[None]
                value = y[0]
            x = x + jnp.tanh(y)
        head = params["params"]["head"]
        return x.mean((1, 2))[0] @ head["kernel"] + head["bias"] + means, value

    cut = jaxcam.cut((model, params), f"blocks/conv:{number}", image_shape=X.shape)
    outputs, A = run()
    np.testing.assert_allclose(outputs, model.apply(params, X[None])[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cut.features(cut.params, X), A, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cut.head(cut.params, A, X), outputs, rtol=1e-5, atol=1e-6)
    expected = grad_cam(lambda A: run(A)[0], A, 1)
    np.testing.assert_allclose(jaxcam.grad_cam(cut, X, 1), expected, rtol=1e-4, atol=1e-6)


def test_a_round_that_is_not_there_says_how_many_there_are():
    model = Scanned()
    params = model.init(jax.random.key(1), X[None])
    for layer, message in {
        "blocks/conv:7": "no layer 'blocks/conv:7': 'blocks/conv' is called 3 times",
        "blocks/conv": "layer 'blocks/conv' is called 3 times: a cut needs one call. Choose blocks/conv:0, ",
    }.items():
        with pytest.raises(ValueError, match=message) as refused:
            jaxcam.cut((model, params), layer, image_shape=X.shape)
        assert "\n" not in str(refused.value)


class Blocks(nnx.Module):
    def __init__(self, reverse):
        @nnx.split_rngs(splits=ROUNDS)
        @nnx.vmap(in_axes=0, out_axes=0)
        def create(rngs):
            return nnx.Conv(3, 3, (3, 3), rngs=rngs)

        self.conv, self.reverse = create(nnx.Rngs(0)), reverse

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, reverse=self.reverse)
        def run(conv, x):
            return jnp.tanh(conv(x))

        return run(self.conv, x).mean((1, 2))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_round_of_an_nnx_scan(reverse):
    model = Blocks(reverse)
    _, state = nnx.split(model.conv)
    order = range(ROUNDS)[::-1] if reverse else range(ROUNDS)
    convs = [nnx.merge(nnx.split(model.conv)[0], jax.tree.map(lambda leaf, i=i: leaf[i], state)) for i in order]
    first = convs[0](X[None])
    value = convs[1](jnp.tanh(first))[0]
    cuts = jaxcam.cut(model, ["conv:1", "conv:0"], image_shape=X.shape)
    cut = jaxcam.cut(model, "conv:1", image_shape=X.shape)
    np.testing.assert_allclose(cut.features(cut.params, X), value, rtol=1e-5, atol=1e-6)
    expected = grad_cam(lambda A: jnp.tanh(convs[2](jnp.tanh(A[None]))).mean((1, 2))[0], value, 1)
    np.testing.assert_allclose(jaxcam.grad_cam(cut, X, 1), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jaxcam.grad_cam(cuts, X, 1)["conv:1"], expected, rtol=1e-4, atol=1e-6)


class Nested(nnx.Module):
    """A scan in a scan, around one layer."""

    def __init__(self):
        self.conv = nnx.Conv(3, 3, (1, 1), rngs=nnx.Rngs(0))

    def __call__(self, x):
        def inner(y, scale):
            return jnp.tanh(self.conv(scale * y)), y.mean()

        def outer(y, scales):
            return jax.lax.scan(inner, y, scales)

        x, means = jax.lax.scan(outer, x, jnp.arange(1.0, 5.0).reshape(2, 2))
        return x.mean((1, 2)) + means.sum()


def test_a_scan_in_a_scan():
    model = Nested()
    cut = jaxcam.cut(model, "conv:2", image_shape=X.shape)
    y = X[None]
    for scale in (1.0, 2.0):
        y = jnp.tanh(model.conv(scale * y))
    np.testing.assert_allclose(cut.features(cut.params, X), model.conv(3.0 * y)[0], rtol=1e-5, atol=1e-6)
    outputs = cut.head(cut.params, cut.features(cut.params, X), X)
    np.testing.assert_allclose(outputs, model(X[None])[0], rtol=1e-5, atol=1e-6)


class Encoder(nn.Module):
    """A vision transformer whose blocks are one scan, and a class token that the head reads."""

    @nn.compact
    def __call__(self, image):
        tokens = nn.Conv(8, (2, 2), (2, 2), name="embedding")(image)
        tokens = tokens.reshape(len(image), -1, 8)
        tokens = jnp.concatenate([self.param("token", nn.initializers.normal(), (1, 1, 8)), tokens], 1)
        scan = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=ROUNDS)
        tokens, _ = scan(name="blocks")(tokens, None)
        return nn.Dense(3, name="head")(tokens[:, 0])


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="norm1")(x))
        return x + nn.gelu(nn.Dense(8, name="mlp")(nn.LayerNorm(name="norm2")(x))), None


def test_the_rounds_are_listed_and_a_round_is_recommended():
    model, image = Encoder(), jnp.linspace(0, 1, 48).reshape(4, 4, 3)
    variables = model.init(jax.random.key(0), image[None])
    shapes = jaxcam.layers((model, variables), image.shape)
    assert [name for name in shapes if name.startswith("blocks/norm1")] == [f"blocks/norm1:{i}" for i in range(ROUNDS)]
    assert shapes["blocks/mlp:2"] == (5, 8)
    descriptions = jaxcam.describe_layers((model, variables), image.shape)
    assert [layer.name for layer in descriptions] == list(shapes)
    # Behind the last round the class token alone counts.
    assert descriptions.recommended.name == f"blocks:{ROUNDS - 2}"
    cut = jaxcam.cut((model, variables), image_shape=image.shape, grid=(2, 2), prefix=1)
    assert cut.layer == descriptions.recommended.name


def test_a_long_loop_is_not_listed():
    class Long(nn.Module):
        @nn.compact
        def __call__(self, x):
            scan = nn.scan(Round, variable_broadcast="params", split_rngs={"params": False}, length=65)
            x, _ = scan(name="blocks")(nn.Conv(3, (1, 1), name="stem")(x), None)
            return nn.Dense(2, name="head")(x.mean((1, 2)))

    model = Long()
    variables = model.init(jax.random.key(0), X[None])
    assert set(jaxcam.layers((model, variables), X.shape)) == {"stem", "head"}


class Shared(nn.Module):
    """A relu layer that is called twice, and one that returns two arrays."""

    @nn.compact
    def __call__(self, x):
        activation = Relu(name="relu")
        x = activation(nn.Conv(4, (3, 3), name="conv1")(x))
        x = activation(nn.Conv(4, (3, 3), name="conv2")(x))
        halves = Halves(name="halves")(x)
        return nn.Dense(3, name="head")((halves[0] * halves[1]).mean((1, 2)))


class Relu(nn.Module):
    def __call__(self, x):
        return nn.relu(x)


class Halves(nn.Module):
    def __call__(self, x):
        return jnp.split(x, 2, -1)


def test_calls_and_arrays_are_listed_by_their_numbers():
    model = Shared()
    variables = model.init(jax.random.key(0), X[None])
    shapes = jaxcam.layers((model, variables), X.shape)
    names = ["conv1", "relu:0", "conv2", "relu:1", "halves[0]", "halves[1]", "head"]
    assert list(shapes) == names
    assert [layer.name for layer in jaxcam.describe_layers((model, variables), X.shape)] == names
    assert jaxcam.describe_layers((model, variables), X.shape).recommended.name == "relu:1"
    for name, shape in shapes.items():
        cut = jaxcam.cut((model, variables), name, image_shape=X.shape)
        A = cut.features(cut.params, X)
        assert A.shape == shape
        np.testing.assert_allclose(cut.head(cut.params, A, X), model.apply(variables, X[None])[0], rtol=1e-6)
