"""Scores and their derivatives where the network is sure, beside the formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam


@pytest.mark.parametrize("margin", [-60.0, -30.0, -1.0, 0.0, 5.0, 15.0, 20.0, 40.0])
def test_the_derivatives_of_a_saturated_probability(margin):
    z = np.array([margin, 0.0, -1.0])
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    others = np.exp(z[1:] - z.max()).sum() / np.exp(z - z.max()).sum()  # 1 - p without its rounding
    outputs = jnp.asarray(z, jnp.float32)
    probability = lambda outputs: jaxcam.scores.probability(outputs, 0)
    np.testing.assert_allclose(probability(outputs), p[0], rtol=3e-5)
    gradient = [p[0] * others, -p[0] * p[1], -p[0] * p[2]]
    np.testing.assert_allclose(jax.grad(probability)(outputs), gradient, rtol=3e-5)
    along = jax.hessian(probability)(outputs)[0, 0]
    np.testing.assert_allclose(along, p[0] * others * (others - p[0]), rtol=1e-4, atol=1e-7 * p[0] * others)


def test_a_class_that_the_model_masks():
    outputs = jnp.array([-jnp.inf, 1.0, 2.0])
    probability = jaxcam.scores.probability
    np.testing.assert_allclose([probability(outputs, c) for c in range(3)], jax.nn.softmax(outputs), rtol=1e-6)
    for c in range(3):
        gradient = jax.grad(probability)(outputs, c)
        np.testing.assert_allclose(gradient, jax.grad(lambda z, c=c: jax.nn.softmax(z)[c])(outputs), atol=1e-6)


@pytest.mark.parametrize("ending", ["logits", "softmax", "one logit", "sigmoid"])
def test_a_map_of_a_saturated_probability(ending):
    rng = np.random.default_rng(0)
    A = rng.uniform(0, 1, (3, 2, 4)).astype(np.float32)
    classes = 1 if ending == "one logit" else 3
    weights = rng.normal(size=(4, classes)).astype(np.float32)
    weights[:, 0] = np.abs(weights).max(1) + 1
    weights = weights * np.float32(25 / (A.mean((0, 1)) @ weights[:, 0]))
    activation = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}.get(ending, lambda z: z)
    cut = jaxcam.Cut(weights, lambda p, x: x, lambda p, A, x: activation(A.mean((0, 1)) @ p))
    saliency = np.asarray(jaxcam.grad_cam(cut, A, 0, score=jaxcam.scores.probability))

    z = A.astype(np.float64).mean((0, 1)) @ weights.astype(np.float64)
    p = np.exp(z - z[0]) / np.exp(z - z[0]).sum()
    # The gradient of p along A is p sum_c p_c (W_0 - W_c); that of a sigmoid is s (1 - s) W_0.
    of_softmax = sum(p[c] * (weights[:, 0].astype(np.float64) - weights[:, c]) for c in range(1, classes))
    of_sigmoid = weights[:, 0].astype(np.float64) * np.exp(-z[0]) / (1 + np.exp(-z[0])) ** 2
    gradient = of_sigmoid if ending in ("one logit", "sigmoid") else p[0] * of_softmax
    expected = np.maximum(A @ gradient / 6, 0)
    assert expected.max() > 0
    np.testing.assert_allclose(saliency, expected, rtol=2e-5 * 25)
