"""Keras 3 models on the JAX backend come apart as Flax models do."""

import os
import threading

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests import zoo

keras = pytest.importorskip("keras")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_rank_promotion("allow"):  # Keras's own dense layers need it
        yield


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.zoo if name == "resnet" else ()) for name in zoo.KERAS]
)
def test_it_comes_apart_at_every_layer(name):
    specimen = zoo.KERAS[name]
    model = specimen.build()
    weights = [np.array(weight.value) for weight in model.weights]
    classes = [type(layer) for layer in model._flatten_layers()]
    # Keras knows the shape of its images, but for subclassed models.
    names = jaxcam.layers(model, specimen.image_shape if name == "subclassed" else None)
    assert len(names) >= 8
    cuts = {layer: jaxcam.cut(model, layer) for layer in names}
    x = jax.random.uniform(jax.random.key(0), specimen.image_shape)

    @jax.jit
    def parts(cuts, x):
        found = {}
        for layer, cut in cuts.items():
            A = cut.features(cut.params, x)
            slope = jax.grad(lambda A, cut=cut: cut.head(cut.params, A, x).sum())(A)
            found[layer] = A, cut.head(cut.params, A, x), slope
        return found

    wanted = model(x[None], training=False)[0]
    for layer, (A, outputs, slope) in parts(cuts, x).items():
        assert A.shape == slope.shape == names[layer]
        np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-5, err_msg=layer)
    assert [type(layer) for layer in model._flatten_layers()] == classes
    for before, after in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, after.value)
    layer = [layer for layer, shape in names.items() if len(shape) == 3][-1]
    assert jaxcam.grad_cam_pp(jaxcam.cut(model, layer, image_shape=x.shape), x, 3).ndim == 2


def test_a_model_in_use_by_another_thread_is_not_disturbed():
    specimen = zoo.KERAS["sequential"]
    model = specimen.build()
    x = jax.random.uniform(jax.random.key(0), specimen.image_shape)
    wanted = np.array(model(x[None], training=False))
    stop, found = threading.Event(), []

    def use():
        while not stop.is_set():
            with jax.numpy_rank_promotion("allow"):
                found.append(np.array(model(x[None], training=False)))

    user = threading.Thread(target=use)
    user.start()
    try:
        for layer in jaxcam.layers(model):
            cut = jaxcam.cut(model, layer)
            cut.head(cut.params, cut.features(cut.params, x), x)
    finally:
        stop.set()
        user.join()
    assert found
    for outputs in found:
        np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-6)


def test_what_keras_models_cannot_be():
    with pytest.raises(ValueError, match="the Keras model 'empty' is not built: call it on an image first"):
        jaxcam.cut(keras.Sequential([keras.layers.Dense(2)], name="empty"), "dense")
    image, mask = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    y = keras.layers.Conv2D(4, 3, name="conv")(image * mask)
    model = keras.Model([image, mask], keras.layers.GlobalAveragePooling2D()(y))
    with pytest.raises(ValueError, match="image_shape is needed"):
        jaxcam.layers(model, inputs=(jnp.ones((8, 8, 1)),))
    ones = jnp.ones((8, 8, 1))
    x = jax.random.uniform(jax.random.key(0), (8, 8, 3))
    cut = jaxcam.cut(model, "conv", inputs=(ones,))
    wanted = model([x[None], ones[None]])[0]
    np.testing.assert_allclose(cut.head(cut.params, cut.features(cut.params, x), x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("structure", [list, dict])
def test_inputs_by_name(structure):
    image, mask = keras.Input((8, 8, 3), name="image"), keras.Input((8, 8, 1), name="mask")
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="conv")(image * mask))
    inputs = [mask, image] if structure is list else {"mask": mask, "image": image}
    model = keras.Model(inputs, y)
    given = jax.random.uniform(jax.random.key(1), (8, 8, 1))
    x = jax.random.uniform(jax.random.key(0), (8, 8, 3))
    cut = jaxcam.cut(model, "conv", inputs={"mask": given})
    wanted = model([given[None], x[None]] if structure is list else {"mask": given[None], "image": x[None]})[0]
    np.testing.assert_allclose(cut.head(cut.params, cut.features(cut.params, x), x), wanted, rtol=1e-5, atol=1e-6)


def test_layers_of_one_name_are_told_apart():
    class Block(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")

        def call(self, x):
            return keras.ops.relu(self.conv(x))

    class Net(keras.Model):
        """Its call takes no flag of training."""

        def __init__(self):
            super().__init__()
            self.blocks = [Block(name="block") for _ in range(3)]

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return keras.ops.mean(x, (1, 2))

    model = Net()
    x = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    wanted = model(x[None])[0]
    names = jaxcam.layers(model, x.shape)
    assert list(names) == ["block/conv", "block", "block_1/conv", "block_1", "block_2/conv", "block_2"]
    h = x[None]
    for name, block in zip(("block", "block_1", "block_2"), model.blocks, strict=True):
        h = block(h)
        cut = jaxcam.cut(model, name)
        A = cut.features(cut.params, x)
        np.testing.assert_allclose(A, h[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(cut.head(cut.params, A, x), wanted, rtol=1e-5, atol=1e-6)


def test_a_cut_outlives_what_keras_does_with_the_model():
    """Keras gives its arrays away when it predicts, and orders its weights by what is trainable."""
    layers = keras.layers
    dense = [layers.Dense(3, use_bias=False, name=name) for name in ("one", "two")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *dense, layers.GlobalAveragePooling2D()])
    dense[0].trainable = False
    x = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    wanted = model(x[None], training=False)[0]
    cut = jaxcam.cut(model, "two")
    dense[0].trainable, dense[1].trainable = True, False
    model.predict(np.array(x)[None], verbose=0)
    np.testing.assert_allclose(cut.head(cut.params, cut.features(cut.params, x), x), wanted, rtol=1e-5, atol=1e-6)


def test_several_layers_in_one_backward_pass():
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    sides = [layers.Conv2D(4, 3, padding="same", activation="tanh", name=name)(stem) for name in ("left", "right")]
    y = layers.GlobalAveragePooling2D()(layers.Multiply()(sides))
    model = keras.Model(x, layers.Dense(3)(y))
    image = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    cuts = jaxcam.cut(model, ["right", "stem", "left"])
    A, outputs = cuts.tapped(cuts.params, {}, image)
    np.testing.assert_allclose(outputs, model(image[None])[0], rtol=1e-5, atol=1e-6)
    zeros = jax.tree.map(jnp.zeros_like, A)
    slopes = jax.jit(jax.grad(lambda deltas: jnp.sin(cuts.tapped(cuts.params, deltas, image)[1]).sum()))(zeros)
    for layer in cuts.layers:
        cut = jaxcam.cut(model, layer)
        np.testing.assert_allclose(A[layer], cut.features(cut.params, image), rtol=1e-5, atol=1e-6)
        alone = jax.grad(lambda A, cut=cut: jnp.sin(cut.head(cut.params, A, image)).sum())(A[layer])
        np.testing.assert_allclose(slopes[layer], alone, rtol=1e-4, atol=1e-6, err_msg=layer)


def test_operators_are_layers():
    """`y + x`, `keras.ops.relu(x)` and the like, also inside a model that is a layer of another one."""
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    branch = layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    backbone = keras.Model(x, keras.ops.relu(branch + stem), name="backbone")
    image = keras.Input((8, 8, 3))
    doubled = 2 * backbone(image)
    model = keras.Model(image, layers.Dense(3)(keras.ops.mean(doubled, axis=(1, 2))))
    shapes = jaxcam.layers(model)
    add, relu, multiply, mean = (
        next(name for name in shapes if name.split("/")[-1].startswith(kind))
        for kind in ("add", "relu", "multiply", "mean")
    )
    assert add.startswith("backbone/") and "/" not in multiply
    assert shapes[add] == shapes[relu] == shapes[multiply] == (8, 8, 4) and shapes[mean] == (4,)
    image = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    made = keras.Model(x, [branch + stem, keras.ops.relu(branch + stem)])(image[None])
    expected = {add: made[0][0], relu: made[1][0], multiply: 2 * made[1][0], mean: 2 * made[1][0].mean((0, 1))}
    outputs = model(image[None])[0]
    types = [type(operation) for operation in backbone.operations]
    for layer, A in expected.items():
        cut = jaxcam.cut(model, layer)
        np.testing.assert_allclose(cut.features(cut.params, image), A, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(cut.head(cut.params, A, image), outputs, rtol=1e-5, atol=1e-5)
        assert cut.reads_input is False
    assert [type(operation) for operation in backbone.operations] == types
    # Grad-CAM by hand: the head behind the sum is relu, doubling, the mean and a matrix.
    kernel = np.array(model.weights[-2].value)
    gradient = 2 * (np.array(expected[add]) > 0) * kernel[:, 1] / 64
    saliency = np.maximum((np.array(expected[add]) * gradient.mean((0, 1))).sum(-1), 0)
    np.testing.assert_allclose(jaxcam.grad_cam(jaxcam.cut(model, add), image, 1), saliency, rtol=1e-5, atol=1e-5)


def test_an_operator_that_is_called_twice_is_refused():
    x = keras.Input((8, 8, 3))
    relu = keras.ops.relu(x)._keras_history.operation  # Keras has no public name for an operator's class
    y = keras.layers.Conv2D(4, 3, name="conv")(relu(x - 0.5))
    model = keras.Model(x, keras.ops.mean(relu(y), axis=(1, 2)))
    assert relu.name not in jaxcam.layers(model)
    with pytest.raises(ValueError, match=f"layer '{relu.name}' is called 2 times"):
        jaxcam.cut(model, relu.name)


def test_the_recommended_layer_is_the_sum():
    """As in a ConvNeXt: the last two-dimensional layer by name is the branch before the addition."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(image)
    branch = layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    added = stem + branch
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(added)))
    descriptions = {layer.name: layer for layer in jaxcam.describe_layers(model)}
    name = added._keras_history.operation.name
    assert descriptions["branch"].reads_input and not descriptions[name].reads_input
    # Of one resolution, and not negative: the sum can be.
    assert jaxcam.cut(model).layer == "stem" and descriptions["stem"].recommended
    silu = keras.Model(image, layers.Dense(3)(keras.ops.mean(keras.ops.silu(stem) - branch, axis=(1, 2))))
    assert jaxcam.cut(silu).layer == "stem"
    pooled = layers.MaxPooling2D(name="pool")(added)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(pooled)))
    assert jaxcam.cut(model).layer == "stem"
    strided = layers.Conv2D(6, 3, strides=2, name="strided")(stem)
    added = strided + layers.Conv2D(6, 1, name="side")(strided)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(added)))
    assert jaxcam.cut(model).layer == added._keras_history.operation.name


APPLICATIONS = {
    "ResNet50": (64, "conv5_block3_out"), "MobileNetV2": (64, "out_relu"), "EfficientNetB0": (64, "top_activation"),
    "ConvNeXtTiny": (64, "add"), "DenseNet121": (64, "relu"), "VGG16": (64, "block5_conv3"),
    "InceptionV3": (80, "mixed7"), "Xception": (80, "block14_sepconv2_act"), "MobileNetV3Small": (64, "activation"),
    "NASNetMobile": (64, "activation"),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_recommended_layer_of_an_application(name):
    size, layer = APPLICATIONS[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=7)
    descriptions = jaxcam.describe_layers(model)
    chosen = descriptions.recommended
    assert chosen.name.startswith(layer) and chosen.reads_input is False
    # No layer of this resolution behind it has a head without the input and values that are not negative.
    behind = descriptions[descriptions.index(chosen) + 1 :]
    same = [other for other in behind if other.shape[:-1] == chosen.shape[:-1] and other.reads_input is False]
    assert not any(not other.can_be_negative for other in same) and (not same or not chosen.can_be_negative)
    cut = jaxcam.cut(model)
    assert cut.layer == chosen.name and cut.reads_input is False
