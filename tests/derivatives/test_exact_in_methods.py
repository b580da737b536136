"""Grad-CAM++ and Smooth Grad-CAM++ with exact derivatives, written out step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.derivatives import exact, through_link


def smooth_cut():
    model = jaxcam.vgg_digits(rngs=nnx.Rngs(3), activation=jax.nn.silu)
    return jaxcam.cut(model, "block3_conv2")


def test_exact_is_the_default_of_the_methods_and_differs_from_the_closed_form(image):
    cut = smooth_cut()
    ours = jaxcam.grad_cam_pp(cut, image, 3)
    closed = jaxcam.grad_cam_pp(cut, image, 3, derivatives="closed_form")
    assert jnp.abs(jaxcam.normalize(ours) - jaxcam.normalize(closed)).max() > 0.03
    A = cut.features(cut.params, image)
    u = jax.jit(lambda A: exact(lambda A: cut.head(cut.params, A, image)[3], A))(A)
    expected = jaxcam.maps.saliency(A, jaxcam.weights.grad_cam_pp(A, *through_link(u, link="exp")[1]))
    # alpha is ill-conditioned
    np.testing.assert_allclose(jaxcam.normalize(ours), jaxcam.normalize(expected), atol=0.01)


def test_on_a_relu_network_exact_and_closed_form_are_the_same(cut, image):
    for score in (jaxcam.scores.logit, jaxcam.scores.log_softmax):
        maps = [jaxcam.grad_cam_pp(cut, image, 3, score=score, derivatives=d) for d in ("exact", "closed_form")]
        np.testing.assert_array_equal(*maps)


def test_smooth_grad_cam_pp_on_a_smooth_head(image):
    """The means over noise of exact derivatives, written out as a loop."""
    cut, key = smooth_cut(), jax.random.key(1)
    ours = jaxcam.smooth_grad_cam_pp(cut, image, 3, key, n_samples=3, std=0.2)
    at = jax.jit(lambda x: exact(lambda A: cut.head(cut.params, A, x)[3], cut.features(cut.params, x)))
    scales, samples = zip(
        *(through_link(at(jaxcam.noise.noisy(image, key, m, std=0.2)), link="exp") for m in range(3)), strict=True
    )
    D = [sum(jnp.exp(s - scales[0]) * Y[p] for s, Y in zip(scales, samples, strict=True)) for p in range(3)]
    A = cut.features(cut.params, image)
    expected = jaxcam.maps.saliency(A, jaxcam.weights.grad_cam_pp(A, *D))
    np.testing.assert_allclose(jaxcam.normalize(ours), jaxcam.normalize(expected), atol=1e-4)


def test_identity_link_on_a_smooth_head_has_second_derivatives(image):
    assert jaxcam.grad_cam_pp(smooth_cut(), image, 3, link="identity").max() > 0
    with pytest.raises(ValueError, match="link='identity' with an affine score"):
        jaxcam.grad_cam_pp(smooth_cut(), image, 3, link="identity", derivatives="closed_form")
