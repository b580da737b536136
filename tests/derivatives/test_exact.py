"""Exact derivatives against brute force, brute force against whole tensors and finite differences."""

import functools
import itertools
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.derivatives import _exact, _taylor
from jaxcam.derivatives import _plan as plans
from jaxcam.derivatives import certificate as linearity
from jaxcam.derivatives._exact import brute_force, exact
from jaxcam.derivatives._link import through_link
from jaxcam.tracing import evaluate

RELATIVE = 1e-9


def normal(seed, *shape):
    """Weights in the type that is the default at the time of the call, the same in both up to rounding."""
    return jnp.asarray(0.5 * np.random.default_rng(seed).normal(size=shape), jnp.result_type(float))


def pool(A):
    return nnx.max_pool(A[None], (2, 2), (2, 2))[0]


def conv(A, kernel):
    spatial = "HWD"[: A.ndim - 1]
    numbers = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return jax.lax.conv_general_dilated(A[None], kernel, (1,) * len(spatial), "SAME", dimension_numbers=numbers)[0]


def layer_norm(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-3)


def group_norm(A):
    groups = A.reshape(*A.shape[:-1], 2, -1)
    axes = (*range(A.ndim - 1), A.ndim)
    mean, variance = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
    return ((groups - mean) * jax.lax.rsqrt(variance + 1e-3)).reshape(A.shape)


def batch_norm(A):
    mean, variance, scale = normal(30, 4), jnp.exp(normal(31, 4)), normal(32, 4)
    mean, variance, scale = (each.reshape(1, 1, 4) for each in (mean, variance, scale))
    return (A - mean) * jax.lax.rsqrt(variance) * scale


def squeeze_and_excite(A):
    gate = jax.nn.sigmoid(jax.nn.silu(A.mean((0, 1)) @ normal(5, 4, 3)) @ normal(6, 3, 4))
    return jax.nn.silu((A * gate[None, None]) @ normal(7, 4, 6)).mean((0, 1)) @ normal(8, 6, 3)


def attention(A):
    x = A.reshape(-1, 4)
    q, k, v = (x @ normal(seed, 4, 4) for seed in (9, 10, 11))
    return (x + jax.nn.softmax(q @ k.T / 2) @ v).mean(0) @ normal(12, 4, 3)


def softmax(outputs):
    return jax.nn.log_softmax(outputs)[1]


IMAGE, TOKENS, VIDEO = (4, 4, 4), (6, 4), (2, 4, 2, 4)
HEADS = {
    "dense, gelu": (
        IMAGE,
        lambda A: (jax.nn.gelu(jax.nn.gelu(pool(A).ravel() @ normal(1, 16, 7)) @ normal(2, 7, 5)))[0],
    ),
    "dense, tanh, softmax": (IMAGE, lambda A: softmax(jnp.tanh(A.ravel() @ normal(1, 64, 7)) @ normal(2, 7, 5))),
    "conv, silu": (IMAGE, lambda A: (jax.nn.silu(conv(A, normal(3, 3, 3, 4, 5))).mean((0, 1)) @ normal(4, 5, 3))[2]),
    "softplus, conv, elu, max pool": (
        IMAGE,
        lambda A: pool(jax.nn.elu(conv(jax.nn.softplus(A), normal(3, 3, 3, 4, 2)))).ravel() @ normal(4, 8),
    ),
    "layer norm, pool": (IMAGE, lambda A: layer_norm(A).mean((0, 1)) @ normal(4, 4)),
    "pool, layer norm, softmax": (IMAGE, lambda A: softmax(layer_norm(A.mean((0, 1))) @ normal(4, 4, 3))),
    "group norm": (IMAGE, lambda A: jax.nn.relu(group_norm(A)).mean((0, 1)) @ normal(4, 4)),
    "batch norm, silu": (IMAGE, lambda A: jax.nn.silu(batch_norm(A)).mean((0, 1)) @ normal(4, 4)),
    "squeeze and excite": (IMAGE, lambda A: squeeze_and_excite(A)[1]),
    "squeeze and excite, softmax": (IMAGE, lambda A: softmax(squeeze_and_excite(A))),
    "attention": (IMAGE, lambda A: attention(A)[0]),
    "attention on tokens, softmax": (TOKENS, lambda A: softmax(attention(A))),
    "skip": (IMAGE, lambda A: (A + jax.nn.gelu(conv(A, normal(3, 3, 3, 4, 4)))).mean((0, 1)) @ normal(4, 4)),
    "relu conv, softmax": (
        IMAGE,
        lambda A: softmax(jax.nn.relu(conv(A, normal(3, 3, 3, 4, 5))).mean((0, 1)) @ normal(4, 5, 3)),
    ),
    "relu, softmax": (
        IMAGE,
        lambda A: softmax(jax.nn.relu(pool(jax.nn.relu(A)).ravel() @ normal(1, 16, 7)) @ normal(2, 7, 5)),
    ),
    "overlapping max pool": (
        IMAGE,
        lambda A: jax.nn.gelu(nnx.max_pool(A[None], (3, 3), (1, 1)).ravel() @ normal(1, 16, 7)) @ normal(2, 7),
    ),
    "average pool, tanh": (
        IMAGE,
        lambda A: (
            jnp.tanh(jax.lax.reduce_window(A, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4).ravel()
            @ normal(1, 16)
        ),
    ),
    "a sum of logits over a mask": (
        IMAGE,
        lambda A: jnp.where(A[..., 0] > 0, (jax.nn.gelu(A @ normal(1, 4, 5)) @ normal(2, 5, 3))[..., 1], 0).sum(),
    ),
    "tokens, mlp mixer": (
        TOKENS,
        lambda A: (A + jax.nn.gelu(layer_norm(A).T @ normal(1, 6, 6)).T).mean(0) @ normal(4, 4),
    ),
    "video, silu": (
        VIDEO,
        lambda A: softmax(jax.nn.silu(conv(A, normal(3, 2, 2, 2, 4, 3))).mean((0, 1, 2)) @ normal(4, 3, 3)),
    ),
    "products and quotients": (
        TOKENS,
        lambda A: (
            jnp.prod(A[0]) + jnp.linalg.norm(A) + (A * A / (1 + jnp.exp(A.mean()))).sum() + (1 / (A[1] + 9)).sum()
        ),
    ),
    "two-argument functions": (
        TOKENS,
        lambda A: (
            jnp.logaddexp(A, A.mean(0, keepdims=True)) + jnp.arctan2(A, 2 + A[:1]) + jnp.exp(A) ** jnp.sin(A[1:2])
        ).sum(),
    ),
    "a recurrent net": (TOKENS, lambda A: jax.lax.scan(lambda c, x: (jnp.tanh(c + x), None), A[0], A)[0].sum()),
    "a while loop": (
        TOKENS,
        lambda A: jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, A))[1].sum(),
    ),
}


def assert_close(found, wanted, relative=RELATIVE):
    for name, value, truth in zip(("u", "u1", "u2", "u3"), found, wanted, strict=True):
        value, truth = np.asarray(value, np.float64), np.asarray(truth)
        atol = relative * np.abs(truth).max() + 1e-30
        np.testing.assert_allclose(value, truth, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", HEADS)
def test_exact_is_brute_force(name, x64):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    both = jax.jit(lambda A: (exact(f, A), brute_force(f, A)))
    found, wanted = both(A)
    assert jnp.abs(wanted.u2).max() > 1e-6 and jnp.abs(wanted.u3).max() > 1e-6
    assert_close(found, wanted)
    for link in ("identity", "exp"):
        for value, truth in zip(through_link(found, link=link)[1], through_link(wanted, link=link)[1], strict=True):
            np.testing.assert_allclose(value, truth, rtol=0, atol=RELATIVE * float(jnp.abs(truth).max()))


def test_the_derivatives_of_the_exponential_itself(x64):
    """through_link's Y2 and Y3 are those of e^u, differentiated by brute force."""
    shape, f = HEADS["squeeze and excite"]
    A = normal(0, *shape)
    scale, Y = through_link(exact(f, A), link="exp")
    for value, truth in zip(Y, jax.jit(lambda A: brute_force(lambda A: jnp.exp(f(A)), A))(A)[1:], strict=True):
        np.testing.assert_allclose(jnp.exp(scale) * value, truth, rtol=0, atol=RELATIVE * float(jnp.abs(truth).max()))


@pytest.mark.parametrize("name", ["tokens, mlp mixer", "products and quotients", "attention on tokens, softmax"])
def test_brute_force_is_the_diagonal_of_whole_tensors(name, x64):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    flat, n = lambda a: f(a.reshape(shape)), jnp.arange(A.size)
    found = jax.jit(lambda A: brute_force(f, A))(A)
    hessian = jax.jit(jax.hessian(flat))(A.ravel())
    tensor = jax.jit(jax.jacfwd(jax.jacfwd(jax.jacfwd(flat))))(A.ravel())
    np.testing.assert_allclose(found.u1.ravel(), jax.grad(flat)(A.ravel()), rtol=1e-12)
    np.testing.assert_allclose(found.u2.ravel(), hessian[n, n], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.u3.ravel(), tensor[n, n, n], rtol=1e-10, atol=1e-14)


def test_brute_force_is_the_limit_of_finite_differences(x64):
    shape, f = HEADS["tokens, mlp mixer"]
    A = normal(0, *shape)
    found, f, h = jax.jit(lambda A: brute_force(f, A))(A), jax.jit(f), 3e-4
    for index in itertools.product(range(shape[0]), (0, 3)):
        y = {k: float(f(A.at[index].add(k * h))) for k in (-2, -1, 0, 1, 2)}
        np.testing.assert_allclose(found.u1[index], (y[1] - y[-1]) / (2 * h), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.u2[index], (y[1] - 2 * y[0] + y[-1]) / h**2, rtol=1e-4, atol=1e-6)
        third = (y[2] - 2 * y[1] + 2 * y[-1] - y[-2]) / (2 * h**3)
        np.testing.assert_allclose(found.u3[index], third, rtol=1e-3, atol=1e-5)


def plan_of(f, A, batch_size=None):
    return plans.plan(linearity.trace(f, A), batch_size)


@pytest.mark.parametrize(
    ("name", "directions", "apart", "by_rows"),
    [
        ("dense, gelu", 16, 0, False),  # one in four locations passes max pooling
        ("pool, layer norm, softmax", 4, 0, False),  # all locations of a channel are one direction
        ("layer norm, pool", 4, 2, False),  # locations do not meet before the pooling
        ("batch norm, silu", 1, 3, False),  # no two elements meet
        ("relu conv, softmax", 64, 0, True),  # 3 logits, 64 directions
        ("attention", 64, 0, False),  # everything meets everything
    ],
)
def test_the_plan_leaves_out_what_changes_nothing(name, directions, apart, by_rows):
    shape, f = HEADS[name]
    plan = plan_of(f, normal(0, *shape))
    assert (plan.directions, len(plan.apart), bool(plan.columns)) == (directions, apart, by_rows)


def test_a_certified_head_costs_one_gradient():
    f = lambda A: jax.nn.relu(A.ravel() @ normal(1, 64, 7)).sum()
    A = normal(0, *IMAGE)
    ours, gradient = (
        jax.jit(g).lower(A).compile().cost_analysis()["flops"] for g in (lambda A: exact(f, A), jax.value_and_grad(f))
    )
    assert ours <= 1.01 * gradient
    u, u1, u2, u3 = exact(f, A)
    np.testing.assert_array_equal(u1, jax.grad(f)(A))
    assert not u2.any() and not u3.any()


KINKS = {
    "relu at 0": lambda A: (jax.nn.relu(A) * jax.nn.gelu(A)).sum(),
    "maximum at 0": lambda A: (jnp.maximum(A, 0) * jnp.exp(A)).sum(),
    "relu, dense, softplus": lambda A: jax.nn.softplus(jax.nn.relu(A).ravel() @ normal(1, 64, 5)).sum(),
    "abs at 0": lambda A: jnp.tanh(jnp.abs(A) @ normal(1, 4, 3)).sum(),
    "ties in max pooling": lambda A: jnp.tanh(pool(A).ravel() @ normal(1, 16, 5)).sum(),
    "ties in overlapping max pooling": lambda A: jnp.tanh(nnx.max_pool(A[None], (3, 3), (1, 1))).sum(),
    "ties in a global maximum": lambda A: jnp.exp(A.max((0, 1))).sum(),
    "saturated relu6": lambda A: jax.nn.silu(jax.nn.relu6(A).ravel() @ normal(1, 64, 5)).sum(),
    "ties of a sort": lambda A: (jnp.sort(A.ravel()) ** 3 * jnp.arange(64.0, dtype=A.dtype)).sum(),
    "a kink after a curve": lambda A: jax.nn.relu(jnp.sin(A) @ normal(1, 4, 3)).sum(),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_those_of_brute_force(name, x64):
    f = KINKS[name]
    A = jnp.round(2 * normal(0, *IMAGE))
    both = jax.jit(lambda A: (exact(f, A), brute_force(f, A)))
    for point in (A, jnp.zeros_like(A), 6 * jnp.ones_like(A), A.at[0].set(6).at[1].set(9)):
        found, wanted = both(point)
        assert_close(found, wanted)


@pytest.mark.long
def test_any_batch_size_gives_the_same(x64):
    shape, f = HEADS["overlapping max pool"]
    A = jax.nn.relu(normal(0, *shape))
    wanted = exact(f, A)
    for batch_size in (1, 5, 64, 1000):
        assert_close(exact(f, A, batch_size=batch_size), wanted, 1e-13)
        assert_close(brute_force(f, A, batch_size=batch_size), wanted, 1e-12)


@pytest.mark.long
def test_under_jit_vmap_and_grad(x64):
    shape, f = HEADS["dense, gelu"]
    A = jnp.stack([normal(seed, *shape) for seed in range(3)])
    weights = normal(1, 16, 7)

    def derivatives_of(weights, A):
        return exact(lambda A: jax.nn.gelu(pool(jax.nn.relu(A)).ravel() @ weights).sum(), A)

    def slow(weights, A):
        return brute_force(lambda A: jax.nn.gelu(pool(jax.nn.relu(A)).ravel() @ weights).sum(), A)

    alone = [derivatives_of(weights, each) for each in A]
    together = jax.jit(jax.vmap(derivatives_of, in_axes=(None, 0)))(weights, A)
    for i, wanted in enumerate(alone):
        assert_close([each[i] for each in together], wanted, 1e-12)
    loss = lambda which, weights, A: sum((each**2).sum() for each in which(weights, A)[1:])
    for argnums in (0, 1):
        found = jax.jit(jax.grad(functools.partial(loss, derivatives_of), argnums=argnums))(weights, A[0])
        wanted = jax.jit(jax.grad(functools.partial(loss, slow), argnums=argnums))(weights, A[0])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * float(jnp.abs(wanted).max()))


@pytest.mark.parametrize("name", ["dense, gelu", "squeeze and excite", "layer norm, pool", "relu, softmax"])
def test_in_float32(name):
    shape, f = HEADS[name]
    A = normal(0, *shape)
    found = jax.jit(lambda A: exact(f, A))(A)
    chex.assert_type(found, jnp.float32)
    with jax.enable_x64(True):
        wanted = jax.jit(lambda A: brute_force(f, A))(jnp.asarray(np.asarray(A), jnp.float64))
    assert_close(found, wanted, 2e-5)


def test_a_half_precision_head_is_of_its_own_type():
    f = lambda A: jax.nn.gelu(A.mean((0, 1)) @ normal(1, 4, 5).astype(A.dtype)).sum()
    A = normal(0, *IMAGE).astype(jnp.bfloat16)
    found, wanted = exact(f, A), exact(f, A.astype(jnp.float32))
    chex.assert_type(found, jnp.bfloat16)
    for value, truth in zip(found[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(value.astype(jnp.float32), truth, rtol=0, atol=0.1 * float(jnp.abs(truth).max()))


@jax.custom_jvp
def centred(x):
    """An elementwise function with a rule that is not."""
    return jnp.exp(x)


centred.defjvp(lambda primals, tangents: (centred(*primals), jnp.exp(primals[0]) * (tangents[0] - tangents[0].mean())))


def norm_and_mask(A):
    h = A / jnp.linalg.norm(A)
    return (jnp.where((h > 0).any(), h, 2 * h) ** 3).sum()


def top_one(A):
    z = jax.nn.silu(A @ normal(1, 4, 3))
    return (z * jax.nn.one_hot(z.argmax(-1), 3, dtype=A.dtype)).sum()


def dilated(A):
    window = ((2, 1), (1, 1), "VALID", None, (2, 1))
    return jnp.tanh(jax.lax.reduce_window(A, -jnp.inf, jax.lax.max, *window)).sum()


def shifted_windows(A):
    windows = jax.lax.reduce_window(A, 0.0, jax.lax.add, (2, 1), (2, 1), ((-1, 1), (0, 0)))
    return jnp.tanh(windows).sum()


UNUSUAL = {
    "complex magnitudes": lambda A: (jnp.abs(jnp.fft.fft(A, axis=0)) ** 2).sum() + jnp.abs(jnp.fft.fft(A) + 0.1j).sum(),
    "complex to real": lambda A: jnp.tanh((jnp.fft.fft(A, axis=0) * (1 + 2j)).real).sum(),
    "an argmax of a smooth value": top_one,
    "a mask and a norm": norm_and_mask,
    "a median": lambda A: jnp.median(jax.nn.silu(A @ normal(1, 4, 3))),
    "a smooth branch": lambda A: jax.lax.cond(
        jnp.tanh(A).sum() > 0, lambda A: jnp.sin(A).sum(), lambda A: jnp.cos(A).sum(), A
    ),
    "top k of a smooth value": lambda A: (jax.lax.top_k(jnp.tanh(A), 2)[0] ** 2).sum(),
    "an empty part": lambda A: jnp.tanh(A).sum() + jnp.sin(A[:0] * 2).sum(),
    "a dilated maximum": dilated,
    "windows with negative padding": shifted_windows,
    "a skip and a small frontier": lambda A: jax.nn.silu(jax.nn.relu(A @ normal(1, 4, 2)).sum(0)).sum() + A.mean(),
    "A ignored": lambda A: jnp.tanh(jnp.ones((), A.dtype)),
    "an inner gradient": lambda A: (jax.grad(lambda A: jnp.sin(A).sum() ** 2)(A) ** 2).sum(),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_heads(name, x64):
    A = normal(0, *TOKENS)
    assert_close(*jax.jit(lambda A: (exact(UNUSUAL[name], A), brute_force(UNUSUAL[name], A)))(A))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 3, 1, 4)])
def test_axes_of_length_one(shape, x64):
    f = lambda A: (jnp.tanh(A) * jnp.exp(A.mean())).sum()
    A = normal(0, *shape)
    assert_close(exact(f, A), brute_force(f, A))


@jax.custom_jvp
def own_slope(x):
    return jnp.tanh(x)


own_slope.defjvp(lambda primals, tangents: (own_slope(*primals), tangents[0] * jnp.cos(primals[0])))


@jax.custom_vjp
def stable(x):
    return jnp.logaddexp(x, 0)


stable.defvjp(lambda x: (stable(x), x), lambda x, g: (g * jax.nn.sigmoid(x),))


def test_a_rule_that_mixes_elements(x64):
    A, f = normal(0, 5), lambda A: (centred(A) ** 2).sum()
    # Its rule is not the derivative of anything, so the gradient is not compared.
    for found, wanted in zip(exact(f, A)[2:], brute_force(f, A)[2:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_custom_vjp_in_a_loop():
    A = normal(0, *TOKENS)
    with pytest.raises(TypeError, match="f has a custom_vjp inside a scan or a branch"):
        exact(lambda A: jax.lax.scan(lambda c, x: (stable(c + x), None), A[0], A)[0].sum(), A)


def test_mixed_precision():
    def f(A):
        low = jnp.bfloat16
        h = A.astype(low) @ normal(1, 4, 3).astype(low)
        return (h * jax.nn.sigmoid(h)).sum().astype(jnp.float32) + A.mean()

    A = normal(0, *TOKENS)
    found, wanted = exact(f, A), brute_force(f, A)
    np.testing.assert_allclose(found.u2, wanted.u2, rtol=0, atol=0.1 * float(jnp.abs(wanted.u2).max()))


def test_custom_rules(x64):
    A = normal(0, *TOKENS)
    f = lambda A: (own_slope(A @ normal(1, 4, 3)) ** 2).sum()
    assert_close(exact(f, A), brute_force(f, A))
    inside = lambda A: (jax.nn.softplus(A @ normal(1, 4, 3)) ** 2).sum()
    assert_close(exact(lambda A: (stable(A @ normal(1, 4, 3)) ** 2).sum(), A), brute_force(inside, A))


@pytest.mark.parametrize("which", [exact, brute_force])
@pytest.mark.parametrize(
    ("f", "A", "options", "error", "message"),
    [
        (lambda A: A, (2, 2), {}, TypeError, r"f\(A\) is float32\[2, 2\]: one real float is wanted"),
        (lambda A: (A.sum(),), (2, 2), {}, TypeError, r"f\(A\) is tuple: one real float"),
        (lambda A: A.argmax(), (2, 2), {}, TypeError, r"f\(A\) is int32\[\]: one real float"),
        (lambda A: A.sum(), (0, 2), {}, ValueError, r"A has shape \(0, 2\): it has no elements"),
        (lambda A: A.sum(), (2, 2), {"batch_size": 0}, ValueError, "batch_size is 0: an integer of at least 1"),
        (lambda A: A.sum(), (2, 2), {"batch_size": 1.5}, ValueError, "batch_size is 1.5: an integer of at least 1"),
    ],
)
def test_what_bad_input_gets(which, f, A, options, error, message):
    with pytest.raises(error, match=message):
        which(f, jnp.ones(A), **options)


@pytest.mark.parametrize("which", [exact, brute_force])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
def test_an_activation_of_another_type(which, dtype):
    with pytest.raises(TypeError, match=f"A is {jnp.dtype(dtype)}: derivatives along its elements need real floats"):
        which(lambda A: A.sum(), jnp.ones((2, 2), dtype))


@pytest.mark.parametrize("name", ["dense, gelu", "relu, softmax", "layer norm, pool", "a while loop"])
def test_nan_in_gives_nan_out(name):
    shape, f = HEADS[name]
    A = normal(0, *shape).ravel().at[3].set(jnp.nan).reshape(shape)
    found = exact(f, A)
    assert jnp.isnan(found.u) and jnp.isnan(found.u2).all() and jnp.isnan(found.u3).all()


def test_a_finite_function_beside_overflow_stays_finite():
    f = lambda A: jax.nn.log_softmax(1000 * (A.ravel() @ jnp.eye(4)))[1]
    found = exact(f, jnp.arange(4.0).reshape(2, 2))
    assert all(jnp.isfinite(each).all() for each in found)


def test_large_work_is_announced_under_jit(monkeypatch, caplog):
    shape, f = HEADS["attention"]
    monkeypatch.setattr(_exact, "FLOPS_WORTH_A_WORD", 1)
    compiled = jax.jit(lambda A: exact(f, A))
    with caplog.at_level(logging.WARNING, logger="jaxcam"):
        compiled(normal(0, *shape)), compiled(normal(1, *shape))
    (record,) = caplog.records  # once, at the first trace
    assert "along 64 directions" in record.message and "derivatives='closed_form'" in record.message


def test_a_bar_outside_jit_counts_every_chunk(monkeypatch):
    ticks = []

    class Bar:
        def __init__(self, label, total, *, flops):
            self.label, self.total = label, total

        def __enter__(self):
            return lambda: ticks.append(self.total)

        def __exit__(self, *_):
            jax.effects_barrier()

    monkeypatch.setattr(_exact.progress, "bar", Bar)
    shape, f = HEADS["attention"]
    exact(f, normal(0, *shape), batch_size=10)
    assert ticks == [7] * 7


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
    wanted = jaxcam.maps.saliency(A, jaxcam.weights.grad_cam_pp(A, *through_link(u, link="exp")[1]))
    np.testing.assert_allclose(jaxcam.normalize(ours), jaxcam.normalize(wanted), atol=0.01)  # alpha is ill-conditioned


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
    wanted = jaxcam.maps.saliency(A, jaxcam.weights.grad_cam_pp(A, *D))
    np.testing.assert_allclose(jaxcam.normalize(ours), jaxcam.normalize(wanted), atol=1e-4)


def test_identity_link_on_a_smooth_head_has_second_derivatives(image):
    assert jaxcam.grad_cam_pp(smooth_cut(), image, 3, link="identity").max() > 0
    with pytest.raises(ValueError, match="link='identity' with an affine score"):
        jaxcam.grad_cam_pp(smooth_cut(), image, 3, link="identity", derivatives="closed_form")


def test_directions_that_reach_nothing_are_found(x64):
    """Overlapping max pooling lets some locations through twice and some not at all."""
    pooled = lambda A: nnx.max_pool(A[None], (3, 3), (1, 1)).ravel() @ normal(1, 16, 7)
    A = normal(0, *IMAGE)
    plan = plan_of(lambda A: jax.nn.gelu(pooled(A)).sum(), A)
    program = plan.program
    values = evaluate(program.steps, {**program.constants, program.inputs[0]: A})
    reached = _taylor._reaches(plan, values)
    columns = jnp.abs(jax.jacrev(pooled)(A)).max(0) > 0
    assert 0 < columns.sum() < 40
    np.testing.assert_array_equal(np.asarray(reached).reshape(A.shape) > 0, columns)
