"""A network that is not a VGG and says itself how it is cut, and models that only look like one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.cutting import SelfCutting

X = jax.random.uniform(jax.random.key(0), (6, 5, 3))


class Residual(SelfCutting):
    """Plain JAX: two layers, of which the second has the image beside the first."""

    layers, image_shape = ("first", "second"), (6, 5, 3)

    def __init__(self):
        keys = jax.random.split(jax.random.key(1), 3)
        shapes = {"first": (3, 4), "second": (7, 8), "classify": (8, 2)}
        self.params = {name: jax.random.normal(k, shapes[name]) for k, name in zip(keys, shapes, strict=True)}

    def cut_at(self, layer):
        features, head = {
            "first": (Residual.first, Residual.after_first),
            "second": (Residual.until_second, Residual.after_second),
        }[layer]
        return jaxcam.Cut(self.params, features, head, layer, reads_input=layer == "first")

    def cuts_at(self, layers):
        return jaxcam.Cuts(self.params, {("second", "first"): Residual.tapped}[layers], layers)

    @staticmethod
    def first(params, x):
        return jax.nn.relu(x @ params["first"])

    @staticmethod
    def second(params, A, x):
        return jnp.tanh(jnp.concatenate([A, x], -1) @ params["second"])

    @staticmethod
    def until_second(params, x):
        if x.ndim != 3:
            raise ValueError(f"expected an image [h w 3], got {x.shape}")
        return Residual.second(params, Residual.first(params, x), x)

    @staticmethod
    def after_first(params, A, x):
        return Residual.after_second(params, Residual.second(params, A, x), x)

    @staticmethod
    def after_second(params, A, x):
        return A.mean((0, 1)) @ params["classify"]

    @staticmethod
    def tapped(params, deltas, x):
        first = Residual.first(params, x) + deltas.get("first", 0)
        second = Residual.second(params, first, x) + deltas.get("second", 0)
        return {"second": second, "first": first}, Residual.after_second(params, second, x)


def test_the_network_is_asked_for_its_cut():
    model = Residual()
    assert jaxcam.layers(model) == {"first": (6, 5, 4), "second": (6, 5, 8)}
    assert jaxcam.layers(model, (3, 4, 3)) == {"first": (3, 4, 4), "second": (3, 4, 8)}
    cuts = {layer: jaxcam.cut(model, layer, image_shape=X.shape) for layer in model.layers}
    assert [cut.layer for cut in cuts.values()] == ["first", "second"]
    assert [cut.reads_input for cut in cuts.values()] == [True, False], "what the network says"
    outputs = [cut.head(cut.params, cut.features(cut.params, X), X) for cut in cuts.values()]
    np.testing.assert_allclose(*outputs, rtol=1e-5)
    assert cuts["first"].head is jaxcam.cut(Residual(), "first").head


@pytest.mark.parametrize("method", [jaxcam.grad_cam, jaxcam.grad_cam_pp, jaxcam.hires_cam])
def test_maps_at_one_layer_and_at_several(method):
    model = Residual()
    cuts = jaxcam.cut(model, ["second", "first"], image_shape=X.shape)
    assert cuts.layers == ("second", "first")
    together = method(cuts, X, 1)
    for layer in model.layers:
        alone = method(jaxcam.cut(model, layer), X, 1)
        assert alone.shape == (6, 5)
        np.testing.assert_allclose(together[layer], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: jaxcam.cut(m, "third"), ValueError, "no layer 'third': choose one of first, second"),
        (lambda m: jaxcam.cut(m, ["first", "third"]), ValueError, "no layer 'third': choose one of first, second"),
        (lambda m: jaxcam.cut(m, ["first", "first"]), ValueError, "layer 'first' is given twice"),
        (lambda m: jaxcam.cut(m, []), ValueError, "no layers: a name, or several"),
        (lambda m: jaxcam.cut(m, "first", after=nnx.relu), TypeError, "a Residual takes no after: it cuts itself"),
        (lambda m: jaxcam.cut(m, "first", inputs=(1,)), TypeError, "a Residual takes no inputs: it cuts itself"),
        (lambda m: jaxcam.layers(m, channel_axis=0), TypeError, "a Residual takes no channel_axis: it cuts itself"),
        (lambda m: jaxcam.describe_layers(m, output="x"), TypeError, "a Residual takes no output: it cuts itself"),
        (
            lambda m: jaxcam.cut(m, "second", image_shape=(6, 3)),
            ValueError,
            r"expected an image \[h w 3\], got \(6, 3\)",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message) as refused:
        call(Residual())
    assert "\n" not in str(refused.value)


def test_what_a_network_may_leave_out():
    class Unfinished(SelfCutting):
        layers, image_shape = ("one", "two"), (4, 4, 3)

    with pytest.raises(NotImplementedError, match=r"Unfinished has no cut_at\(layer\), which returns a jaxcam.Cut"):
        jaxcam.cut(Unfinished(), "one")
    with pytest.raises(NotImplementedError, match=r"Unfinished cannot be cut at several layers: it has no cuts_at"):
        jaxcam.cut(Unfinished(), ["one", "two"])


def test_a_model_that_has_the_names_by_chance_is_traced():
    class Lookalike(nnx.Module):
        """A user's model, whose attributes and methods mean other things."""

        def __init__(self):
            self.layers = nnx.List([nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(0))])
            self.image_shape = (1, 1, 3)

        def cut_at(self, layer):
            raise AssertionError("not asked")

        cuts_at = halves = taps = cut_at

        def __call__(self, x):
            return self.layers[1](nnx.relu(self.layers[0](x)).mean((1, 2)))

    model = Lookalike()
    assert jaxcam.layers(model, (6, 5, 3)) == {"layers/0": (6, 5, 4), "layers/1": (2,)}
    cut = jaxcam.cut(model, "layers/0", after=nnx.relu)
    np.testing.assert_allclose(
        cut.head(cut.params, cut.features(cut.params, X), X), model(X[None])[0], rtol=1e-5, atol=1e-6
    )
    assert jaxcam.cut(model, ["layers/0"]).layers == ("layers/0",)


def test_a_plain_object_that_has_the_names_by_chance_is_refused():
    class Plain:
        layers, image_shape = ("first",), (6, 5, 3)
        cut_at, cuts_at = Residual.cut_at, Residual.cuts_at

    with pytest.raises(TypeError, match="Plain is no model that jaxcam can cut: give a flax.nnx.Module, "):
        jaxcam.cut(Plain(), "first")
