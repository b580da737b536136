"""The maps of many classes of one image: those of the method for each of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

RNG = np.random.default_rng(0)
PARAMS = [jnp.asarray(RNG.normal(size=size), jnp.float32) for size in [(3, 3, 3, 5), (20, 7), (7, 9), (5, 9)]]
IMAGE = jnp.asarray(RNG.uniform(size=(4, 4, 3)), jnp.float32)
KEY = jax.random.key(3)


def features(params, x):
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x[None], params[0], (1, 1), "SAME", dimension_numbers=dimensions)[0]
    return jax.nn.relu(y)


def pooled(A):
    return A.reshape(2, 2, 2, 2, 5).max((1, 3))


def dense(params, A, _):
    """Max pooling, flattening with the channels last, and two dense layers: as in VGG."""
    return jax.nn.gelu(pooled(A).ravel() @ params[1]) @ params[2]


def channels_first(params, A, _):
    return jax.nn.relu(pooled(A).transpose(2, 0, 1).reshape(1, -1) @ params[1])[0] @ params[2]


def linear(params, A, _):
    return A.mean((0, 1)) @ params[3]


def mixed(params, A, _):
    """The first step mixes channels, and what follows is a convolution and a norm."""
    y = jax.nn.silu(A @ params[3]) * A.mean()
    return (y / jnp.sqrt((y**2).mean((0, 1), keepdims=True) + 1)).max((0, 1))


HEADS = {head.__name__: head for head in (dense, channels_first, linear, mixed)}


@pytest.mark.parametrize("count", [9, 4])
@pytest.mark.parametrize("name", HEADS)
def test_more_classes_than_channels_and_fewer(name, count, x64):
    """Forward directions for nine classes of five channels, and backward passes for four."""
    params, image = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), (PARAMS, IMAGE))
    cut = jaxcam.Cut(params, features, HEADS[name], name)
    maps = jaxcam.explain_classes(jaxcam.grad_cam, cut, image, None if count == 9 else range(count))

    def map_of(target):
        A = features(params, image)
        weights = jax.grad(lambda A: HEADS[name](params, A, None)[target])(A).mean((0, 1), keepdims=True)
        return jnp.maximum((weights * A).sum(-1), 0)

    expected = jax.jit(jax.vmap(map_of))(jnp.arange(count))
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-10 * float(expected.max()))


def test_any_score_and_any_target():
    def contrast(outputs, pair):
        return jnp.tanh(outputs[pair[0]] - outputs[pair[1]])

    cut = jaxcam.Cut(PARAMS, features, dense, "dense")
    method = functools.partial(jaxcam.counterfactual_grad_cam, score=contrast, select=jaxcam.select(filters=[3, 0]))
    pairs = (np.array([3, 4, 8]), np.array([1, 0, 2]))
    maps = jaxcam.explain_classes(method, cut, IMAGE, pairs, batch_size=2)
    expected = jnp.stack([method(cut, IMAGE, pair) for pair in zip(*pairs, strict=True)])
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6 * float(expected.max()))


@pytest.mark.long
def test_under_jit_vmap_and_grad():
    def loss(cut, image, explain):
        return (explain(cut, image) ** 2).sum()

    def by_channels(cut, image):
        return jaxcam.explain_classes(jaxcam.grad_cam, cut, image, jnp.array([3, 20, 5]))[jnp.array([0, 2])]

    def by_vmap(cut, image):
        return jax.vmap(lambda target: jaxcam.grad_cam(cut, image, target))(jnp.array([3, 5]))

    cut, images = jaxcam.Cut(PARAMS, features, dense, "dense"), jnp.stack([IMAGE, IMAGE[::-1]])
    ours, expected = (
        jax.jit(jax.vmap(jax.value_and_grad(functools.partial(loss, explain=way)), in_axes=(None, 0)))(cut, images)
        for way in (by_channels, by_vmap)
    )
    for result, truth in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(result, truth, rtol=1e-4, atol=1e-5 * float(jnp.abs(truth).max()))


def test_out_of_range_is_nan_under_jit_and_refused_outside():
    cut = jaxcam.Cut(PARAMS, features, linear, "linear")
    maps = jax.jit(lambda targets: jaxcam.explain_classes(jaxcam.grad_cam, cut, IMAGE, targets))(jnp.array([3, 9]))
    assert np.isfinite(maps[0]).all() and np.isnan(maps[1]).all()
    with pytest.raises(ValueError, match="target 9 is out of range: the model has 9 classes"):
        jaxcam.explain_classes(jaxcam.grad_cam, cut, IMAGE, [3, 9])


@pytest.mark.parametrize("method", [jaxcam.grad_cam_pp, functools.partial(jaxcam.grad_cam, n_samples=2)])
def test_other_methods_are_those_of_each_class(method):
    cut = jaxcam.Cut(PARAMS, features, channels_first, "relu")
    keys = (KEY,) if isinstance(method, functools.partial) else ()
    maps = jaxcam.explain_classes(method, cut, IMAGE, range(3), *keys, batch_size=2)
    expected = jnp.stack([method(cut, IMAGE, target, *keys) for target in range(3)])
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-5 * float(expected.max()))


def test_a_method_that_masks_the_image_sees_its_own_features():
    cut = jaxcam.Cut(PARAMS, features, linear, "linear")
    maps = jaxcam.explain_classes(jaxcam.score_cam, cut, IMAGE, [1, 2])
    np.testing.assert_allclose(maps[1], jaxcam.score_cam(cut, IMAGE, 2), rtol=1e-5)


def test_the_rule_of_a_custom_vjp_counts():
    @jax.custom_vjp
    def doubled(x):
        return x

    doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))
    cut = jaxcam.Cut(PARAMS, features, lambda p, A, x: linear(p, doubled(A), x), "custom")
    maps = jaxcam.explain_classes(jaxcam.grad_cam, cut, IMAGE, range(6))
    np.testing.assert_allclose(maps[5], jaxcam.grad_cam(cut, IMAGE, 5), rtol=1e-5)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (3, r"expected targets with one leading axis, \[n ...\]"),
        ((np.arange(2), np.arange(3)), r"expected targets with one leading axis"),
        ([], "expected targets with one leading axis"),
    ],
)
def test_targets_that_are_not_many(targets, message):
    with pytest.raises(ValueError, match=message):
        jaxcam.explain_classes(jaxcam.grad_cam, jaxcam.Cut(PARAMS, features, linear), IMAGE, targets)


def test_all_classes_need_outputs_of_classes():
    cut = jaxcam.Cut(PARAMS, features, lambda p, A, x: {"a": linear(p, A, x)})
    with pytest.raises(ValueError, match=r"expected targets for outputs that are not \[classes\]"):
        jaxcam.explain_classes(jaxcam.grad_cam, cut, IMAGE)


def test_scores_of_probabilities_and_targets_by_name():
    """The softmax is taken off for the score, and the features that are known stay those of the image."""
    cut = jaxcam.Cut(PARAMS, features, lambda p, A, x: jax.nn.softmax(linear(p, A, x)), outputs="probabilities")
    for method in (jaxcam.grad_cam, jaxcam.layer_cam):
        explain = functools.partial(method, score=jaxcam.scores.log_softmax)
        maps = jaxcam.explain_classes(explain, cut, IMAGE, [1, 7])
        expected = explain(cut, IMAGE, 7)
        np.testing.assert_allclose(maps[1], expected, rtol=0, atol=1e-5 * float(expected.max()))
    named = functools.partial(jaxcam.grad_cam, score=lambda outputs, target: outputs[target["class"]])
    maps = jaxcam.explain_classes(named, cut, IMAGE, {"class": np.array([1, 7])})
    np.testing.assert_allclose(maps[1], jaxcam.grad_cam(cut, IMAGE, 7), rtol=0, atol=1e-6)
