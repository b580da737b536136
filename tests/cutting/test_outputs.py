"""What the outputs mean: methods, metrics, `diagnose` and `evaluate` report the probabilities of the model itself."""

import dataclasses
import functools
import logging
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam
from jaxcam.cutting import output_kind

IMAGE = jax.random.uniform(jax.random.key(0), (6, 6, 3))
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def nnx_model(classes, last):
    class Net(nnx.Module):
        def __init__(self, *, rngs):
            self.conv, self.dense = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Linear(8, classes, rngs=rngs)

        def __call__(self, x):
            return last(6 * self.dense(nnx.relu(self.conv(x)).mean((1, 2))))

    return Net(rngs=nnx.Rngs(1))


def hand_written(z):
    powers = jnp.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def nnx_cut(classes, last, **options):
    model = nnx_model(classes, last)
    return model, jaxcam.cut(model, "conv", image_shape=IMAGE.shape, **options)


def keras_model():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    inputs = keras.Input(IMAGE.shape)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    spread = keras.initializers.RandomNormal(stddev=4)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", kernel_initializer=spread)(x))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), name="conv")(x)).mean((1, 2))
        return jax.jit(lambda z: jax.jit(nn.softmax)(z))(6 * nn.Dense(4)(x))


def linen_cut():
    variables = LinenNet().init(jax.random.key(3), IMAGE[None])
    model = (LinenNet(), variables)
    return (lambda x: LinenNet().apply(variables, x)), jaxcam.cut(model, "conv", image_shape=IMAGE.shape)


MODELS = {
    "nnx, logits": (lambda: nnx_cut(4, lambda z: z), "logits", lambda z: np.exp(z) / np.exp(z).sum()),
    "nnx, hand-written softmax": (lambda: nnx_cut(4, hand_written), "probabilities", lambda p: p),
    "nnx, softmax": (lambda: nnx_cut(4, nnx.softmax), "probabilities", lambda p: p),
    "linen, softmax within jit": (linen_cut, "probabilities", lambda p: p),
    "nnx, multi-label": (lambda: nnx_cut(4, nnx.sigmoid), "sigmoids", lambda p: p),
    "nnx, one logit": (lambda: nnx_cut(1, lambda z: z), "logits", lambda z: 1 / (1 + np.exp(-z))),
    "nnx, one sigmoid": (lambda: nnx_cut(1, nnx.sigmoid), "sigmoids", lambda p: p),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_probability_is_the_models_own(name):
    build, kind, probabilities_of = MODELS[name]
    model, cut = build()
    probabilities = probabilities_of(np.asarray(model(IMAGE[None])[0], np.float64))
    target = probabilities.size - 1
    assert cut.outputs == kind and output_kind(dataclasses.replace(cut, outputs=None), IMAGE) == kind
    found = jaxcam.diagnose(cut, IMAGE, target)
    np.testing.assert_allclose(found.probability, probabilities[target], **CLOSE)
    assert found.outputs == kind and found.predicted == probabilities.argmax()
    whole = jaxcam.metrics.masked_score(cut, IMAGE, jnp.ones([6, 6]), target)
    np.testing.assert_allclose(whole, probabilities[target], **CLOSE)
    u = jaxcam.diagnose(cut, IMAGE, target, score=functools.partial(jaxcam.scores.log_softmax)).score
    np.testing.assert_allclose(u, np.log(probabilities[target]), **CLOSE)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "nnx, logits"])
def test_maps_of_log_softmax_are_those_of_the_models_log_probability(name):
    build, _, _ = MODELS[name]
    model, cut = build()
    is_logit = name == "nnx, one logit"

    def log_probability(A):
        outputs = cut.head(cut.params, A, IMAGE)
        return jax.nn.log_sigmoid(outputs[0]) if is_logit else jnp.log(outputs[0])

    A = cut.features(cut.params, IMAGE)
    expected = jax.nn.relu(A @ jax.grad(log_probability)(A).mean((0, 1)))
    method = functools.partial(jaxcam.grad_cam, score=jaxcam.scores.log_softmax)
    np.testing.assert_allclose(method(cut, IMAGE, 0), expected, **CLOSE)
    np.testing.assert_allclose(jax.jit(method)(cut, IMAGE, 0), expected, **CLOSE)
    images = jnp.stack([IMAGE[::-1], IMAGE])
    np.testing.assert_allclose(jax.vmap(method, (None, 0, None))(cut, images, 0)[1], expected, **CLOSE)
    unknown_shape = dataclasses.replace(cut, outputs=None)
    np.testing.assert_allclose(method(unknown_shape, IMAGE, 0), expected, **CLOSE)


@pytest.mark.parametrize("name", ["nnx, hand-written softmax", "linen, softmax within jit", "nnx, multi-label"])
def test_the_stripped_activation_leaves_the_logit(name):
    build, kind, _ = MODELS[name]
    model, cut = build()
    stripped = jaxcam.cutting.without_last_activation(cut)
    A = cut.features(cut.params, IMAGE)
    logits, outputs = stripped.head(stripped.params, A, IMAGE), np.asarray(cut.head(cut.params, A, IMAGE))
    activation = jax.nn.softmax if kind == "probabilities" else jax.nn.sigmoid
    np.testing.assert_allclose(activation(logits), outputs, **CLOSE)
    assert jaxcam.certify(lambda A: stripped.head(stripped.params, A, IMAGE), A).affine
    assert not jaxcam.certify(lambda A: cut.head(cut.params, A, IMAGE), A).affine
    np.testing.assert_allclose(jaxcam.diagnose(stripped, IMAGE, 2).probability, outputs[2], **CLOSE)
    assert stripped.head == jaxcam.cutting.without_last_activation(cut).head, "nothing is compiled again"


def test_the_stripped_logit_is_that_of_the_model_without_softmax():
    _, plain = nnx_cut(4, lambda z: z)
    _, stripped = nnx_cut(4, hand_written, strip_activation=True)
    assert stripped.outputs == "logits" == plain.outputs
    for method in (jaxcam.grad_cam_pp, jaxcam.saliency, jaxcam.guided_backprop):
        np.testing.assert_allclose(method(stripped, IMAGE, 1), method(plain, IMAGE, 1), **CLOSE)
    later = jaxcam.cut(nnx_model(4, hand_written), "conv", strip_activation=True)  # without the image's shape
    np.testing.assert_allclose(jaxcam.grad_cam(later, IMAGE, 1), jaxcam.grad_cam(plain, IMAGE, 1), **CLOSE)
    assert output_kind(later, IMAGE) == "logits"


def test_cuts_at_several_layers():
    model = nnx_model(4, hand_written)
    plain = jaxcam.cut(nnx_model(4, lambda z: z), ["conv", "dense"], image_shape=IMAGE.shape)
    cuts = jaxcam.cut(model, ["conv", "dense"], image_shape=IMAGE.shape)
    stripped = jaxcam.cut(model, ["conv", "dense"], image_shape=IMAGE.shape, strip_activation=True)
    assert (cuts.outputs, stripped.outputs) == ("probabilities", "logits")
    zeros = {"conv": jnp.zeros([6, 6, 8])}
    values, logits = stripped.tapped(stripped.params, zeros, IMAGE)
    expected, plain_logits = plain.tapped(plain.params, zeros, IMAGE)
    np.testing.assert_allclose(logits, plain_logits, **CLOSE)
    np.testing.assert_allclose(values["conv"], expected["conv"], **CLOSE)
    one = jaxcam.cut(model, ["conv"], image_shape=IMAGE.shape)
    by_layer = jaxcam.grad_cam(one, IMAGE, 2, score=jaxcam.scores.log_softmax)
    alone = jaxcam.grad_cam(jaxcam.cut(model, "conv"), IMAGE, 2, score=jaxcam.scores.log_softmax)
    np.testing.assert_allclose(by_layer["conv"], alone, **CLOSE)


def test_outputs_that_end_in_no_activation_are_not_stripped():
    with pytest.raises(ValueError, match="expected outputs that end in a softmax or a sigmoid for strip_activation"):
        nnx_cut(4, lambda z: z, strip_activation=True)
    with pytest.raises(ValueError, match="expected outputs that end in a softmax or a sigmoid"):
        jaxcam.cut(jaxcam.digits(), "block3_conv2", strip_activation=True)
    later = jaxcam.cut(nnx_model(4, lambda z: z), "conv", strip_activation=True)
    with pytest.raises(ValueError, match="expected outputs that end in a softmax or a sigmoid"):
        jaxcam.grad_cam(later, IMAGE, 1)


def test_two_heads_are_left_to_the_score():
    _, cut = nnx_cut(4, lambda z: {"classes": nnx.softmax(z), "raw": z})
    assert cut.outputs == "unknown"
    _, single = nnx_cut(4, lambda z: z)

    def raw(outputs, target):
        return outputs["raw"][target]

    np.testing.assert_allclose(jaxcam.grad_cam(cut, IMAGE, 1, score=raw), jaxcam.grad_cam(single, IMAGE, 1), **CLOSE)
    assert jaxcam.diagnose(cut, IMAGE, 1, score=raw).probability is None
    _, stripped = nnx_cut(4, lambda z: {"classes": nnx.softmax(z), "raw": z}, strip_activation=True)
    outputs = stripped.head(stripped.params, stripped.features(stripped.params, IMAGE), IMAGE)
    np.testing.assert_allclose(outputs["classes"], outputs["raw"], **CLOSE)


def test_unknown_outputs_ask_for_a_score():
    model, cut = nnx_cut(4, lambda z: (nnx.softmax(z) + nnx.softmax(2 * z)) / 2)
    own = np.asarray(model(IMAGE[None])[0])
    assert cut.outputs == "unknown" and jaxcam.diagnose(cut, IMAGE, 1).probability is None
    for score in (jaxcam.scores.log_softmax, functools.partial(jaxcam.scores.probability)):
        with pytest.raises(ValueError, match="of the cut at 'conv' lie in 0..1 .* give score="):
            jaxcam.grad_cam(cut, IMAGE, 1, score=score)
    with pytest.raises(ValueError, match="give score="):
        jaxcam.metrics.masked_score(cut, IMAGE, jnp.ones([6, 6]), 1)
    value = jaxcam.metrics.masked_score(cut, IMAGE, jnp.ones([6, 6]), 1, score=lambda outputs, target: outputs[target])
    np.testing.assert_allclose(value, own[1], **CLOSE)
    declared = dataclasses.replace(cut, outputs="probabilities")
    np.testing.assert_allclose(jaxcam.diagnose(declared, IMAGE, 1).probability, own[1], **CLOSE)
    np.testing.assert_allclose(jaxcam.metrics.masked_score(declared, IMAGE, jnp.ones([6, 6]), 1), own[1], **CLOSE)
    with pytest.raises(ValueError, match="outputs is 'softmax': choose one of logits"):
        dataclasses.replace(cut, outputs="softmax")


def test_a_cut_by_hand():
    weights = jax.random.normal(jax.random.key(4), (3, 4)) * 5
    cut = jaxcam.Cut(weights, lambda w, x: x, lambda w, A, x: jax.nn.softmax(A.mean((0, 1)) @ w))
    logits = jaxcam.Cut(weights, lambda w, x: x, lambda w, A, x: A.mean((0, 1)) @ w)
    options = {"score": jaxcam.scores.log_softmax}
    np.testing.assert_allclose(
        jaxcam.grad_cam_pp(cut, IMAGE, 1, **options), jaxcam.grad_cam_pp(logits, IMAGE, 1, **options), **CLOSE
    )
    at_the_end = jaxcam.Cut(weights, lambda w, x: jax.nn.softmax(x @ w), lambda w, A, x: A.reshape(-1))
    u = jaxcam.diagnose(at_the_end, IMAGE[:1, :1], 1, **options).score  # the activation is among the features
    np.testing.assert_allclose(u, jnp.log(jax.nn.softmax(IMAGE[0, 0] @ weights)[1]), **CLOSE)


def test_saturated_probabilities_keep_their_digits():
    cut = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: jax.nn.softmax(60 * A.mean((0, 1))))
    image = jnp.zeros([2, 2, 3]).at[..., 0].set(1)
    found = jaxcam.grad_cam(cut, image, 1, score=jaxcam.scores.log_softmax)
    logits = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: 60 * A.mean((0, 1)))
    np.testing.assert_allclose(found, jaxcam.grad_cam(logits, image, 1, score=jaxcam.scores.log_softmax), **CLOSE)
    assert float(jaxcam.diagnose(cut, image, 1, score=jaxcam.scores.log_softmax).score) == pytest.approx(-60, rel=1e-5)


def test_the_logit_of_probabilities_is_announced_once(caplog):
    _, cut = nnx_cut(4, hand_written)
    cut = dataclasses.replace(cut, layer="a layer of this test")
    with caplog.at_level(logging.WARNING, "jaxcam"):
        found = [jaxcam.grad_cam(cut, IMAGE, 1) for _ in range(2)]
    assert [record.message.count("strip_activation=True") for record in caplog.records] == [1]
    A = cut.features(cut.params, IMAGE)
    gradient = jax.grad(lambda A: cut.head(cut.params, A, IMAGE)[1])(A)
    np.testing.assert_allclose(found[0], jax.nn.relu(A @ gradient.mean((0, 1))), **CLOSE)


def test_a_keras_classifier_is_evaluated_with_its_own_probabilities():
    with jax.numpy_rank_promotion("allow"):
        model = keras_model()
        cut = jaxcam.cut(model, "conv")
        own = np.asarray(model(IMAGE[None])[0])
        target = int(own.argmax())
        assert cut.outputs == "probabilities"
        np.testing.assert_allclose(jaxcam.diagnose(cut, IMAGE).probability, own[target], **CLOSE)
        examples = [jaxcam.Example(np.asarray(IMAGE), name="one")]
        found = jaxcam.evaluate(cut, examples, {"Grad-CAM": jaxcam.grad_cam}, ["drop", "deletion"])
        saliency = jaxcam.resize(jaxcam.grad_cam(cut, IMAGE, target), (6, 6))
        mask = np.asarray(saliency / saliency.max())
        masked = np.asarray(model((IMAGE * mask[..., None])[None])[0])[target]
        drop = max(0, own[target] - masked) / own[target]
        row = found.images["one"]["rows"]["Grad-CAM"]
        np.testing.assert_allclose(found.images["one"]["probability"], own[target], **CLOSE)
        np.testing.assert_allclose(row["average_drop"], drop, rtol=1e-4, atol=1e-5)
        curve = jaxcam.metrics.deletion(cut, IMAGE, saliency, target, steps=1)
        ends = [own[target], np.asarray(model(np.zeros((1, 6, 6, 3), np.float32))[0])[target]]
        np.testing.assert_allclose(curve, ends, **CLOSE)


def test_a_model_may_print():
    """`jax.debug.print` has no outputs; the model is cut as if it were not there."""

    class Printing(nnx.Module):
        def __init__(self, prints):
            self.conv, self.classifier, self.prints = (
                nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)),
                nnx.Linear(4, 5, rngs=nnx.Rngs(0)),
                prints,
            )

        def __call__(self, x):
            x = jax.nn.gelu(self.conv(x))
            if self.prints:
                jax.debug.print("mean {}", x.mean())
            return self.classifier(jax.nn.gelu(x).mean((1, 2)))

    image = jax.random.uniform(jax.random.key(0), (8, 8, 3))
    silent, printing = (
        jaxcam.grad_cam_pp(jaxcam.cut(Printing(prints), "conv", image_shape=image.shape), image, 1)
        for prints in (False, True)
    )
    np.testing.assert_array_equal(silent, printing)


def test_layers_inside_a_softmax_are_passed_over():
    class Exp(nnx.Module):
        def __call__(self, x):
            return jnp.exp(x - jax.lax.stop_gradient(x.max(-1, keepdims=True)))

    class Sum(nnx.Module):
        def __call__(self, x):
            return x.sum(-1, keepdims=True)

    class Model(nnx.Module):
        def __init__(self):
            self.conv, self.exp, self.sum = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), Exp(), Sum()

        def __call__(self, x):
            numerators = self.exp(self.conv(x).mean((1, 2)))
            return numerators / self.sum(numerators)

    assert jaxcam.cut(Model(), "conv", image_shape=(8, 8, 3)).outputs == "probabilities"
    assert jaxcam.cut(Model(), ["conv"], image_shape=(8, 8, 3)).outputs == "probabilities"
