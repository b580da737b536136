"""The penalty on a map outside a mask, against the map itself and plain autodiff."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import losses
from tests.losses import toys

MASK = np.array([[True, True, False], [True, True, False], [False, False, False]])


@pytest.mark.parametrize("normalize", [pytest.param(None, marks=pytest.mark.long), "max"])
def test_the_penalty_and_its_gradient_are_those_of_plain_autodiff(x64, normalize):
    params, x = toys.parameters(2), toys.image(0)

    def plain(params):
        saliency = toys.plain_maps(params, x, 2)["grad_cam"]
        saliency = saliency / saliency.max() if normalize == "max" else saliency
        return sum(saliency[place] ** 2 for place in zip(*np.nonzero(~MASK), strict=True))

    def penalty(params):
        return losses.right_reasons(toys.cut_of(params), x, 2, MASK, normalize=normalize)

    value, gradient = jax.jit(jax.value_and_grad(penalty))(params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(params)
    assert expected > 1e-3
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), gradient, expected_gradient)


def test_a_mask_at_the_images_resolution_and_the_ends():
    student, x = toys.cut_of(toys.parameters(2, dtype="float32")), toys.image(0, dtype="float32")
    fine = np.kron(MASK, np.ones((2, 2), bool))
    saliency = np.asarray(jax.image.resize(jaxcam.grad_cam(student, x, 2), (6, 6), "linear"))
    np.testing.assert_allclose(losses.right_reasons(student, x, 2, fine), (saliency[~fine] ** 2).sum(), rtol=1e-5)
    assert losses.right_reasons(student, x, 2, np.ones([3, 3], bool)) == 0
    silent = dataclasses.replace(student, params=jax.tree.map(jnp.zeros_like, student.params))
    value, gradient = jax.value_and_grad(losses.right_reasons)(silent, x, 2, ~MASK, normalize="max")
    assert value == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("normalize", [None, "max"])
def test_half_precision_stays_finite(normalize):
    penalty = functools.partial(losses.right_reasons, normalize=normalize)
    for scale in (1.0, 1e3, 1e-12):
        params = toys.parameters(2, dtype="bfloat16")
        params["Z"] = (params["Z"].astype(jnp.float32) * scale).astype(jnp.bfloat16)
        value, gradient = jax.value_and_grad(penalty)(toys.cut_of(params), toys.image(0, dtype="bfloat16"), 2, MASK)
        assert jnp.isfinite(value) and all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient.params))


def test_refusals():
    student, x = toys.cut_of(toys.parameters(2, dtype="float32")), toys.image(0, dtype="float32")
    with pytest.raises(TypeError, match="expected a mask of bool, such as trimap == 1, got float32"):
        losses.right_reasons(student, x, 2, MASK.astype("float32"))
    with pytest.raises(ValueError, match=r"with the axes of the map, \(3, 3\), got shape \(1, 3, 3\)"):
        losses.right_reasons(student, x, 2, MASK[None])
    with pytest.raises(TypeError, match="expected a target, such as the example's class, got None"):
        losses.right_reasons(student, x, None, MASK)
