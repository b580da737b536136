"""The order of modules, what a shuffle keeps, and rank correlation against its definition, written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import metrics

KEY = jax.random.key(2)


def average_rank(values, i):
    below = sum(1 for value in values if value < values[i])
    equal = sum(1 for value in values if value == values[i])
    return below + (equal + 1) / 2


def spearman(a, b):
    a, b = ([average_rank(list(x), i) for i in range(len(x))] for x in (a, b))
    a, b = np.array(a) - np.mean(a), np.array(b) - np.mean(b)
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


@pytest.mark.parametrize("levels", [3, 1000])
def test_rank_correlation(levels):
    rng = np.random.default_rng(levels)
    a, b = rng.integers(levels, size=(2, 5, 12)).astype(np.float32)
    correlation = jax.jit(metrics.rank_correlation)(a, a + b)
    assert float(correlation) == pytest.approx(spearman(a.ravel(), (a + b).ravel()), abs=1e-6)


@pytest.mark.parametrize("shape", [(60,), (3, 4, 5)], ids=str)
def test_rank_correlation_of_any_rank_and_under_vmap(shape):
    a, b = np.random.default_rng(0).integers(9, size=(2, 2, *shape)).astype(np.float32)
    expected = [spearman(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(jax.vmap(metrics.rank_correlation)(a, b), expected, atol=1e-6)


def test_rank_correlation_of_nan_is_nan():
    assert np.isnan(metrics.rank_correlation(jnp.array([1.0, jnp.nan, 3.0]), jnp.arange(3.0)))


def test_the_names_of_earlier_versions():
    assert metrics.model_randomisation is metrics.model_randomization and metrics.randomised is metrics.randomized


def test_rank_correlation_at_its_ends():
    a, constant = jnp.linspace(0, 1, 50176).reshape(224, 224), jnp.ones([224, 224])
    assert float(metrics.rank_correlation(a, jnp.exp(a))) == pytest.approx(1)
    assert float(metrics.rank_correlation(a, -a)) == pytest.approx(-1)
    assert metrics.rank_correlation(a, constant) == metrics.rank_correlation(constant, constant) == 0
    with pytest.raises(ValueError, match=r"expected two arrays of one shape, got \(224, 224\) and \(3,\)"):
        metrics.rank_correlation(a, jnp.ones(3))


class Branches(nnx.Module):
    """Its attributes stand in another order than its calls, and one is not called."""

    def __init__(self, rngs):
        self.a = nnx.Linear(6, 3, rngs=rngs)
        self.b = nnx.BatchNorm(6, rngs=rngs)
        self.unused = nnx.Linear(2, 2, rngs=rngs)
        self.c = nnx.Conv(2, 6, (3, 3), rngs=rngs)

    def __call__(self, x):
        return self.a(jax.nn.relu(self.b(self.c(x))).mean((1, 2)))


def test_the_order_of_modules():
    cut = jaxcam.cut(Branches(nnx.Rngs(0)), "c")
    assert metrics.layers_from_the_top(cut, jnp.ones([4, 4, 2])) == ("a", "b", "c")


def test_the_order_of_modules_of_vgg(cut, image):
    assert metrics.layers_from_the_top(cut, image) == (
        "predictions", "fc2", "fc1", "block3_conv2", "block3_conv1", "block2_conv2", "block2_conv1", "block1_conv2",
        "block1_conv1",
    )  # fmt: skip


def test_a_parameter_in_no_module_is_by_itself():
    params = {"V": jnp.ones([2, 3]), "W": jnp.ones([3, 2]), "steps": jnp.int32(4)}
    cut = jaxcam.Cut(params, lambda p, x: jax.nn.relu(x @ p["W"]), lambda p, A, x: A.mean((0, 1)) @ p["V"])
    assert metrics.layers_from_the_top(cut, jnp.ones([4, 4, 3])) == ("V", "W")


def test_randomized(cut):
    shuffled = metrics.randomized(cut, ["fc2", "block1_conv1"], KEY)
    changed = set()
    before, after = (jax.tree_util.tree_leaves_with_path(each.params) for each in (cut, shuffled))
    for (path, old), (_, new) in zip(before, after, strict=True):
        np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(new, axis=None))
        if not np.array_equal(old, new):
            changed.add(path[0].key)
    assert changed == {"fc2", "block1_conv1"}
    alone = metrics.randomized(cut, ["fc2"], KEY)
    np.testing.assert_array_equal(alone.params["fc2"]["kernel"][...], shuffled.params["fc2"]["kernel"][...])
    with pytest.raises(ValueError, match="expected modules with parameters, got 'fc9': choose from block1_conv1"):
        metrics.randomized(cut, ["fc9"], KEY)


def toy():
    rng = np.random.default_rng(0)
    params = {
        name: {"kernel": jnp.asarray(rng.normal(size=s), "float32")} for name, s in (("W", (3, 8)), ("V", (8, 4)))
    }
    features = lambda p, x: jax.nn.relu(x @ p["W"]["kernel"])
    cut = jaxcam.Cut(params, features, lambda p, A, x: A.mean((0, 1)) @ p["V"]["kernel"])
    return cut, jnp.asarray(rng.normal(size=(6, 6, 3)), "float32")


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_model_randomization(order):
    """Against shuffles that are made one by one, with the class of the model as it is."""
    cut, image = toy()
    seen = []

    def method(cut, image, target):
        seen.append((cut, target))
        return jaxcam.grad_cam(cut, image, target)

    similarities = metrics.model_randomization(method, cut, image, None, KEY, order=order)
    assert list(similarities) == ["V", "W"]
    assert [int(target) for _, target in seen] == [
        int(cut.head(cut.params, cut.features(cut.params, image), image).argmax())
    ] * 3
    whole, (top, _), (below, target) = seen[0][0], *seen[1:]
    same = [[np.array_equal(c.params[n]["kernel"], whole.params[n]["kernel"]) for n in "VW"] for c in (top, below)]
    assert same == [[False, True], [order == "independent", False]]
    expected = spearman(*(np.asarray(jaxcam.grad_cam(c, image, target)).ravel() for c in (whole, below)))
    assert float(similarities["W"]) == pytest.approx(expected, abs=1e-5)


def test_what_ignores_the_model_does_not_pass():
    cut, image = toy()
    edges = lambda cut, image, target: jnp.abs(jnp.diff(image.sum(-1)))
    similarities = metrics.model_randomization(edges, cut, image, 0, KEY)
    np.testing.assert_allclose(list(similarities.values()), 1, rtol=1e-6)


def test_the_methods_noise_is_the_same_for_all_maps():
    cut, image = toy()
    noise_alone = lambda cut, image, target, key: jax.random.normal(key, [6, 6])
    similarities = metrics.model_randomization(noise_alone, cut, image, 0, KEY)
    np.testing.assert_allclose(list(similarities.values()), 1, rtol=1e-6)
    smooth = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2, std=0.1)
    assert set(metrics.model_randomization(smooth, cut, image, 0, KEY)) == {"V", "W"}


def test_what_does_not_fit():
    cut, image = toy()
    with pytest.raises(ValueError, match="expected a key for the shuffles"):
        metrics.model_randomization(jaxcam.grad_cam, cut, image, 0)
    with pytest.raises(ValueError, match="expected order to be 'cascading' or 'independent', got 'down'"):
        metrics.model_randomization(jaxcam.grad_cam, cut, image, 0, KEY, order="down")
