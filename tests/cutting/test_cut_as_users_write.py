"""What models do besides what the zoo does: state outside the state, flags in odd places, classes with habits.

Each is compared with the model's own evaluation; what cannot be cut rightly must be refused, and never silently wrong.
"""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam

SHAPE = (8, 8, 3)
X = jax.random.normal(jax.random.key(1), SHAPE)


def rngs():
    return nnx.Rngs(0)


def outputs(model, layer="conv", x=X, **options):
    cut = jaxcam.cut(model, layer, **options)
    return cut.head(cut.params, cut.features(cut.params, x), x)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


class Base(nnx.Module):
    def __init__(self):
        self.conv, self.fc = nnx.Conv(3, 4, (3, 3), rngs=rngs()), nnx.Linear(4, 2, rngs=rngs())

    def __call__(self, x):
        return self.fc(nnx.relu(self.conv(x)).mean((1, 2)))


# Equal models share a program; these only look equal.


def test_a_module_behind_a_lambda_changes():
    outside = nnx.Linear(4, 4, rngs=rngs())
    layers = [nnx.Conv(3, 4, (3, 3), rngs=rngs()), nnx.relu, lambda h: outside(h), lambda h: h.mean((1, 2))]
    model = nnx.Sequential(*layers)
    for _ in range(2):
        close(outputs(model, "layers/0"), model(X[None])[0])
        outside.kernel[...] = 5 * outside.kernel[...]


def test_a_bound_method_that_is_kept():
    class Net(Base):
        def __init__(self):
            super().__init__()
            self.pool = self._pool

        def _pool(self, h):
            return self.fc(h.mean((1, 2)))

        def __call__(self, x):
            return self.pool(nnx.relu(self.conv(x)))

    model = Net()
    for _ in range(2):
        close(outputs(model), model(X[None])[0])
        model.fc.kernel[...] = 5 * model.fc.kernel[...]


def test_a_configuration_that_changes():
    class Configuration:
        slope = 0.1

    class Net(Base):
        def __init__(self, configuration):
            super().__init__()
            self.configuration = configuration

        def __call__(self, x):
            return self.fc(nnx.leaky_relu(self.conv(x), self.configuration.slope).mean((1, 2)))

    model = Net(Configuration())
    for slope in (0.1, 3.0):
        model.configuration.slope = slope
        close(outputs(model), model(X[None])[0])


def test_true_is_not_one():
    class Net(Base):
        def __init__(self, times=1):
            super().__init__()
            self.times = times

        def __call__(self, x, skip=1):
            h = self.conv(x) * (10 if skip is True else 1) * (7 if self.times is True else 1)
            return self.fc(h.mean((1, 2)))

    class Linen(nn.Module):
        times: object = 1

        @nn.compact
        def __call__(self, x):
            h = nn.Conv(4, (3, 3), name="conv")(x) * (10 if self.times is True else 1)
            return nn.Dense(2)(h.mean((1, 2)))

    for value in (1, True):
        close(outputs(Net(), inputs=(value,)), Net()(X[None], value)[0])
        close(outputs(Net(value)), Net(value)(X[None])[0])
        variables = Linen(value).init(jax.random.key(0), X[None])
        close(outputs((Linen(value), variables)), Linen(value).apply(variables, X[None])[0])


@pytest.mark.parametrize("kind", ["nnx", pytest.param("linen", marks=pytest.mark.long)])
def test_equal_models_share_their_functions(kind):
    """So that nothing is compiled again: the price of the caution above is not paid by everyone."""
    from tests import zoo

    specimens = {"nnx": zoo.NNX, "linen": zoo.LINEN}[kind]
    for name in ("vgg", "resnet", "convnext", "vit"):
        first, second = (specimens[name].build() for _ in range(2))
        layer = next(iter(jaxcam.layers(first, specimens[name].image_shape)))
        assert jaxcam.cut(first, layer).head is jaxcam.cut(second, layer).head, name


def test_numerical_settings_are_part_of_the_program(x64):
    model = Base()
    with jax.enable_x64(False):
        cut = jaxcam.cut(model, "conv")
        assert cut.features(cut.params, X).dtype == jnp.float32
    double = X.astype(jnp.float64)
    with jax.numpy_dtype_promotion("standard"):
        A = cut.features(cut.params, double)
        np.testing.assert_allclose(A, model.conv(double[None])[0], rtol=1e-12)


# Evaluation, wherever a model keeps its flag.


class Norm(nnx.Module):
    """A norm of one's own, which its flag makes another function."""

    def __init__(self, flag, value):
        setattr(self, flag, value)
        self.flag, self.value = flag, value

    def __call__(self, h):
        return h / jnp.std(h) if getattr(self, self.flag) == self.value else h


@pytest.mark.parametrize(
    ("flag", "value"), [("train", True), ("training", True), ("is_training", True), ("inference", False)]
)
@pytest.mark.parametrize("where", ["attribute", "list", "method"])
def test_flags_in_attributes(flag, value, where):
    class Forward(nnx.Module):
        """It has no `__call__`."""

        def __init__(self):
            self.norm = Norm(flag, value)
            setattr(self, flag, value)

        def forward(self, h):
            return self.norm(h) / (jnp.std(h) if getattr(self, flag) == value else 1)

    class Net(Base):
        def __init__(self):
            super().__init__()
            inner = Forward() if where == "method" else Norm(flag, value)
            self.inner = nnx.data([inner]) if where == "list" else inner

        def __call__(self, x):
            inner = self.inner[0] if where == "list" else self.inner
            h = self.conv(x)
            return self.fc((inner.forward(h) if where == "method" else inner(h)).mean((1, 2)))

    model = Net()
    close(outputs(model), model.fc(model.conv(X[None]).mean((1, 2)))[0])


def test_a_flag_that_is_hidden_from_the_signature():
    """What trains then is refused by what it does: it updates its statistics."""

    class Inner(Base):
        def __init__(self):
            super().__init__()
            self.bn = nnx.BatchNorm(4, rngs=rngs())
            self.bn.mean[...] = jnp.arange(4.0)

        def __call__(self, x, train=True):
            return self.fc(nnx.relu(self.bn(self.conv(x), use_running_average=not train)).mean((1, 2)))

    class Wrap(nnx.Module):
        def __init__(self):
            self.inner = Inner()

        def __call__(self, x, **options):
            return self.inner(x, **options)

    model = Wrap()
    with pytest.raises(ValueError, match="updates its statistics inner/bn/mean, inner/bn/var, as in training"):
        outputs(model, "inner/conv")
    close(outputs(model, "inner/conv", inputs={"train": False}), model(X[None], train=False)[0])
    close(outputs(model.inner, "conv"), model(X[None], train=False)[0])
    close(outputs(model.inner, "conv", inputs=(False,)), model(X[None], train=False)[0])


def test_flags_of_linen_modules():
    class Centred(nn.Module):
        train: bool = True

        @nn.compact
        def __call__(self, h):
            mean = self.variable("batch_stats", "mean", lambda: jnp.full(4, 0.5))
            return h - (h.mean((0, 1, 2)) if self.train else mean.value).reshape(1, 1, 1, 4)

    class Net(nn.Module):
        train: bool = True

        @nn.compact
        def __call__(self, x):
            h = Centred(self.train)(nn.Conv(4, (3, 3), name="conv")(x))
            return nn.Dense(2)(nn.relu(h).mean((1, 2)))

    variables = Net().init(jax.random.key(0), X[None])
    close(outputs((Net(), variables)), Net(train=False).apply(variables, X[None])[0])


def test_an_nnx_module_inside_a_linen_one_is_evaluated():
    class Inner(nnx.Module):
        def __init__(self, *, rngs):
            self.conv, self.dropout = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.conv(x) + 1)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nnx.bridge.to_linen(Inner, name="inner")(x).mean((1, 2)))

    variables = Net().init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X[None])
    cut = jaxcam.cut((Net(), variables), "inner")
    assert (cut.features(cut.params, X) != 0).all()


def test_a_batch_norm_of_ones_own():
    class Own(nn.BatchNorm):
        @nn.compact
        def __call__(self, x, train=False):
            return super().__call__(x, use_running_average=not train)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=True):
            h = Own(name="own")(nn.Conv(4, (3, 3), name="conv")(x), train)
            return nn.Dense(2)(h.mean((1, 2)))

    variables = Net().init(jax.random.key(0), X[None])
    for layer in ("conv", "own"):
        close(outputs((Net(), variables), layer), Net().apply(variables, X[None], train=False)[0])


# Layers and activations.


def test_after_has_the_constants_of_the_model():
    ours, others = jnp.arange(1.0, 5), jnp.arange(5.0, 9)

    class Net(Base):
        def __call__(self, x):
            return self.fc((self.conv(x) * ours.reshape(1, 1, 1, 4)).mean((1, 2)))

    model = Net()
    cut = jaxcam.cut(model, "conv", after=lambda h: h * ours.reshape(1, 1, 1, 4), image_shape=SHAPE)
    close(cut.features(cut.params, X), model.conv(X[None])[0] * ours.reshape(1, 1, 4))
    with pytest.raises(ValueError, match="after=.* is not what the model applies"):
        jaxcam.cut(model, "conv", after=lambda h: h * others.reshape(1, 1, 1, 4), image_shape=SHAPE)


def test_after_with_constants_that_the_model_makes_more_than_once():
    def bent(h):
        return jnp.where(h > 0, h, jnp.full_like(h, -0.5))

    class Net(Base):
        def __init__(self):
            super().__init__()
            self.conv2 = nnx.Conv(4, 4, (3, 3), rngs=rngs())

        def __call__(self, x):
            return self.fc(bent(self.conv2(bent(self.conv(x)))).mean((1, 2)))

    model = Net()
    cut = jaxcam.cut(model, "conv2", after=bent, image_shape=SHAPE)
    close(cut.features(cut.params, X), bent(model.conv2(bent(model.conv(X[None]))))[0])
    close(outputs(model, "conv2", after=bent), model(X[None])[0])


@pytest.mark.parametrize("activation", [nn.relu, nn.silu, nn.gelu, nn.leaky_relu])
def test_after_in_jitted_blocks_that_share_a_trace(activation):
    class Block(nn.Module):
        @nn.jit
        @nn.compact
        def __call__(self, x):
            return activation(nn.Conv(4, (3, 3), name="conv")(x))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Conv(4, (3, 3), name="stem")(x)
            return nn.Dense(2)(Block(name="two")(Block(name="one")(h)).mean((1, 2)))

    variables = Net().init(jax.random.key(0), X[None])
    wanted = Net().apply(variables, X[None])[0]
    close(outputs((Net(), variables), "two/conv", after=activation), wanted)


def test_a_layer_whose_output_is_not_used():
    class Net(Base):
        def __init__(self):
            super().__init__()
            self.auxiliary = nnx.Linear(4, 2, rngs=rngs())

        def __call__(self, x):
            h = self.conv(x)
            self.auxiliary(h)
            return self.fc(h.mean((1, 2)))

    assert "auxiliary" not in jaxcam.layers(Net(), SHAPE)
    with pytest.raises(ValueError, match="'auxiliary' is not called in eval mode, or not for the outputs"):
        jaxcam.cut(Net(), "auxiliary", image_shape=SHAPE)


def test_a_model_that_closes_over_a_traced_value():
    def scaled(t):
        model = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=rngs()), lambda h: h * t, lambda h: h.mean((1, 2)))
        return outputs(model, "layers/0").sum()

    with pytest.raises(ValueError, match="the model closes over a traced value"):
        jax.jit(scaled)(2.0)


# Classes with habits.


def test_registries_of_subclasses_stay_as_they_are():
    registry = {}

    class Registered(nnx.Module):
        def __init_subclass__(cls, *, tag, **options):
            super().__init_subclass__(**options)
            registry[tag] = cls

    class Block(Registered, tag="block"):
        def __init__(self):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs())

        def __call__(self, x):
            return self.conv(x)

    class Net(nnx.Module):
        def __init__(self):
            self.block, self.fc = registry["block"](), nnx.Linear(4, 2, rngs=rngs())

        def __call__(self, x):
            return self.fc(nnx.relu(self.block(x)).mean((1, 2)))

    assert set(jaxcam.layers(Net(), SHAPE)) == {"block/conv", "block", "fc"}
    assert registry == {"block": Block}
    close(outputs(Net(), "block"), Net()(X[None])[0])


def test_a_linen_module_inside_an_nnx_one():
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (3, 3))(x)

    class Net(nnx.Module):
        def __init__(self):
            self.inner = nnx.bridge.ToNNX(Inner(), rngs=rngs()).lazy_init(X[None])
            self.fc = nnx.Linear(4, 2, rngs=rngs())

        def __call__(self, x):
            return self.fc(self.inner(x).mean((1, 2)))

    model = Net()
    assert set(jaxcam.layers(model, SHAPE)) == {"inner", "fc"}
    close(outputs(model, "inner"), model(X[None])[0])


def test_a_model_with_an_eval_of_its_own():
    class Net(Base):
        def eval(self, x, metric):
            return metric(self(x))

        def __setattr__(self, name, value):
            if name == "frozen":
                raise AttributeError("frozen")
            super().__setattr__(name, value)

    close(outputs(Net()), Net()(X[None])[0])


def test_weights_are_freed_with_the_model():
    def one():
        model = Base()
        outputs(model)
        return weakref.ref(jax.tree.leaves(nnx.state(model))[0])

    kept = [one() for _ in range(3)]
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3
