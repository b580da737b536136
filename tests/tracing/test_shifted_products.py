"""Rewritten convolutions against XLA's own: values and three derivatives, and what a cut makes of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.tracing import flatten
from jaxcam.tracing._shifted_products import as_shifted_products, rewritten_convolution

LETTERS = "HWD"
# (spatial, kernel, strides, lhs_dilation, rhs_dilation, padding, channels in a group, groups, multiplier)
CASES = {
    "3 x 3": ((7, 6), (3, 3), (1, 1), (1, 1), (1, 1), "SAME", 1, 4, 1),
    "strided": ((8, 7), (3, 3), (2, 2), (1, 1), (1, 1), "SAME", 1, 3, 1),
    "5 x 3, strides differ": ((9, 8), (5, 3), (2, 1), (1, 1), (1, 1), "VALID", 1, 2, 1),
    "even kernel": ((6, 6), (2, 4), (1, 2), (1, 1), (1, 1), "SAME", 1, 2, 1),
    "dilated": ((9, 9), (3, 3), (1, 1), (1, 1), (2, 3), "SAME", 1, 2, 1),
    "transposed": ((4, 5), (3, 3), (1, 1), (2, 3), (1, 1), ((1, 2), (2, 1)), 1, 2, 1),
    "cropped": ((6, 6), (3, 3), (1, 1), (1, 1), (1, 1), ((-1, 1), (2, -2)), 1, 2, 1),
    "multiplier": ((5, 5), (3, 3), (1, 1), (1, 1), (1, 1), "SAME", 1, 3, 2),
    "grouped": ((5, 5), (3, 3), (2, 1), (1, 1), (1, 2), "SAME", 3, 2, 2),
    "one axis": ((9,), (5,), (2,), (1,), (1,), "SAME", 1, 3, 2),
    "three axes": ((4, 5, 3), (3, 2, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1), "SAME", 1, 2, 1),
    "three axes, grouped": ((4, 3, 3), (2, 2, 3), (1, 1, 1), (1, 2, 1), (1, 1, 1), "SAME", 2, 2, 1),
    "kernel larger than the image": ((2, 2), (3, 3), (1, 1), (1, 1), (1, 1), "VALID", 1, 2, 1),
}


def program_and_operands(case, dtype, numbers=None):
    spatial, kernel, strides, lhs, rhs, padding, channels, groups, multiplier = case
    rng = np.random.default_rng(0)
    axes = LETTERS[: len(spatial)]
    x = jnp.asarray(rng.normal(size=(2, *spatial, channels * groups)), dtype)
    w = jnp.asarray(rng.normal(size=(*kernel, channels, groups * multiplier)), dtype)
    if padding in ("SAME", "VALID"):
        padding = jax.lax.padtype_to_pads(
            spatial, [r * (k - 1) + 1 for r, k in zip(rhs, kernel, strict=True)], strides, padding
        )

    def f(x, w):
        return jax.lax.conv_general_dilated(
            x, w, strides, padding, lhs_dilation=lhs, rhs_dilation=rhs, feature_group_count=groups,
            dimension_numbers=numbers or (f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )  # fmt: skip

    return f, x, w


def params_of(f, x, w):
    (eqn,) = jax.make_jaxpr(f)(x, w).eqns
    return eqn.params


@pytest.mark.parametrize("name", CASES)
def test_values_and_three_derivatives(name, x64):
    f, x, w = program_and_operands(CASES[name], jnp.float64)
    params = params_of(f, x, w)
    v = jnp.asarray(np.random.default_rng(1).normal(size=x.shape))

    def orders(convolution):
        """The value, and the derivatives of a smooth function of it along v."""
        smooth = lambda t: jnp.tanh(convolution(x + t * v, w))
        derivatives = [smooth]
        for _ in range(3):
            derivatives.append(lambda t, f=derivatives[-1]: jax.jvp(f, (t,), (jnp.ones_like(t),))[1])
        gradient = jax.grad(lambda x, w: (convolution(x, w) ** 2).sum(), argnums=(0, 1))(x, w)
        return convolution(x, w), *(f(jnp.zeros(())) for f in derivatives), *gradient

    for ours, xla in zip(
        jax.jit(lambda: orders(lambda x, w: as_shifted_products(x, w, params)))(),
        jax.jit(lambda: orders(f))(),
        strict=True,
    ):
        assert ours.shape == xla.shape and ours.dtype == xla.dtype
        np.testing.assert_allclose(ours, xla, rtol=1e-12, atol=1e-12 * max(1, np.abs(xla).max(initial=0)))


@pytest.mark.parametrize("dtype, bound", [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_single_and_half_precision(dtype, bound):
    f, x, w = program_and_operands(CASES["3 x 3"], dtype)
    ours, xla = as_shifted_products(x, w, params_of(f, x, w)), f(x, w)
    assert ours.dtype == xla.dtype
    ours, xla = (np.asarray(y, np.float32) for y in (ours, xla))
    np.testing.assert_allclose(ours, xla, atol=bound * np.abs(xla).max())


def test_any_order_of_axes():
    for x_axes, w_axes, out_axes in itertools.product(("NCHW", "CHWN"), ("OIHW", "HWOI"), ("HNWC", "NCWH")):
        f, x, w = program_and_operands(CASES["3 x 3"], jnp.float32, (x_axes, w_axes, out_axes))
        x = x.transpose(*("NHWC".index(axis) for axis in x_axes))
        w = w.transpose(*("HWIO".index(axis) for axis in w_axes))
        np.testing.assert_allclose(as_shifted_products(x, w, params_of(f, x, w)), f(x, w), atol=1e-5)


def rewritten_names(f, *operands):
    """The primitives of a program after the rule has seen each step."""
    program = flatten(jax.make_jaxpr(f)(*operands), lambda *_: None)

    def run(*values):
        from jaxcam.tracing import evaluate

        made = evaluate(program.steps, program.given(values), rule=rewritten_convolution)
        return [made[v] for v in program.outputs]

    return {eqn.primitive.name for eqn in jax.make_jaxpr(run)(*operands).eqns}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends keep their convolutions")
def test_what_is_rewritten():
    f, x, w = program_and_operands(CASES["3 x 3"], jnp.float32)
    assert "conv_general_dilated" not in rewritten_names(f, x, w)
    assert "conv_general_dilated" not in rewritten_names(jax.jit(f), x, w)
    dense = lambda x: jax.lax.conv(x, jnp.ones([2, 7, 3, 3]), (1, 1), "SAME")
    assert "conv_general_dilated" in rewritten_names(dense, x)
    # The gradient in a kernel has a batch_group_count, and is left.
    kernel_gradient = jax.grad(lambda w: f(x, w).sum())
    assert "conv_general_dilated" in rewritten_names(kernel_gradient, w)


class Separable(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.depthwise = nnx.Conv(8, 16, (3, 3), strides=2, feature_group_count=8, rngs=rngs)
        self.dense = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        return self.dense(nnx.gelu(self.depthwise(nnx.gelu(self.stem(x)))).mean((1, 2)))


def test_a_cut_is_still_the_model_and_its_maps_are_those_of_plain_gradients():
    model, x = Separable(nnx.Rngs(0)), jnp.asarray(np.random.default_rng(0).random((9, 8, 3)), jnp.float32)
    cut = jaxcam.cut(model, "stem", image_shape=x.shape)
    cuts = jaxcam.cut(model, ["stem", "depthwise"], image_shape=x.shape)
    A = model.stem(x[None])[0]
    np.testing.assert_allclose(cut.features(cut.params, x), A, atol=1e-6)
    np.testing.assert_allclose(cut.head(cut.params, A, x), model(x[None])[0], atol=1e-6)
    if jax.default_backend() == "cpu":
        program = str(jax.make_jaxpr(lambda A: cut.head(cut.params, A, x))(A))
        assert "conv_general_dilated" not in program

    def rest(A):
        return model.dense(nnx.gelu(model.depthwise(nnx.gelu(A)[None])).mean((1, 2)))[0, 2]

    expected = np.maximum((np.asarray(A) * np.asarray(jax.grad(rest)(A)).mean((0, 1))).sum(-1), 0)
    np.testing.assert_allclose(jaxcam.grad_cam(cut, x, 2), expected, atol=1e-6)
    np.testing.assert_allclose(jaxcam.grad_cam(cuts, x, 2)["stem"], expected, atol=1e-6)
