"""Alphas of Grad-CAM++: bounded ones, derivatives of any size, and the line on the logger about those out of range."""

import logging
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.oracles import cams as oracle

KEY = jax.random.key(7)


def gelu_cut(seed=0, dtype="float32", scale=1.0):
    """A small network whose activations have both signs, so that alphas leave their range."""
    rng = np.random.default_rng(seed)
    params = {"W": rng.normal(size=(3, 4)), "V": rng.normal(size=(4, 6)) / scale, "Z": rng.normal(size=(6, 5))}
    image = jnp.asarray(rng.normal(size=(4, 3, 3)), dtype)
    return jaxcam.Cut(
        {name: jnp.asarray(value, dtype) for name, value in params.items()},
        lambda p, x: scale * jax.nn.gelu(jnp.tensordot(x, p["W"], 1)),
        lambda p, A, x: jax.nn.gelu(A.mean((0, 1)) @ p["V"]) @ p["Z"],
        "gelu",
    ), image


def relu_cut(seed=0, dtype="float32"):
    params, x = oracle.network(np.random.default_rng(seed), (4, 3))
    return jaxcam.Cut(
        {name: jnp.asarray(value, dtype) for name, value in params.items()},
        lambda p, x: jax.nn.relu(jnp.tensordot(x, p["W"], 1)),
        lambda p, A, x: jax.nn.relu(A.ravel() @ p["V"] + p["b"]) @ p["Z"],
    ), jnp.asarray(x, dtype)


def derivatives_in_float64(cut, image, score, target):
    """A, and Y1, Y2, Y3 of e^u by nested jax.grad, in NumPy."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(np.asarray(p, np.float64)), cut)
        x = jnp.asarray(np.asarray(image, np.float64))
        A = wide.features(wide.params, x)

        def along(n):
            unit = jnp.zeros(A.size).at[n].set(1).reshape(A.shape)
            u = lambda t: score(wide.head(wide.params, A + t * unit, x), target)
            return [f(0.0) for f in (jax.grad(u), jax.grad(jax.grad(u)), jax.grad(jax.grad(jax.grad(u))))]

        u1, u2, u3 = (np.asarray(u, np.float64).reshape(A.shape) for u in jax.vmap(along)(jnp.arange(A.size)))
    return np.asarray(A), u1, u2 + u1**2, u3 + 3 * u1 * u2 + u1**3


def map_in_numpy(A, Y1, Y2, Y3, *, bounded=False, numerator="second"):
    saliency = np.zeros(A.shape[:-1])
    for k in range(A.shape[-1]):
        S, w = A[..., k].sum(), 0.0
        for place in np.ndindex(A.shape[:-1]):
            n = (*place, k)
            denominator = 2 * Y2[n] + S * Y3[n]
            above = Y2[n] if numerator == "second" else Y1[n]
            alpha = above / denominator if denominator != 0 else 0.0
            w += (min(max(alpha, 0.0), 0.5) if bounded else alpha) * max(Y1[n], 0.0)
        saliency += w * A[..., k]
    return np.maximum(saliency, 0)


def assert_same(saliency, expected, tolerance=2e-5):
    assert expected.max() > 0
    np.testing.assert_allclose(saliency, expected, rtol=0, atol=tolerance * expected.max())


# ---- Bounded.
@pytest.mark.parametrize("score", [jaxcam.scores.logit, jaxcam.scores.log_softmax])
@pytest.mark.parametrize("make", [gelu_cut, relu_cut])
def test_bounded_is_the_formula_with_clipped_alphas(make, score):
    cut, image = make()
    arrays = derivatives_in_float64(cut, image, score, 1)
    expected = map_in_numpy(*arrays, bounded=True)
    assert_same(jaxcam.grad_cam_pp(cut, image, 1, score=score, alpha="bounded"), expected)


def test_bounding_changes_the_map_of_a_smooth_network():
    cut, image = gelu_cut(1)
    maps = [jaxcam.normalize(jaxcam.grad_cam_pp(cut, image, 1, alpha=alpha)) for alpha in ("defined", "bounded")]
    assert jnp.abs(maps[0] - maps[1]).max() > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_with_the_logit_of_a_relu_network_the_two_are_one_map(seed):
    cut, image = relu_cut(seed)
    defined = jaxcam.grad_cam_pp(cut, image, 1)
    assert_same(jaxcam.grad_cam_pp(cut, image, 1, alpha="bounded"), np.asarray(defined), 1e-6)


def test_smooth_with_bounded_alphas_is_the_formula():
    cut, image = gelu_cut(3)
    with jax.enable_x64(True):
        score = jaxcam.scores.logit
        wide = jax.tree.map(lambda p: jnp.asarray(np.asarray(p, np.float64)), cut)
        x = jnp.asarray(np.asarray(image, np.float64))
        copies = [jaxcam.noise.noisy(x, KEY, m, std=0.1) for m in range(3)]
        u = np.array([float(wide.head(wide.params, wide.features(wide.params, c), c)[1]) for c in copies])
        samples = [derivatives_in_float64(wide, c, score, 1)[1:] for c in copies]
        D = [sum(np.exp(u[m] - u.max()) * samples[m][p] for m in range(3)) / 3 for p in range(3)]
        expected = map_in_numpy(np.asarray(wide.features(wide.params, x)), *D, bounded=True)
        saliency = jaxcam.smooth_grad_cam_pp(wide, x, 1, KEY, n_samples=3, std=0.1, alpha="bounded")
    assert_same(np.asarray(saliency), expected, 1e-9)


def test_what_does_not_go_together_is_refused():
    cut, image = relu_cut()
    with pytest.raises(ValueError, match="alpha='bounded' needs numerator='second'"):
        jaxcam.grad_cam_pp(cut, image, 1, alpha="bounded", numerator="first")
    with pytest.raises(ValueError, match="alpha is 'clipped': choose one of defined, bounded"):
        jaxcam.smooth_grad_cam_pp(cut, image, 1, KEY, alpha="clipped")
    with pytest.raises(ValueError, match="it goes with no option but score"):
        jaxcam.grad_cam_pp(cut, image, 1, compat="xplique", alpha="bounded")
    with pytest.raises(TypeError, match="grad_cam has no option 'alpha'"):
        jaxcam.grad_cam(cut, image, 1, alpha="bounded")


# ---- The line on the logger.
def test_the_first_call_logs_one_line(caplog):
    cut, image = gelu_cut()
    with caplog.at_level(logging.WARNING, "jaxcam"):
        jax.jit(lambda x: jaxcam.grad_cam_pp(cut, x, 1))(image)
        assert not caplog.records  # nothing is computed for it under the caller's jit
        for _ in range(2):
            jaxcam.grad_cam_pp(cut, image, 1)
    (record,) = caplog.records
    assert "grad_cam_pp at gelu: alpha is outside [0, 1/2]" in record.getMessage()
    assert "alpha='bounded'" in record.getMessage() and "\n" not in record.getMessage()


def test_no_line_where_alphas_are_in_their_range(caplog):
    cut, image = relu_cut()
    smooth, _ = gelu_cut(1)
    with caplog.at_level(logging.WARNING, "jaxcam"):
        jaxcam.grad_cam_pp(cut, image, 1)
        jaxcam.grad_cam_pp(smooth, image, 1, alpha="bounded")
        jaxcam.grad_cam_pp(smooth, image, 1, numerator="first")
        jaxcam.grad_cam(smooth, image, 1)
    assert not caplog.records


# ---- Derivatives of any size.
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e25])
@pytest.mark.parametrize("make", [gelu_cut, relu_cut])
@pytest.mark.parametrize("numerator", ["second", "first"])
def test_scores_of_any_size(make, size, numerator):
    cut, image = make()
    score = lambda outputs, target: size * outputs[target]
    expected = map_in_numpy(*derivatives_in_float64(cut, image, score, 1), numerator=numerator)
    assert_same(jaxcam.grad_cam_pp(cut, image, 1, score=score, numerator=numerator), expected)


@pytest.mark.parametrize("numerator", ["second", "first"])
@pytest.mark.parametrize("make", [gelu_cut, relu_cut])
def test_smoothing_scores_of_any_size(make, numerator):
    """Where Y1 is tiny all e^u are 1 and S Y3 is nothing beside Y2, so two tiny scores have proportional maps."""
    cut, image = make()
    # With D1 in the numerator and D2 = D1^2, the size cancels.
    power = 0 if make is relu_cut and numerator == "first" else 1

    def smooth(size, **options):
        score = lambda outputs, target: size * outputs[target]
        saliency = jaxcam.smooth_grad_cam_pp(
            cut, image, 1, KEY, n_samples=16, std=0.1, score=score, numerator=numerator, **options
        )
        return np.asarray(getattr(saliency, "map", saliency)) / size**power

    expected = smooth(1e-12)
    assert_same(smooth(1e-30), expected, 1e-4)
    assert_same(smooth(1e-30, standard_error=0.0), expected, 1e-4)
    if make is relu_cut:
        assert_same(smooth(1e-30, batch_size=1), expected, 1e-4)


def sigmoid_map(A, sums):
    """Smooth Grad-CAM++ of the sigmoid of 5 times the sum of A, whose sums over the copies are given; in float64."""
    z = 5 * np.asarray(sums, np.float64)
    p, q = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
    D1, D2, D3 = (np.mean(Y) for Y in (5 * p * q, 25 * p * q * (q - p), 125 * p * q * (1 - 6 * p * q)))
    S = A.sum((0, 1))
    return np.maximum((D2 / (2 * D2 + S * D3) * D1 * A.shape[0] * A.shape[1] * A).sum(-1), 0)


def test_samples_of_very_different_sizes():
    """The softmax is saturated at the clean image and at some of its noisy copies, and not at others."""
    image = jnp.linspace(0.5, 1.0, 24).reshape(3, 4, 2)
    cut = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: jnp.stack([A.sum() * 5, jnp.zeros(())]))
    options = dict(n_samples=6, std=3.0, relative=False, score=jaxcam.scores.log_softmax)
    A, positive = np.asarray(image, np.float64), 0
    for seed in range(6):
        key = jax.random.key(seed)
        copies = [np.asarray(jaxcam.noise.noisy(image, key, m, std=3.0, relative=False), np.float64) for m in range(6)]
        sums = [copy.sum() for copy in copies]
        expected = sigmoid_map(A, sums)
        saliency = np.asarray(jaxcam.smooth_grad_cam_pp(cut, image, 0, key, **options))
        positive += expected.max() > 0
        np.testing.assert_allclose(saliency, expected, rtol=2e-3, atol=1e-30)
    assert max(map(abs, sums)) > 20 and positive


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_activations_of_any_size(scale):
    """The unit of A is nobody's business: the map of A in another unit is the same."""
    cut, image = gelu_cut()
    other, _ = gelu_cut(scale=scale)
    expected = np.asarray(jaxcam.grad_cam_pp(cut, image, 1, alpha="bounded"))
    assert_same(jaxcam.grad_cam_pp(other, image, 1, alpha="bounded"), expected, 1e-4)


def test_half_precision_keeps_second_and_third_derivatives():
    """Along one of 4096 locations the pooled value moves by 1/4096, whose cube float16 cannot hold."""
    rng = np.random.default_rng(0)
    V = jnp.asarray(rng.normal(size=(3, 6)), jnp.float16)
    A = jnp.asarray(rng.normal(size=(64, 64, 3)), jnp.float16)
    f = lambda A: jax.nn.gelu(A.astype(jnp.float32).mean((0, 1)).astype(A.dtype) @ V).sum()
    half = jaxcam.derivatives.exact_scaled(f, A)
    with jax.enable_x64(True):
        pooled = jnp.asarray(np.asarray(A, np.float64)).mean((0, 1)) @ jnp.asarray(np.asarray(V, np.float64))
        g = jax.nn.gelu
        third = jax.vmap(jax.grad(jax.grad(jax.grad(g))))(pooled) @ (np.asarray(V, np.float64).T / 4096) ** 3
        second = jax.vmap(jax.grad(jax.grad(g)))(pooled) @ (np.asarray(V, np.float64).T / 4096) ** 2
    for scaled, expected in ((half.u2, second), (half.u3, third)):
        value = np.asarray(scaled.array[0, 0], np.float64) * 2.0 ** int(scaled.exponent)
        np.testing.assert_allclose(value, expected, rtol=0, atol=0.02 * np.abs(expected).max())


class SlottedHead(NamedTuple):
    """A head that has no weak references."""

    power: int

    def __call__(self, params, A, x):
        return (A**self.power).mean((0, 1)) @ params


def test_a_head_without_weak_references(caplog):
    params, image = np.ones((3, 2), np.float32), -np.arange(1.0, 13.0, dtype=np.float32).reshape(2, 2, 3) / 12
    explain = lambda head: jaxcam.grad_cam_pp(jaxcam.Cut(params, lambda p, x: x, head), image, 0)
    with caplog.at_level("WARNING", "jaxcam"):
        np.testing.assert_array_equal(explain(SlottedHead(3)), explain(lambda p, A, x: SlottedHead(3)(p, A, x)))
        explain(SlottedHead(3))
    assert len(caplog.records) == 2  # once for each head
