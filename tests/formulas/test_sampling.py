"""Weights of Grad-CAM++ from drawn locations: the draws, the estimate in NumPy loops, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.formulas import sampling

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 4)
Y1 = RNG.normal(size=SHAPE).astype(np.float32)
Y1[..., 2] = -np.abs(Y1[..., 2])  # no positive derivative
Y1[..., 3] = 0
Y1[1, 2, 3] = 0.3  # a single one
A = RNG.uniform(0.1, 1, SHAPE).astype(np.float32)
Y2, Y3 = (RNG.uniform(0.1, 1, SHAPE).astype(np.float32) for _ in range(2))
draw = jax.jit(jax.vmap(sampling.draw_locations, in_axes=(0, None, None)), static_argnums=2)
KEYS = jax.random.split(jax.random.key(5), 400)


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_locations_are_drawn_as_often_as_they_should(scale):
    counts = np.asarray(draw(KEYS, Y1 * np.float32(scale), 10))
    positive = np.maximum(Y1, 0)
    expected = 10 * positive / np.maximum(positive.sum((0, 1)), 1e-30)
    assert (counts[:, expected == 0] == 0).all()
    np.testing.assert_array_equal(counts.sum((1, 2)), np.broadcast_to([10, 10, 0, 10], (400, 4)))
    # The counts of a location are binomial.
    error = np.sqrt(expected * (1 - expected / 10) / len(KEYS))
    assert (np.abs(counts.mean(0) - expected) <= 4 * error + 1e-6).all()


def test_channels_are_drawn_independently():
    counts = np.asarray(draw(KEYS, np.ones(SHAPE, np.float32), 10)).reshape(400, -1, 4)
    correlations = np.corrcoef(counts[:, 0].T)
    assert np.abs(correlations - np.eye(4)).max() < 0.2


def estimate_in_loops(counts, *, numerator="second", bounded=False):
    """The mean of the terms over their probabilities, and the standard error of this mean, in float64."""
    means, errors = [], []
    for k in range(SHAPE[-1]):
        S, total = (np.float64(x[..., k]).sum() for x in (A, np.maximum(Y1, 0)))
        values = []
        for place in np.ndindex(SHAPE[:-1]):
            n = (*place, k)
            y1, y2, y3 = (np.float64(y[n]) for y in (Y1, Y2, Y3))
            alpha = (y2 if numerator == "second" else y1) / (2 * y2 + S * y3)
            alpha = min(max(alpha, 0), 0.5) if bounded else alpha
            values += [alpha * max(y1, 0) / (max(y1, 0) / total)] * int(counts[n]) if counts[n] else []
        means.append(np.mean(values) if values else 0)
        errors.append(np.std(values, ddof=1) / np.sqrt(len(values)) if values else 0)
    return np.array(means), np.array(errors)


@pytest.mark.parametrize(("numerator", "alpha"), [("second", "defined"), ("first", "defined"), ("second", "bounded")])
def test_the_estimate_is_the_mean_of_the_draws(numerator, alpha):
    counts = np.asarray(draw(KEYS[:1], Y1, 6))[0]
    expected = estimate_in_loops(counts, numerator=numerator, bounded=alpha == "bounded")
    # Second and third derivatives elsewhere are not read.
    only_drawn = [np.where(counts > 0, y, 0) for y in (Y2, Y3)]
    ours = sampling.sampled_grad_cam_pp(A, jnp.asarray(Y1), *only_drawn, counts, numerator=numerator, alpha=alpha)
    for values, truth in zip(ours, expected, strict=True):
        assert truth[0] > 0 and values[2] == 0
        np.testing.assert_allclose(values, truth, rtol=1e-5, atol=1e-7)


def test_derivatives_far_from_one():
    """Y1 of 1e-24, whose square and cube come times powers of two."""
    counts = draw(KEYS[:1], Y1, 6)[0]
    plain = sampling.sampled_grad_cam_pp(A, jnp.asarray(Y1), Y2, Y3, counts)
    tiny = sampling.sampled_grad_cam_pp(
        A, jnp.asarray(Y1 * np.float32(2.0**-80)), Y2, Y3, counts, exponents=(-160, -160)
    )
    for values, truth in zip(tiny, plain, strict=True):
        np.testing.assert_allclose(values * 2.0**80, truth, rtol=1e-5, atol=0)
    missing = sampling.sampled_grad_cam_pp(A, jnp.asarray(Y1).at[0, 0, 1].set(jnp.nan), Y2, Y3, counts)
    assert np.isnan(missing.weights[1]) and np.isfinite(missing.weights[0])


def test_the_gradient_is_unbiased():
    def derivatives(theta):
        y1 = jnp.sin(theta * jnp.arange(48.0).reshape(SHAPE)) + 0.2
        return y1, y1**2 + theta, y1**3

    @jax.jit
    def gradients(theta):
        truth = jax.grad(lambda t: jaxcam.weights.grad_cam_pp(A, *derivatives(t)).sum())(theta)

        def estimate(theta, key):
            counts = sampling.draw_locations(key, derivatives(theta)[0], 5)
            return sampling.sampled_grad_cam_pp(A, *derivatives(theta), counts).weights.sum()

        return truth, jax.vmap(jax.grad(estimate), in_axes=(None, 0))(theta, KEYS)

    truth, estimates = gradients(jnp.float32(0.7))
    error = float(estimates.std() / len(KEYS) ** 0.5)
    assert abs(float(estimates.mean() - truth)) < 3 * error < 0.5 * abs(float(truth))
