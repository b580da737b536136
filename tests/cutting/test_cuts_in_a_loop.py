"""A cut that is made anew in a loop finds the program of the one before: nothing is compiled again, nothing grows."""

import contextlib
import functools
import gc
import os
import tracemalloc

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import monitoring

import jaxcam
from jaxcam.cutting import canonical_function

IMAGE = jax.random.normal(jax.random.key(1), (8, 8, 3))
ROUNDS = 200
_lowered = []
monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: _lowered.append(event) if event.endswith("jaxpr_to_mlir_module_duration") else None
)


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_rank_promotion("allow"):  # Keras's own dense layers need it
        yield


@contextlib.contextmanager
def nothing_compiled():
    """Lowering comes before compiling, also where a compiled program is read from a disk."""
    before = len(_lowered)
    yield
    assert len(_lowered) == before


class Settings(nnx.Module):
    """With attributes that cannot be hashed, and a lambda of its own."""

    def __init__(self, slope=0.1):
        self.conv, self.fc = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1))
        self.settings = {"slope": slope, "axes": [1, 2]}
        self.act = lambda x: nnx.leaky_relu(x, slope)
        self.offset = np.zeros(4, np.float32)

    def __call__(self, x):
        h = self.act(self.conv(x)) + jnp.asarray(self.offset)
        return self.fc(self.settings["slope"] * h.mean(tuple(self.settings["axes"])))


class Listed(nn.Module):
    settings: dict
    scale: np.ndarray

    @nn.compact
    def __call__(self, x):
        h = nn.Conv(4, (3, 3), name="conv")(x) * jnp.asarray(self.scale)
        return nn.Dense(2)(h.mean(tuple(self.settings["axes"])))


def sequential():
    return nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, lambda x: x.mean((1, 2)), nn.Dense(2)])


def linen(make):
    variables = make().init(jax.random.key(0), IMAGE[None])
    return lambda: (make(), variables)


def keras_model():
    keras = pytest.importorskip("keras")
    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    y = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.ops.relu(y)))
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(y)))
    return lambda: model


# What a round makes anew, and the layer.
MODELS = {
    "nnx": (lambda: Settings, "conv"),
    "linen, a list and a lambda": (lambda: linen(sequential), "layers_0"),
    "linen, a dict and an array": (lambda: linen(lambda: Listed({"axes": [1, 2]}, np.ones(4, np.float32))), "conv"),
    "keras": (keras_model, "conv"),
}


@pytest.mark.parametrize("name", MODELS)
def test_cuts_made_anew(name):
    build, layer = MODELS[name]
    make = build()

    def explain(weight):
        cut = jaxcam.cut(make(), layer, after=lambda x: jax.nn.relu(x)) if name == "keras" else None
        cut = cut or jaxcam.cut(make(), layer)
        return jaxcam.grad_cam(cut, IMAGE, 1, score=lambda outputs, target: weight * outputs[target])

    with jax.numpy_rank_promotion("allow"):
        explain(1.0), explain(1.0)
        gc.collect()
        tracemalloc.start()
        try:
            explain(1.0)
            before = tracemalloc.get_traced_memory()[0]
            with nothing_compiled():
                for _ in range(ROUNDS):
                    explain(1.0)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 1000 * ROUNDS, f"{grown / ROUNDS:.0f} bytes a round"


def scores_of(value):
    return lambda outputs, target: value * outputs[target]


factor = 1.0


def test_functions_that_differ_are_told_apart():
    """By closure, default, global value, code and the types of these."""
    global factor
    model = Settings()
    cut = jaxcam.cut(model, "conv")

    def value(score):
        return float(jaxcam.grad_cam(cut, IMAGE, 0, score=score).max())

    once = value(scores_of(1.0))
    np.testing.assert_allclose(value(scores_of(3.0)), 3 * once, rtol=1e-5)
    np.testing.assert_allclose(value(scores_of(jnp.asarray(2.0))), 2 * once, rtol=1e-5)
    np.testing.assert_allclose(value(functools.partial(scores_of(5.0))), 5 * once, rtol=1e-5)
    for factor in (1.0, 4.0):
        np.testing.assert_allclose(value(lambda outputs, t: factor * outputs[t]), factor * once, rtol=1e-5)  # noqa: B023
        np.testing.assert_allclose(value(lambda o, t: (lambda v: factor * v)(o[t])), factor * once, rtol=1e-5)  # noqa: B023
    for weight in (1.0, 4.0):
        np.testing.assert_allclose(value(lambda o, t, weight=weight: weight * o[t]), weight * once, rtol=1e-5)
        np.testing.assert_allclose(value(lambda o, t: weight * o[t]), weight * once, rtol=1e-5)  # noqa: B023
    weights = [2.0]
    np.testing.assert_allclose(value(lambda o, t: weights[0] * o[t]), 2 * once, rtol=1e-5)
    weights[0] = 6.0
    np.testing.assert_allclose(value(lambda o, t: weights[0] * o[t]), 6 * once, rtol=1e-5)

    class Holder:
        weight = 2.0

    holder = Holder()
    first = lambda o, t: holder.weight * o[t]  # noqa: E731
    assert canonical_function(first) is first, "what an object holds may change"


def test_a_function_whose_closure_changes_does_not_stand_for_another():
    def counting():
        weight = 1.0

        def score(outputs, target):
            return weight * outputs[target]

        def set_weight(value):
            nonlocal weight
            weight = value

        return score, set_weight

    first, set_first = counting()
    assert canonical_function(first) is first
    set_first(2.0)
    second, set_second = counting()
    assert canonical_function(second) is second, "first holds another value by now"
    set_second(2.0)
    third, set_third = counting()
    set_third(2.0)
    assert canonical_function(third) is third, "both were remembered, and perhaps compiled, with another value"


def test_settings_that_change_in_place():
    """A list is no longer what it was remembered for."""
    for change in (None, 3.0):
        model = Settings()
        if change:
            model.settings["slope"] = change
        for slope in (0.1 if change is None else change, 0.7):
            model.settings["slope"] = slope
            cut = jaxcam.cut(model, "conv")
            outputs = cut.head(cut.params, cut.features(cut.params, IMAGE), IMAGE)
            np.testing.assert_allclose(outputs, model(IMAGE[None])[0], rtol=1e-5, atol=1e-6)
    model = Settings(0.1)
    cut = jaxcam.cut(model, "conv")
    np.testing.assert_allclose(
        cut.head(cut.params, cut.features(cut.params, IMAGE), IMAGE), model(IMAGE[None])[0], rtol=1e-5, atol=1e-6
    )


def test_a_keras_layer_that_is_changed():
    keras = pytest.importorskip("keras")
    model = keras_model()()
    with jax.numpy_rank_promotion("allow"):
        cut = jaxcam.cut(model, "conv")
        model(IMAGE[None]), model.predict(np.asarray(IMAGE)[None], verbose=0)
        model.compile(loss="mse")
        assert jaxcam.cut(model, "conv").head is cut.head
        model.get_layer("conv").activation = keras.activations.gelu
        changed = jaxcam.cut(model, "conv")
        assert changed.head is not cut.head
        outputs = changed.head(changed.params, changed.features(changed.params, IMAGE), IMAGE)
        np.testing.assert_allclose(outputs, model(IMAGE[None], training=False)[0], rtol=1e-5, atol=1e-6)
        kernel = model.get_layer("conv").kernel
        kernel.assign(2 * kernel.value)
        heavier = jaxcam.cut(model, "conv")
        assert heavier.head is changed.head
        outputs = heavier.head(heavier.params, heavier.features(heavier.params, IMAGE), IMAGE)
        np.testing.assert_allclose(outputs, model(IMAGE[None], training=False)[0], rtol=1e-5, atol=1e-6)


class CountedNnx(nnx.Module):
    calls = 0

    def __init__(self):
        self.first, self.second = nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        type(self).calls += 1
        return self.second(jax.nn.relu(self.first(x))).mean((1, 2))


class CountedLinen(nn.Module):
    calls = 0

    @nn.compact
    def __call__(self, x):
        CountedLinen.calls += 1
        return nn.Dense(2, name="second")(jax.nn.relu(nn.Dense(4, name="first")(x))).mean((1, 2))


@pytest.mark.parametrize("framework", ["nnx", "linen"])
def test_a_model_is_traced_once_for_the_cuts_at_all_layers(framework):
    image = jnp.ones((4, 4, 3))
    if framework == "nnx":
        counted, model = CountedNnx, CountedNnx()
    else:
        counted, module = CountedLinen, CountedLinen()
        model = (module, module.init(jax.random.key(0), image[None]))
    counted.calls = 0
    for layer in ("first", "second", ["first", "second"]):
        cut = jaxcam.cut(model, layer, image_shape=image.shape)
        assert cut.outputs == "logits"
    assert counted.calls == 1
