"""The methods in the input's space, against loops in NumPy, and what they promise of bad input and of JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.oracles import pixels as oracle

PARAMS, IMAGE = oracle.network(np.random.default_rng(0))
KEY = jax.random.key(0)


def conv(p, x):
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[None], p["K"], (1, 1), "SAME", dimension_numbers=dims)[0] + p["b"][None, None]


def features(p, x):
    return jnp.maximum(conv(p, x), 0)


def head(p, A, x):
    return jax.nn.relu(A.reshape(-1) @ p["V"] + p["c"]) @ p["Z"]


CUT = jaxcam.Cut(PARAMS, features, head)
SMOOTH = jaxcam.Cut(PARAMS, conv, lambda p, A, x: jnp.tanh(jnp.tanh(A).reshape(-1) @ p["V"] + p["c"]) @ p["Z"])
COARSE = jaxcam.Cut(
    PARAMS, lambda p, x: features(p, x)[::2, ::2], lambda p, A, x: jax.nn.relu(A.mean((0, 1)) - 0.1) @ p["Z"][:3]
)
METHODS = {
    jaxcam.input_gradient: "plain",
    jaxcam.guided_backprop: "guided",
    jaxcam.deconvnet: "deconvnet",
}


def close(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape and found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_gradients(method):
    *_, logits = oracle.forward(PARAMS, IMAGE)
    ten = jax.vmap(functools.partial(method, CUT, IMAGE))(jnp.arange(4))
    for target in range(4):
        close(ten[target], oracle.gradient(PARAMS, IMAGE, target, METHODS[method]))
    close(method(CUT, IMAGE), np.asarray(ten[logits.argmax()], np.float64))


def test_saliency():
    close(jaxcam.saliency(CUT, IMAGE, 2), np.abs(oracle.gradient(PARAMS, IMAGE, 2)).max(-1))


def test_the_score_keeps_its_own_gradient():
    """A relu in the score is not the model's: its gradient is the plain one, -1 here."""
    score = lambda outputs, target: -jax.nn.relu(outputs[target] + 100)
    f = jaxcam.rules.guided(lambda x: CUT.head(PARAMS, CUT.features(PARAMS, x), x))
    wanted = jax.jit(jax.grad(lambda x: -f(x)[1]))(IMAGE)
    assert np.abs(wanted).max() > 0
    close(jaxcam.guided_backprop(CUT, IMAGE, 1, score=score), wanted)


def test_outputs_of_any_form():
    cut = jaxcam.Cut(PARAMS, features, lambda p, A, x: {"logits": head(p, A, x)[None], "class": head(p, A, x).argmax()})
    score = lambda outputs, target: outputs["logits"][0, target]
    close(jaxcam.guided_backprop(cut, IMAGE, 1, score=score), oracle.gradient(PARAMS, IMAGE, 1, "guided"))


@pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"batch_size": 100}], ids=str)
def test_integrated_gradients(options):
    baseline = np.random.default_rng(2).normal(size=IMAGE.shape).astype(np.float32)
    found = jaxcam.integrated_gradients(CUT, IMAGE, 1, baseline=baseline, steps=8, **options)
    close(found, oracle.integrated(PARAMS, IMAGE, baseline, 1, 8))


def test_integrated_gradients_are_complete():
    """Their sum is the difference of the scores; of the probabilities for the link exp."""
    outputs = jax.jit(lambda x: SMOOTH.head(PARAMS, SMOOTH.features(PARAMS, x), x))
    baseline = jnp.full(IMAGE.shape, 0.5)
    found = jaxcam.integrated_gradients(SMOOTH, IMAGE, 1, baseline=0.5)
    np.testing.assert_allclose(found.sum(), (outputs(IMAGE) - outputs(baseline))[1], rtol=1e-4)
    probability = jaxcam.integrated_gradients(
        SMOOTH, IMAGE, 1, score=jaxcam.scores.log_softmax, link="exp", batch_size=50
    )
    wanted = jax.nn.softmax(outputs(IMAGE)) - jax.nn.softmax(outputs(0 * IMAGE))
    np.testing.assert_allclose(probability.sum(), wanted[1], rtol=1e-4)


def test_a_baseline_is_traced():
    """So several are a vmap, and another one compiles nothing."""
    f = functools.partial(jaxcam.integrated_gradients, CUT, IMAGE, 1, steps=8)
    many = jax.vmap(lambda baseline: f(baseline=baseline))(jnp.array([0.0, 0.5]))
    close(many[1], oracle.integrated(PARAMS, IMAGE, np.full(IMAGE.shape, 0.5), 1, 8))
    channels = np.array([0.25, 0.5], np.float32)
    close(f(baseline=channels), oracle.integrated(PARAMS, IMAGE, np.broadcast_to(channels, IMAGE.shape), 1, 8))
    with pytest.raises(ValueError, match=r"expected a baseline that is one number, \(2,\) or \(5, 5, 2\), got shape"):
        f(baseline=jnp.zeros([5, 5]))
    with pytest.raises(ValueError, match="expected an integer of at least 1 for steps, got 0"):
        jaxcam.integrated_gradients(CUT, IMAGE, 1, steps=0)
    with pytest.raises(ValueError, match="link is 'log': choose one of identity, exp"):
        jaxcam.integrated_gradients(CUT, IMAGE, 1, link="log")


def test_memory_does_not_grow_with_the_steps():
    image = jnp.ones([64, 64, 2])

    def held(steps):
        f = jax.jit(functools.partial(jaxcam.integrated_gradients, steps=steps, batch_size=5))
        return f.lower(COARSE, image, 3).compile().memory_analysis().temp_size_in_bytes

    assert held(50) < 1.1 * held(10)


SMOOTHED = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2, key=KEY)


@pytest.mark.parametrize("method", [jaxcam.grad_cam, SMOOTHED], ids=["plain", "smoothed"])
def test_guided_grad_cam(method):
    found = jaxcam.guided_grad_cam(COARSE, IMAGE, 3, method=method)
    small = method(COARSE, IMAGE, 3)
    assert small.shape == (3, 3) and found.any()
    close(found, np.asarray(jaxcam.guided_backprop(COARSE, IMAGE, 3) * jaxcam.resize(small, (5, 5))[..., None]))


def test_guided_grad_cam_with_a_method_of_ones_own():
    """It gets the score and the key that it takes, and an equal partial is the same method: nothing is traced anew."""
    seen = []

    def method(cut, image, target, key=None, *, score=None, maps=1):
        seen.append((key is not None, score))
        return jnp.ones([maps, 1, 1])

    for _ in range(2):
        found = jaxcam.guided_grad_cam(CUT, IMAGE, 1, KEY, method=functools.partial(method, maps=2))
    close(found, np.stack([oracle.gradient(PARAMS, IMAGE, 1, "guided")] * 2))
    assert seen == [(True, jaxcam.scores.logit)]
    jaxcam.guided_grad_cam(CUT, IMAGE, 1, method=functools.partial(method, score=jaxcam.scores.log_softmax))
    jaxcam.guided_grad_cam(CUT, IMAGE, 1, method=lambda cut, image, target: jnp.ones([1, 1]))
    assert seen[1:] == [(False, jaxcam.scores.log_softmax)]
    # 1 is True for a dict, and not here.
    jaxcam.guided_grad_cam(CUT, IMAGE, 1, KEY, method=functools.partial(method, maps=True))
    assert len(seen) == 3


def test_a_target_out_of_range():
    with pytest.raises(ValueError, match="target 7 is out of range: the model has 4 classes"):
        jaxcam.guided_backprop(CUT, IMAGE, 7)
    for method in (jaxcam.guided_grad_cam, jaxcam.integrated_gradients):
        assert np.isnan(jax.jit(functools.partial(method, CUT, IMAGE))(7)).all()


def test_a_model_without_a_relu():
    smooth = jaxcam.Cut(PARAMS, lambda p, x: x, lambda p, A, x: jnp.tanh(A.mean((0, 1))))
    for method in (jaxcam.guided_backprop, jaxcam.deconvnet, jaxcam.guided_grad_cam):
        with pytest.raises(ValueError, match="model has no relu: .* would be its plain gradient"):
            method(smooth, IMAGE, 0)


def test_half_precision():
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), (CUT, IMAGE))
    found = jaxcam.integrated_gradients(*half, 1, steps=4)
    wanted = oracle.integrated(PARAMS, IMAGE, 0 * IMAGE, 1, 4)
    assert found.dtype == jnp.bfloat16
    assert np.abs(np.asarray(found, np.float64) - wanted).max() < 0.1 * np.abs(wanted).max()
