"""Channels that are not last: A and the image in other layouts, against the same network with channels last."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam
import jaxcam.plots
from jaxcam.cutting import _image_layout

CLASSES = 4
IMAGE = jax.random.uniform(jax.random.key(0), (10, 12, 3))
FIRST = jnp.moveaxis(IMAGE, -1, 0)


@pytest.fixture
def warnings(caplog):
    _image_layout.warn_once.cache_clear()
    caplog.set_level(logging.WARNING, "jaxcam")
    return caplog


class Last(nnx.Module):
    """Channels last throughout."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 6, (3, 3), strides=2, rngs=rngs)
        self.act = nnx.Sequential(nnx.gelu)
        self.head = nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.act(self.conv(x))).mean((1, 2)))


class Turned(nnx.Module):
    """Returns what it is given, channels first."""

    def __call__(self, x):
        return jnp.moveaxis(x, -1, 1)


class First(Last):
    """The same network on `[3 h w]`, with a layer whose value is channels-first."""

    def __init__(self):
        super().__init__()
        self.turned = Turned()

    def __call__(self, x):
        y = self.turned(self.act(self.conv(jnp.moveaxis(x, 1, -1))))
        return self.head(jnp.tanh(y).mean((2, 3)))


def pair():
    return (
        jaxcam.cut(Last(), "act", image_shape=IMAGE.shape),
        jaxcam.cut(First(), "turned", channel_axis=0, image_channel_axis=0, image_shape=FIRST.shape),
    )


def test_a_layer_and_an_image_with_channels_first():
    last, first = pair()
    assert first.image_channel_axis == 0 and last.image_channel_axis == -1
    A = first.features(first.params, FIRST)
    np.testing.assert_allclose(A, last.features(last.params, IMAGE), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.head(first.params, A, FIRST), Last()(IMAGE[None])[0], rtol=1e-5, atol=1e-6)
    for method in (jaxcam.grad_cam_pp, jaxcam.score_cam, jaxcam.saliency):
        np.testing.assert_allclose(method(first, FIRST, 1), method(last, IMAGE, 1), rtol=1e-4, atol=1e-6)
    for method in (jaxcam.input_gradient, jaxcam.integrated_gradients):
        result = method(first, FIRST, 1)
        assert result.shape == FIRST.shape
        np.testing.assert_allclose(jnp.moveaxis(result, 0, -1), method(last, IMAGE, 1), rtol=1e-4, atol=1e-6)
    baseline = jnp.array([0.1, 0.2, 0.3])
    result = jaxcam.integrated_gradients(first, FIRST, 1, baseline=baseline)
    expected = jaxcam.integrated_gradients(last, IMAGE, 1, baseline=baseline)
    np.testing.assert_allclose(jnp.moveaxis(result, 0, -1), expected, rtol=1e-4, atol=1e-6)
    # Against plain autodiff of the network.
    gradient = jax.grad(lambda x: First()(x[None])[0, 1])(FIRST)
    np.testing.assert_allclose(jaxcam.saliency(first, FIRST, 1), np.abs(gradient).max(0), rtol=1e-4, atol=1e-6)


def test_several_layers_have_one_channel_axis():
    class Two(First):
        def __call__(self, x):
            first = self.turned(self.conv(jnp.moveaxis(x, 1, -1)))
            return self.head(self.act(jnp.moveaxis(first, 1, -1)).mean((1, 2)))

    cuts = jaxcam.cut(Two(), ["turned"], channel_axis=0, image_channel_axis=0, image_shape=FIRST.shape)
    cut = jaxcam.cut(Two(), "turned", channel_axis=0, image_channel_axis=0)
    together = jaxcam.grad_cam_pp(cuts, FIRST, 2)
    np.testing.assert_allclose(together["turned"], jaxcam.grad_cam_pp(cut, FIRST, 2), rtol=1e-4, atol=1e-6)
    assert cuts.image_channel_axis == 0 and together["turned"].shape == (5, 6)


def test_metrics_mask_pixels_and_not_channels():
    last, first = pair()
    saliency = jax.random.uniform(jax.random.key(1), (10, 12))
    key, color = jax.random.key(2), jnp.array([0.2, 0.5, 0.7])
    for metric in (jaxcam.metrics.deletion, jaxcam.metrics.insertion, jaxcam.metrics.confidence_curve):
        np.testing.assert_allclose(metric(first, FIRST, saliency, 1), metric(last, IMAGE, saliency, 1), rtol=1e-4)
    for metric, options in ((jaxcam.metrics.deletion, {}), (jaxcam.metrics.masked_score, {})):
        result = metric(first, FIRST, saliency, 1, baseline=color, **options)
        np.testing.assert_allclose(result, metric(last, IMAGE, saliency, 1, baseline=color, **options), rtol=1e-4)
    road = [
        jaxcam.metrics.road(cut, image, saliency, 1, key, noise=0.0) for cut, image in ((first, FIRST), (last, IMAGE))
    ]
    np.testing.assert_allclose(*road, rtol=1e-4)


def test_evaluate_explain_batch_and_diagnose_agree():
    last, first = pair()
    examples = [jaxcam.Example(np.asarray(image), label=1, mask=np.eye(10, 12, dtype=bool)) for image in (FIRST, IMAGE)]
    metrics = ["drop", "deletion", "insertion", "energy"]
    rows = []
    for cut, example in zip((first, last), examples, strict=True):
        evaluation = jaxcam.evaluate(cut, [example], [jaxcam.grad_cam], metrics, target="label")
        rows.append({str(name): estimate.mean for name, estimate in evaluation.estimates()["grad_cam"].items()})
    assert rows[0].keys() == rows[1].keys()
    np.testing.assert_allclose(list(rows[0].values()), list(rows[1].values()), rtol=1e-3, atol=1e-5)
    maps = [
        jaxcam.explain_batch(jaxcam.grad_cam, cut, np.asarray(image)[None]).maps["0"]
        for cut, image in ((first, FIRST), (last, IMAGE))
    ]
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6)
    assert jaxcam.analysis.diagnose(first, FIRST).target == jaxcam.analysis.diagnose(last, IMAGE).target


def test_picture_files_are_read_in_the_layout_of_the_cut(tmp_path):
    from PIL import Image

    Image.fromarray(np.asarray(IMAGE * 255, np.uint8)).save(tmp_path / "a.png")
    last, first = pair()
    maps = [jaxcam.explain_batch(jaxcam.grad_cam, cut, [tmp_path / "a.png"]).maps["a"] for cut in (first, last)]
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6)
    example = jaxcam.Example(tmp_path / "a.png", boxes=np.array([[0, 0, 5, 6]]))
    loaded = jaxcam.datasets.load(example, (5, 6), channel_axis=0)
    np.testing.assert_array_equal(np.moveaxis(loaded.image, 0, -1), jaxcam.datasets.load(example, (5, 6)).image)
    again = jaxcam.datasets.load(loaded, (5, 6), channel_axis=0)
    np.testing.assert_array_equal(again.image, loaded.image)


def test_a_plot_turns_an_image_that_is_channels_first():
    drawn = [jaxcam.plots.compare([image], {"map": [jnp.ones((5, 6))]}).axes[0].images[0] for image in (FIRST, IMAGE)]
    np.testing.assert_array_equal(drawn[0].get_array(), drawn[1].get_array())


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Conv(6, (2, 2), strides=(2, 2), name="stem")(x)
        y = y.reshape(y.shape[0], -1, 6)
        tokens = nn.Dense(y.shape[1], name="token_mixing")(nn.gelu(jnp.swapaxes(nn.LayerNorm()(y), 1, 2)))
        return nn.Dense(CLASSES)(nn.Dense(6, name="mlp")(y + jnp.swapaxes(tokens, 1, 2)).mean(1))


def test_shapes_that_contradict_are_logged_with_the_option(warnings):
    x = jnp.ones((8, 8, 3))
    model = (Mixer(), Mixer().init(jax.random.key(0), x[None]))
    jaxcam.cut(model, "token_mixing", image_shape=x.shape)
    assert "channels of layer 'token_mixing' [6, 16] seem to be its axis 0: channel_axis=0" in warnings.text
    warnings.clear()
    jaxcam.cut(model, "token_mixing", image_shape=x.shape, channel_axis=0, grid=(4, 4))
    assert not warnings.records
    cut = jaxcam.cut(model, "token_mixing", image_shape=x.shape, channel_axis=0, grid=(4, 4))
    assert jaxcam.grad_cam(cut, x, 0).shape == (4, 4)
    jaxcam.cut(model, "mlp", image_shape=x.shape)
    assert "layer 'mlp' gives 16 tokens, which look like a square: grid=(4, 4)" in warnings.text
    warnings.clear()
    jaxcam.cut(First(), "conv", image_shape=FIRST.shape)
    assert (
        "the first convolution takes axis 0 of the image [3, 10, 12] as channels: image_channel_axis=0" in warnings.text
    )


class Gray(nnx.Module):
    def __init__(self):
        self.conv, self.head = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.Linear(4, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.head(nnx.relu(self.conv(x[..., None])).mean((1, 2)))


def test_an_image_without_a_channel_axis(warnings):
    image = jax.random.uniform(jax.random.key(0), (14, 16))
    cut = jaxcam.cut(Gray(), "conv", after=nnx.relu, image_shape=image.shape)
    assert "takes axis None of the image [14, 16] as channels: image_channel_axis=None" in warnings.text
    with pytest.raises(ValueError, match=r"expected an image \[\*spatial c\], got \[14, 16\] for 'conv'.*axis=None"):
        jaxcam.saliency(cut, image, 1)
    cut = jaxcam.cut(Gray(), "conv", after=nnx.relu, image_shape=image.shape, image_channel_axis=None)
    gradient = jax.grad(lambda x: Gray()(x[None])[0, 1])(image)
    np.testing.assert_allclose(jaxcam.saliency(cut, image, 1), np.abs(gradient), rtol=1e-4, atol=1e-7)
    saliency = jaxcam.grad_cam(cut, image, 1)
    guided = jaxcam.guided_backprop(cut, image, 1)
    np.testing.assert_allclose(jaxcam.guided_grad_cam(cut, image, 1), guided * saliency, rtol=1e-4, atol=1e-7)
    masked = jax.nn.softmax(Gray()((image * jaxcam.metrics.as_mask(saliency, image.shape))[None])[0])[1]
    np.testing.assert_allclose(jaxcam.metrics.masked_score(cut, image, saliency, 1), masked, rtol=1e-5)
    assert jaxcam.metrics.deletion(cut, image, saliency, 1, steps=2).shape == (3,)
    evaluation = jaxcam.evaluate(cut, [jaxcam.Example(np.asarray(image))], [jaxcam.grad_cam], ["drop", "insertion"])
    assert not evaluation.failed


def test_a_signal_keeps_its_channels():
    image = jnp.ones((20, 8))
    cut = jaxcam.Cut((), lambda p, x: jax.nn.relu(x), lambda p, A, x: A.mean(0))
    assert jaxcam.saliency(cut, image, 1).shape == (20,)


def test_a_channel_axis_that_is_none_is_refused():
    with pytest.raises(ValueError, match="channel_axis=3 is no axis of layer 'conv'"):
        jaxcam.cut(Last(), "conv", channel_axis=3, image_shape=IMAGE.shape)
    cut = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: A.mean((0, 1)), image_channel_axis=4)
    with pytest.raises(ValueError, match="expected a channel axis of an image with 3 axes, got 4"):
        jaxcam.saliency(cut, IMAGE, 1)
