"""All models of `keras.applications`, with random weights, against a Grad-CAM of Keras and `jax.grad` alone."""

import gc
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

keras = pytest.importorskip("keras")

CLASSES = 10
# Small models that differ in kind: .ci/run has them. The others run in .ci/long.
IN_CI = {"MobileNetV2", "EfficientNetB0", "ResNet50V2", "DenseNet121", "ConvNeXtTiny", "MobileNetV3Small"}
# Sides of images at which the last map is larger than 1 x 1, or at which the deepest models, with the statistics of
# four images, do not amplify rounding a millionfold; 64 for all other models.
SIDES = {
    "InceptionV3": 107, "InceptionResNetV2": 107, "Xception": 71, "EfficientNetV2M": 128, "EfficientNetV2L": 128
}  # fmt: skip
NAMES = sorted(name for name in dir(keras.applications) if callable(getattr(keras.applications, name)))


@pytest.fixture(autouse=True)
def _alone():
    """Keras's own dense layers need rank promotion; a model of 350 million parameters leaves before the next comes."""
    with jax.numpy_rank_promotion("allow"):
        yield
    keras.backend.clear_session()
    jax.clear_caches()
    gc.collect()


def built(name):
    """A model whose activations have scale 1 at all depths, and two images for which that is so.

    With random weights and the initial statistics, activations shrink to 1e-11 in MobileNetV2, and all probabilities
    are equal.
    """
    keras.utils.set_random_seed(0)
    side = SIDES.get(name, 64)
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=CLASSES)
    images = jax.random.uniform(jax.random.key(0), (4, side, side, 3), maxval=255.0)
    for layer in model.layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(jnp.full(layer.gamma.shape, 0.5))  # 1e-6 at first: the block does nothing
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    trained, others = state_of(model)
    _, others = jax.jit(lambda t, o, x: model.stateless_call(t, o, x, training=True))(trained, others, images)
    for variable, value in zip(model.non_trainable_variables, others, strict=True):
        variable.assign(value)
    return model, images[:2]


def state_of(model):
    return [
        [variable.value for variable in part] for part in (model.trainable_variables, model.non_trainable_variables)
    ]


def independent(model, layer, image):
    """The probabilities, and A and the gradient of the largest logit, of a Keras model with two outputs and its end."""
    probabilities = jax.jit(lambda *state, x: model.stateless_call(*state, x, training=False)[0])(
        *state_of(model), x=image[None]
    )[0]
    target = int(probabilities.argmax())
    model.layers[-1].activation = keras.activations.linear
    (A,) = [operation.output for operation in model.operations if operation.name == layer]
    both, end = keras.Model(model.inputs, [A, model.output]), keras.Model(A, model.output)

    @jax.jit
    def compute(state_of_both, state_of_end, x):
        (A, logits), _ = both.stateless_call(*state_of_both, x, training=False)
        end_of = lambda A: end.stateless_call(*state_of_end, A, training=False)[0][0]
        return A[0], logits[0], end_of(A), jax.grad(lambda A: end_of(A)[target])(A)[0]

    A, logits, of_end, gradient = compute(state_of(both), state_of(end), image[None])
    np.testing.assert_allclose(of_end, logits, rtol=1e-4, atol=1e-5 * np.abs(logits).max())
    return probabilities, np.array(A, float), np.array(gradient, float)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.zoo if name in IN_CI else pytest.mark.applications) for name in NAMES]
)
def test_the_recommended_layer_has_the_map_of_an_independent_grad_cam(name):
    model, (image, _) = built(name)
    layers = jaxcam.layers(model)
    described = jaxcam.describe_layers(model)
    assert [layer.name for layer in described] == list(layers)
    layer = described.recommended
    cut = jaxcam.cut(model, strip_activation=True)
    assert (cut.layer, cut.outputs, cut.reads_input) == (layer.name, "logits", False)
    assert jaxcam.cut(model, layer.name, image_shape=image.shape).outputs == "probabilities"
    explain = jax.jit(lambda cut, x: (jaxcam.grad_cam(cut, x), jaxcam.grad_cam_pp(cut, x)))
    maps = dict(zip(("grad_cam", "grad_cam_pp"), explain(cut, image), strict=True))
    diagnosis = jaxcam.diagnose(cut, image)
    print(diagnosis)

    probabilities, A, gradient = independent(model, layer.name, image)
    assert layer.shape == A.shape and (layer.can_be_negative or A.min() >= 0)
    assert diagnosis.target == probabilities.argmax()
    # Random weights amplify rounding: by 20,000 in EfficientNetB4. Two programs agree as well as two images that differ
    # by two roundings.
    features = jax.jit(lambda cut, x: cut.features(cut.params, x))
    nearby, ours = features(cut, image * (1 + 2**-22)), features(cut, image)
    rounding = float(np.abs(nearby - ours).max() / np.abs(ours).max())
    assert rounding < 0.05, "rounding decides this map: nothing can be compared"
    rtol = max(1e-4, 2 * rounding)
    np.testing.assert_allclose(ours, A, rtol=rtol, atol=rtol * np.abs(A).max())
    np.testing.assert_allclose(diagnosis.probability, probabilities.max(), rtol=rtol)
    expected = {"grad_cam": np.maximum((A * gradient.mean((0, 1))).sum(-1), 0)}
    if diagnosis.certificate.affine:  # Y2 = Y u1^2 and Y3 = Y u1^3
        alpha = 1 / (2 + A.sum((0, 1)) * gradient) * (gradient != 0)
        expected["grad_cam_pp"] = np.maximum((A * (alpha * np.maximum(gradient, 0)).sum((0, 1))).sum(-1), 0)
    for method, saliency in maps.items():
        assert np.isfinite(saliency).all() and diagnosis.not_finite == 0, method
        # With random weights a map may be negative everywhere before its relu, which `diagnose` says.
        assert (np.max(saliency) == 0) == diagnosis.zero_map[method] == (diagnosis.cut_off[method] == 1), method
    assert not diagnosis.zero_map["grad_cam"]
    for method, saliency in expected.items():
        np.testing.assert_allclose(maps[method], saliency, rtol=rtol, atol=0.1 * rtol * saliency.max(), err_msg=method)
