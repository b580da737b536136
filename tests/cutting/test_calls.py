"""Which output, which input, which call and which array of a layer a cut is made for."""

import collections
import dataclasses
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam

X = jax.random.uniform(jax.random.key(0), (6, 8, 3))
META = jax.random.normal(jax.random.key(1), (5,))


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_rank_promotion("allow"):  # Keras's own dense layers need it
        yield


def oracle_grad_cam(head, A, target):
    """Grad-CAM in NumPy from a gradient by plain autodiff."""
    gradient = np.asarray(jax.grad(lambda A: head(A)[target])(A))
    return np.maximum((np.asarray(A) * gradient.mean((0, 1))).sum(-1), 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ModelOutput:
    """As Hugging Face's outputs are: attributes of a frozen dataclass."""

    logits: jax.Array
    hidden: tuple[jax.Array, ...]


Pair = collections.namedtuple("Pair", "logits other")


class Net(nnx.Module):
    def __init__(self, form):
        rngs = nnx.Rngs(0)
        self.stem, self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.head, self.meta = nnx.Linear(6, 3, rngs=rngs), nnx.Linear(5, 6, rngs=rngs)
        self.form = form

    def after(self, A, meta=None):
        pooled = nnx.relu(A).mean((1, 2))
        return self.head(pooled if meta is None else pooled * self.meta(meta))

    def __call__(self, x):
        stem = self.stem(x)
        logits = self.after(self.conv(stem))
        auxiliary = stem.mean((1, 2))
        return {
            "dataclass": lambda: ModelOutput(logits, (auxiliary, x)),
            "dict": lambda: {"heads": {"cls": logits, "aux": auxiliary}, "image": x},
            "tuple": lambda: (logits, auxiliary),
            "named": lambda: Pair(auxiliary, logits),
        }[self.form]()


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("dataclass", "logits"), ("dict", "heads/cls"), ("tuple", "0"), ("named", "other"),
        ("dataclass", lambda outputs: outputs.logits), ("dict", lambda outputs: outputs["heads"]["cls"]),
    ],
)  # fmt: skip
def test_an_output_is_taken_before_everything_else(form, output):
    net = Net(form)
    whole = jaxcam.cut(net, "conv", image_shape=X.shape)
    cut = jaxcam.cut(net, "conv", output=output, image_shape=X.shape)
    assert whole.reads_input and not cut.reads_input, "the other outputs are not in the head"
    A = net.conv(net.stem(X[None]))[0]
    expected = oracle_grad_cam(lambda A: net.after(A[None])[0], A, 1)
    np.testing.assert_allclose(jaxcam.grad_cam(cut, X, 1), expected, rtol=1e-4, atol=1e-6)
    assert jaxcam.grad_cam(cut, X).shape == (6, 8), "the outputs are [classes]"


def test_structured_models_are_evaluated_and_diagnosed():
    cut = jaxcam.cut(Net("dataclass"), "conv", output="logits")
    probabilities = jax.nn.softmax(Net("dataclass")(X[None]).logits[0])
    diagnosis = jaxcam.analysis.diagnose(cut, X, 2)
    assert diagnosis.probability == pytest.approx(float(probabilities[2]), rel=1e-5)
    assert not jaxcam.explain_batch(jaxcam.grad_cam, cut, np.asarray(X)[None]).failed
    evaluation = jaxcam.evaluate(cut, [jaxcam.Example(np.asarray(X))], [jaxcam.grad_cam], ["drop"])
    assert not evaluation.failed
    (record,) = evaluation.images.values()
    assert record["probability"] == pytest.approx(float(probabilities.max()), rel=1e-5)


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        ("dataclass", "logit", "no output 'logit', as there is no 'logit': choose one of logits, hidden"),
        ("dict", "heads/top", "no output 'heads/top', as there is no 'top': choose one of cls, aux"),
        ("tuple", "2", "choose one of 0, 1"),
        ("dict", "image/3", "this part has no parts"),
    ],
)
def test_an_output_that_is_not_there_lists_those_that_are(form, output, message):
    with pytest.raises(ValueError, match=message) as refused:
        jaxcam.cut(Net(form), "conv", output=output, image_shape=X.shape)
    assert "\n" not in str(refused.value)


class Asked(nnx.Module):
    def __init__(self):
        self.net = Net("tuple")

    def __call__(self, meta, image, *, scale: float = 1.0):
        return scale * self.net.after(self.net.conv(self.net.stem(image)), meta)


class AskedLinen(nn.Module):
    @nn.compact
    def __call__(self, meta, image, train, scale=1.0):
        y = nn.relu(nn.Conv(6, (3, 3), name="conv")(image)).mean((1, 2))
        return scale * nn.Dense(3)(y * nn.Dense(6)(meta))


def asked_keras():
    keras = pytest.importorskip("keras")
    meta, image = keras.Input((5,), name="meta"), keras.Input((6, 8, 3), name="image")
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image))
    return keras.Model([meta, image], keras.layers.Dense(3)(y * keras.layers.Dense(6)(meta)))


def asked_linen():
    return AskedLinen(), AskedLinen().init(jax.random.key(2), META[None], X[None], False)


ASKED = {
    "nnx": (Asked, "net/conv", lambda model, x: model(META[None], x[None])[0]),
    "linen": (asked_linen, "conv", lambda model, x: model[0].apply(model[1], META[None], x[None], False)[0]),
    "keras": (asked_keras, "conv", lambda model, x: jnp.asarray(model([META[None], x[None]]))[0]),
}


@pytest.mark.parametrize("framework", ASKED)
def test_the_image_is_another_argument_than_the_first(framework):
    build, layer, call = ASKED[framework]
    model = build()
    for options in (
        {"image": "image", "inputs": (META,)},
        {"image": "image", "inputs": {"meta": META}},
        {"image": 1, "inputs": (META,)},
        {"image": 1, "inputs": {"meta": META}},
    ):
        cut = jaxcam.cut(model, layer, image_shape=X.shape, **options)
        outputs = cut.head(cut.params, cut.features(cut.params, X), X)
        np.testing.assert_allclose(outputs, call(model, X), rtol=1e-4, atol=1e-6)
    gradient = jax.grad(lambda x: call(model, x)[1])(X) if framework != "keras" else None
    if gradient is not None:
        np.testing.assert_allclose(jaxcam.saliency(cut, X, 1), np.abs(gradient).max(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("framework", ASKED)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": {"tabular": META}, "image": "image"}, "inputs has 'tabular', which is no argument: .* meta, image"),
        ({"image": "image"}, "'meta' is missing in inputs=: the model takes meta, image"),
        ({"image": "picture", "inputs": (META,)}, "image='picture' is no argument: the model takes meta, image"),
        ({"image": "image", "inputs": {"meta": META, "image": X}}, "'image' is given in inputs and is the image"),
        ({"image": 2, "inputs": (META,)}, "image=2 needs as many inputs before the image, got 1"),
        ({"image": -1, "inputs": (META,)}, "expected the name or the position of an argument for image, got -1"),
    ],
)
def test_names_of_inputs_are_checked_in_one_line(framework, options, message):
    build, layer, _ = ASKED[framework]
    with pytest.raises(TypeError, match=message) as refused:
        jaxcam.cut(build(), layer, **options)
    assert "\n" not in str(refused.value)


def test_a_keras_model_with_one_input_takes_no_other():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((6, 8, 3), name="picture"), keras.layers.Conv2D(3, 3, name="c")])
    with pytest.raises(TypeError, match="inputs has 'tabular', which is no argument: the model takes "):
        jaxcam.cut(model, "c", inputs={"tabular": META}, image_shape=(6, 8, 3))


class TwoPasses(nn.Module):
    def setup(self):
        self.conv, self.head = nn.Conv(6, (3, 3)), nn.Dense(3)

    def encode(self, x, train):
        del train
        return nn.relu(self.conv(x))

    def classify(self, x, train):
        return self.head(self.encode(x, train).mean((1, 2)))

    def __call__(self, x):
        return self.head(self.conv(x)).mean((1, 2))


def test_another_method_of_the_model():
    variables = TwoPasses().init(jax.random.key(0), X[None])
    cut = jaxcam.cut((TwoPasses(), variables), "conv", method="classify", after=nn.relu, image_shape=X.shape)
    expected = TwoPasses().apply(variables, X[None], False, method="classify")[0]
    np.testing.assert_allclose(cut.head(cut.params, cut.features(cut.params, X), X), expected, rtol=1e-5, atol=1e-6)
    plain = jaxcam.cut((TwoPasses(), variables), "conv", image_shape=X.shape)
    outputs = plain.head(plain.params, plain.features(plain.params, X), X)
    assert not np.allclose(outputs, expected)
    with pytest.raises(TypeError, match="expected the name of a method of TwoPasses for method, got 'decode'"):
        jaxcam.cut((TwoPasses(), variables), "conv", method="decode")


class Siamese(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv, self.head = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        calls = [nnx.relu(self.conv(image)).mean((1, 2)) for image in (x, x[:, ::-1] ** 2)]
        return self.head(jnp.concatenate(calls, -1))


def test_one_call_of_a_layer():
    net = Siamese()
    inputs = [X[None], X[None, ::-1] ** 2]
    values = [net.conv(image) for image in inputs]

    def head(A, call):
        pooled = [nnx.relu(A[None] if i == call else value).mean((1, 2)) for i, value in enumerate(values)]
        return net.head(jnp.concatenate(pooled, -1))[0]

    for call in (0, 1):
        cut = jaxcam.cut(net, f"conv:{call}", image_shape=X.shape)
        np.testing.assert_allclose(cut.features(cut.params, X), values[call][0], rtol=1e-5, atol=1e-6)
        expected = oracle_grad_cam(lambda A, call=call: head(A, call), values[call][0], 2)
        np.testing.assert_allclose(jaxcam.grad_cam(cut, X, 2), expected, rtol=1e-4, atol=1e-6)
    cuts = jaxcam.cut(net, ["conv:1", "conv:0"], image_shape=X.shape)
    maps = jaxcam.grad_cam(cuts, X, 2)
    np.testing.assert_allclose(maps["conv:1"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="layer 'conv' is called 2 times: a cut needs one call. Choose conv:0, conv:1"):
        jaxcam.cut(net, "conv", image_shape=X.shape)
    with pytest.raises(ValueError, match="no layer 'conv:2': 'conv' is called 2 times, from 'conv':0"):
        jaxcam.cut(net, "conv:2", image_shape=X.shape)


class Block(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, x):
        y = nnx.relu(self.conv(x))
        return y, {"square": y**2, "places": jnp.argmax(y, -1)}


class Extras(nnx.Module):
    def __init__(self, uses):
        self.block, self.uses = Block(), uses

    def __call__(self, x):
        y, extras = self.block(x)
        y = {"one": y, "square": extras["square"], "both": y + extras["square"]}[self.uses]
        return (y + 0.0 * extras["places"][..., None].astype(y.dtype) if self.uses == "one" else y).mean((1, 2))


@pytest.mark.parametrize(("uses", "layer"), [("one", "block"), ("square", "block"), ("both", "block[0]")])
def test_the_array_of_a_layer_that_is_in_use(uses, layer):
    cut = jaxcam.cut(Extras(uses), layer, image_shape=X.shape)
    y = nnx.relu(Block().conv(X[None]))[0]
    np.testing.assert_allclose(cut.features(cut.params, X), y**2 if uses == "square" else y, rtol=1e-5, atol=1e-6)
    outputs = cut.head(cut.params, cut.features(cut.params, X), X)
    np.testing.assert_allclose(outputs, Extras(uses)(X[None])[0], rtol=1e-5, atol=1e-6)


def test_several_arrays_in_use_are_listed():
    message = r"returns 2 arrays: a cut needs one. Choose block\[0\] \[1, 6, 8, 4\], block\[2\] \[1, 6, 8, 4\]"
    with pytest.raises(ValueError, match=message) as refused:
        jaxcam.cut(Extras("both"), "block", image_shape=X.shape)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"no array 'block\[7\]' that the outputs need: choose one of block\[0\]"):
        jaxcam.cut(Extras("both"), "block[7]", image_shape=X.shape)


class Tokens(nnx.Module):
    """Patches, with tokens before and behind them."""

    def __init__(self, before, behind):
        rngs = nnx.Rngs(0)
        self.patches, self.mix = nnx.Conv(3, 5, (2, 2), strides=2, rngs=rngs), nnx.Linear(5, 5, rngs=rngs)
        self.extra = nnx.Param(jax.random.normal(jax.random.key(3), (before + behind, 5)))
        self.head, self.before = nnx.Linear(5, 3, rngs=rngs), before

    def after(self, tokens):
        attention = jax.nn.softmax(tokens @ jnp.swapaxes(tokens, 1, 2), -1)
        return self.head((attention @ tokens)[:, -1])

    def tokens(self, x):
        y = self.patches(x).reshape(1, -1, 5)
        extra = self.extra[...][None]
        return self.mix(jnp.concatenate([extra[:, : self.before], y, extra[:, self.before :]], 1))

    def __call__(self, x):
        return self.after(self.tokens(x))


@pytest.mark.parametrize(("before", "behind"), [(0, 1), (2, 1)])
def test_tokens_at_either_end_of_the_grid(before, behind):
    net = Tokens(before, behind)
    cut = jaxcam.cut(net, "mix", grid=(3, 4), prefix=before, suffix=behind, image_shape=X.shape)
    tokens = net.tokens(X[None])[0]
    A = tokens[before : before + 12].reshape(3, 4, 5)
    np.testing.assert_allclose(cut.features(cut.params, X), A, rtol=1e-5, atol=1e-6)

    def head(A):
        whole = jnp.concatenate([tokens[:before], A.reshape(12, 5), tokens[before + 12 :]])
        return net.after(whole[None])[0]

    np.testing.assert_allclose(jaxcam.grad_cam(cut, X, 1), oracle_grad_cam(head, A, 1), rtol=1e-4, atol=1e-6)
    cuts = jaxcam.cut(net, ["mix"], grid=(3, 4), prefix=before, suffix=behind, image_shape=X.shape)
    np.testing.assert_allclose(jaxcam.grad_cam(cuts, X, 1)["mix"], jaxcam.grad_cam(cut, X, 1), rtol=1e-4, atol=1e-6)
    assert cut.reads_input
    with pytest.raises(ValueError, match="with prefix=0 and suffix=5, got"):
        jaxcam.cut(net, "mix", grid=(3, 4), suffix=5, image_shape=X.shape)
    with pytest.raises(ValueError, match=r"suffix=1 goes with grid=\(h, w\)"):
        jaxcam.cut(net, "mix", suffix=1)
