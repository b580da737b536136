"""Convolutions put in order are the same convolutions, and all in order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcam.tracing import inner_jaxprs
from jaxcam.tracing._channels_last import convolves, in_order

CASES = {
    "plain": {"window_strides": (1, 1), "padding": "SAME"},
    "strided": {"window_strides": (2, 3), "padding": "VALID"},
    "dilated": {"window_strides": (1, 1), "padding": [(2, 1), (0, 1)], "rhs_dilation": (2, 1)},
    "grouped": {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
}


def specifications(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            yield eqn.params["dimension_numbers"]
        for inner in inner_jaxprs(eqn.params):
            yield from specifications(inner)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_in_both_operands(name):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 8, 4)), "float32")
    kernel = jnp.asarray(rng.normal(size=(3, 2, 4 // CASES[name].get("feature_group_count", 1), 6)), "float32")
    numbers = ("NHWC", "HWIO", "NHWC")
    conv = functools.partial(lax.conv_general_dilated, dimension_numbers=numbers, **CASES[name])
    gradient = jax.grad(lambda x, kernel: (jax.jit(conv)(x, kernel) ** 2).sum(), argnums=(0, 1))
    wanted, found = gradient(x, kernel), in_order(gradient)(x, kernel)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * float(jnp.abs(other).max()))
    before, after = (list(specifications(jax.make_jaxpr(f)(x, kernel).jaxpr)) for f in (gradient, in_order(gradient)))
    assert len(before) == len(after) == 3 and before != after
    assert set(after) == {lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))}


def test_other_orders_and_numbers_of_axes():
    x, kernel = jnp.arange(60.0).reshape(2, 3, 10), jnp.arange(24.0).reshape(4, 3, 2)
    f = lambda x: lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NCH", "OIH", "CNH"))
    np.testing.assert_allclose(in_order(f)(x), f(x), rtol=1e-6)
    assert convolves(jax.jit(f), x) and not convolves(jnp.sin, x)


@pytest.mark.long
def test_it_can_be_differentiated_and_batched(cut, image):
    f = lambda x: cut.features(cut.params, x).sum()
    gradient = in_order(jax.grad(f))
    images = jnp.stack([image, 1 - image])
    np.testing.assert_allclose(jax.vmap(gradient)(images)[1], jax.grad(f)(images[1]), rtol=1e-4, atol=1e-4)
    again = jax.grad(lambda x: (gradient(x) ** 2).sum())(image)
    np.testing.assert_allclose(again, jax.grad(lambda x: (jax.grad(f)(x) ** 2).sum())(image), rtol=1e-3, atol=1e-2)
