"""Grad-CAM++ pushes only directions with a positive derivative: its maps are those of all directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.methods import _gradient_cam, gradient_cam

WEIGHTS = [jnp.asarray(np.random.default_rng(i).normal(size=size)) for i, size in enumerate([(3, 5), (80, 7), (7, 4)])]


def features(params, x):
    return jnp.tanh(x @ params[0])


def head(params, A, _):
    return jax.nn.silu(A.ravel() @ params[1]) @ params[2]


CUT = jaxcam.Cut(WEIGHTS, features, head)
IMAGES = jnp.asarray(np.random.default_rng(9).uniform(size=(2, 4, 4, 3)))


def of_all_directions(A, Y1, Y2, Y3, **options):
    """The weights of Grad-CAM++ as a rule of one's own, which has every direction."""
    return jaxcam.channel_weights.grad_cam_pp(A, Y1, Y2, Y3, **options)


def defined(A, Y1, Y2, Y3):
    return of_all_directions(A, Y1, Y2, Y3)


def bounded(A, Y1, Y2, Y3):
    return of_all_directions(A, Y1, Y2, Y3, alpha="bounded")


def maps_of_both_ways(options, weigh, n_samples):
    """Two methods, with the directions that count and with all."""
    key = jax.random.key(0) if n_samples else None

    def of_positive(cut, image):
        return jaxcam.smooth_grad_cam_pp(cut, image, 1, key, n_samples=n_samples, std=0.2, **options)

    def of_all(cut, image):
        return gradient_cam(cut, image, 1, key, weigh=weigh, order=3, link="exp", n_samples=n_samples, std=0.2)

    return [
        lambda cut, method=method: jax.vmap(lambda image: method(cut, image))(IMAGES)
        for method in (of_positive, of_all)
    ]


@pytest.fixture
def passes(monkeypatch):
    """One for each decision that D1 is worth a pass of its own; on a small network it is not."""
    made = []
    monkeypatch.setattr(_gradient_cam, "_flops_of_a_sample", lambda *_: made.append(None) or 0)
    return made


def test_with_noise_the_maps_are_those_of_all_directions(passes):
    ours, expected = jax.jit(lambda cut: [maps(cut) for maps in maps_of_both_ways({}, defined, 3)])(CUT)
    assert passes and expected.max() > 0
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * float(expected.max()))


@pytest.mark.long
def test_the_gradients_of_maps_are_those_of_all_directions(passes):
    def both(cut):
        return [
            jax.grad(lambda cut, maps=maps: (maps(cut) ** 2).sum())(cut)
            for maps in maps_of_both_ways({"alpha": "bounded"}, bounded, 3)
        ]

    ours, expected = jax.jit(both)(CUT)
    assert passes
    for result, truth in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert jnp.abs(truth).max() > 0
        np.testing.assert_allclose(result, truth, rtol=0, atol=1e-3 * float(jnp.abs(truth).max()))
