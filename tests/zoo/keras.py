"""The zoo in Keras 3, which is imported by the builders only: set KERAS_BACKEND=jax before calling one.

Keras' own Dense adds its bias by rank promotion: call these models under `jax.numpy_rank_promotion("allow")`.
"""

import jax
import numpy as np

from tests.zoo.specimen import Specimen, random_value


def randomized(model):
    """The model itself, with random biases, scales, and running means and variances."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random_value(rng, weight.name, weight.value))
    return model


def sequential():
    """Convolutions, BatchNormalization and Dropout in a row."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, padding="same", name="conv2"),
            keras.layers.BatchNormalization(name="bn2"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    return randomized(model)


def residual(x, width, stride, name):
    """A block of a functional ResNet: two convolutions, and a projection where the shape changes."""
    from keras import layers

    y = layers.Conv2D(width, 3, stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    y = layers.ReLU(name=f"{name}_relu1")(layers.BatchNormalization(name=f"{name}_bn1")(y))
    y = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv2")(y)
    y = layers.BatchNormalization(name=f"{name}_bn2")(y)
    if stride != 1 or x.shape[-1] != width:
        x = layers.Conv2D(width, 1, stride, use_bias=False, name=f"{name}_projection")(x)
        x = layers.BatchNormalization(name=f"{name}_projection_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def resnet():
    """Functional, with BatchNormalization, and Dropout before the head."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="stem")(inputs)
    x = residual(x, 8, 1, "block1")
    x = residual(x, 16, 2, "block2")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    return randomized(keras.Model(inputs, keras.layers.Dense(10, name="logits")(x)))


def subclassed():
    """A subclassed model, whose blocks are subclassed layers."""
    import keras

    class Block(keras.layers.Layer):
        def __init__(self, width, **options):
            super().__init__(**options)
            self.conv = keras.layers.Conv2D(width, 3, 2, padding="same")
            self.norm = keras.layers.BatchNormalization()

        def build(self, shape):
            self.conv.build(shape)
            self.norm.build(self.conv.compute_output_shape(shape))

        def call(self, x, training=False):
            return keras.ops.relu(self.norm(self.conv(x), training=training))

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.block1 = Block(8)
            self.block2 = Block(16)
            self.dropout = keras.layers.Dropout(0.5)
            self.logits = keras.layers.Dense(10)

        def call(self, x, training=False):
            x = self.block2(self.block1(x, training=training), training=training)
            x = self.dropout(keras.ops.mean(x, (1, 2)), training=training)
            return self.logits(x)

    keras.utils.set_random_seed(0)
    model = Classifier()
    with jax.numpy_rank_promotion("allow"):
        model(np.zeros((1, 32, 32, 3), np.float32))
    return randomized(model)


def nested():
    """A functional backbone used as one layer of a functional model."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="stem")(inputs)
    backbone = keras.Model(inputs, residual(x, 16, 2, "block"), name="backbone")
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(image))
    x = keras.layers.Dropout(0.5)(x)
    return randomized(keras.Model(image, keras.layers.Dense(10, name="logits")(x)))


KERAS = {
    "sequential": Specimen(sequential),
    "resnet": Specimen(resnet),
    "subclassed": Specimen(subclassed),
    "nested": Specimen(nested),
}
