"""The closed form against derivatives that JAX takes by brute force, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import certify
from jaxcam.derivatives import Derivatives, closed_form, through_link

SHAPE = (2, 3, 4)


def affine(f, x):
    return certify(f, x).affine_everywhere


def relu_head(key, classes=5, hidden=7, shape=SHAPE):
    a, b, c = jax.random.split(key, 3)
    V = jax.random.normal(a, (int(np.prod(shape)), hidden))
    bias = jax.random.normal(b, (hidden,))
    Z = jax.random.normal(c, (hidden, classes))
    return lambda A: jax.nn.relu(A.ravel() @ V + bias) @ Z


def diagonals(f, A):
    """u, u1, u2, u3 from the whole gradient, Hessian and third-derivative tensor."""
    flat = lambda a: f(a.reshape(A.shape))
    first = jax.jacfwd(flat)
    second = jax.jacfwd(first)
    third = jax.jacfwd(second)
    n = jnp.arange(A.size)
    a = A.ravel()
    return f(A), *(d.reshape(A.shape) for d in (first(a), second(a)[n, n], third(a)[n, n, n]))


def own_log_softmax(outputs, target):
    """Not `scores.log_softmax`, so it takes the way through the columns of the Jacobian."""
    return outputs[target] - jax.nn.logsumexp(outputs)


def mean_square(outputs, target):
    return (outputs**2).mean() + outputs[target] ** 3


@pytest.mark.parametrize("score", [jaxcam.scores.logit, jaxcam.scores.log_softmax, own_log_softmax, mean_square])
@pytest.mark.parametrize("classes", [5, 40])  # fewer outputs than the 24 locations, and more
@pytest.mark.parametrize("batch_size", [None, 3])
def test_closed_form_is_exact_on_relu_heads(x64, score, classes, batch_size):
    head = relu_head(jax.random.key(0), classes)
    A = jax.random.normal(jax.random.key(1), SHAPE)
    result = closed_form(head, A, score, 2, batch_size=batch_size)
    for value, expected in zip(result, diagonals(lambda A: score(head(A), 2), A), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 200])  # 200: the softmax is saturated
def test_words_of_a_caption(x64, scale):
    """Every set of words: the moments are shared, and the target of a word says which of them count."""
    head = relu_head(jax.random.key(0), 4 * 6)
    A = jax.random.normal(jax.random.key(1), SHAPE)
    outputs = lambda A: scale * head(A).reshape(4, 6)
    score = jaxcam.scores.sequence_log_prob
    targets = jnp.array([[2, 0, 5, 1], [2, -1, -1, -1], [-1, -1, 3, -1], [0, 4, -1, -1]])
    results = jax.vmap(lambda target: closed_form(outputs, A, score, target))(targets)
    for i, target in enumerate(targets):
        by_columns = closed_form(outputs, A, lambda z, target: score(z, target), target)
        for value, expected in zip(results, by_columns, strict=True):
            np.testing.assert_allclose(value[i], expected, rtol=1e-9, atol=1e-9 * max(jnp.abs(expected).max(), 1e-3))
        if scale == 1:
            expected = diagonals(lambda A, target=target: score(outputs(A), target), A)
            for value, brute_force in zip(results, expected, strict=True):
                np.testing.assert_allclose(value[i], brute_force, rtol=1e-10, atol=1e-12)


def test_words_of_a_caption_out_of_range():
    head = lambda A: relu_head(jax.random.key(0), 12)(A).reshape(2, 6)
    A = jax.random.normal(jax.random.key(1), SHAPE)
    u_of = jax.jit(lambda target: closed_form(head, A, jaxcam.scores.sequence_log_prob, target).u)
    assert jnp.isnan(u_of(jnp.array([-1, -1]))) and jnp.isnan(u_of(jnp.array([0, 6])))


def test_closed_form_is_not_exact_on_smooth_heads(x64):
    V = 0.1 * jax.random.normal(jax.random.key(0), (24, 3))
    head = lambda A: jax.nn.gelu(A.ravel() @ V)
    A = jax.random.normal(jax.random.key(1), SHAPE)
    _, _, u2, _ = closed_form(head, A, jaxcam.scores.logit, 0)
    _, _, exact, _ = diagonals(lambda A: head(A)[0], A)
    assert not u2.any() and jnp.abs(exact).max() > 1e-3


def test_outputs_of_any_form_and_a_mask_for_a_target(x64):
    """Segmentation: outputs `[h w classes]` in a dict, the score a sum of logits over a mask."""
    kernel = jax.random.normal(jax.random.key(2), (4, 6))
    head = lambda A: {"logits": jax.nn.relu(A) @ kernel}
    mask = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    A = jax.random.normal(jax.random.key(1), SHAPE)
    for score in (
        lambda outputs, mask: (mask * outputs["logits"][..., 1]).sum(),
        lambda outputs, mask: (mask * jax.nn.log_softmax(outputs["logits"])[..., 1]).sum(),
    ):
        result = closed_form(head, A, score, mask)
        for value, expected in zip(result, diagonals(lambda A: score(head(A), mask), A), strict=True):  # noqa: B023
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gap", [5.0, 15.0, 40.0])
def test_a_saturated_softmax_keeps_its_digits(gap):
    """At a gap of 15, p_t rounds to 1 in float32, and 1 - p_t by subtraction has no digit left; by 40, nothing is."""
    rng = np.random.default_rng(0)
    V, bias, Z, A = (np.float32(rng.normal(size=shape)) for shape in ((24, 7), 7, (7, 5), SHAPE))
    bias_out = np.float32([0, 0, gap, 0, 0])

    def saturated(dtype):
        v, b, z, o = (jnp.asarray(value, dtype) for value in (V, bias, Z, bias_out))
        return lambda A: jax.nn.relu(A.ravel() @ v + b) @ z + o

    result = closed_form(saturated(jnp.float32), jnp.asarray(A), jaxcam.scores.log_softmax, 2)
    with jax.enable_x64(True):
        head, A = saturated(jnp.float64), jnp.asarray(A, jnp.float64)
        expected = closed_form(head, A, jaxcam.scores.log_softmax, 2)
        exact = diagonals(lambda A: jax.nn.log_softmax(head(A))[2], A)
        if gap < 30:  # beyond, float64 by brute force runs out of digits too
            for value, truth in zip(expected[1:], exact[1:], strict=True):
                np.testing.assert_allclose(value, truth, atol=1e-6 * jnp.abs(truth).max())
    for value, truth in zip(result[1:], expected[1:], strict=True):
        np.testing.assert_allclose(value, np.float32(truth), rtol=0, atol=2e-5 * np.abs(truth).max())


@pytest.mark.parametrize("shift", [500.0, -500.0])
@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "smooth_grad_cam_pp"])
def test_a_constant_added_to_all_logits_changes_no_softmax_map(shift, method):
    head = relu_head(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), SHAPE)
    maps = []
    for added in (0.0, shift):
        cut = jaxcam.Cut(jnp.float32(added), lambda p, x: jax.nn.relu(x), lambda p, A, x: _rounded(head(A)) + p)
        options = {"key": jax.random.key(3)} if method == "smooth_grad_cam_pp" else {}
        maps.append(getattr(jaxcam, method)(cut, image, 2, score=jaxcam.scores.log_softmax, link="exp", **options))
    plain, shifted = maps
    assert jnp.isfinite(shifted).all() and plain.max() > 0
    np.testing.assert_allclose(shifted, plain, rtol=0, atol=1e-5 * plain.max())


@jax.custom_jvp
def _rounded(logits):
    """Logits on a grid that float32 holds at 500 too, so that the shift loses nothing; derivatives pass through."""
    return jnp.round(logits * 1024) / 1024


_rounded.defjvp(lambda primals, tangents: (_rounded(*primals), tangents[0]))


@pytest.mark.parametrize("value", [500.0, -500.0])
def test_logits_far_outside_the_range_of_exp(value):
    head = relu_head(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), SHAPE)
    cut = jaxcam.Cut(jnp.float32(value), lambda p, x: jax.nn.relu(x), lambda p, A, x: head(A) + p)
    result = jaxcam.smooth_grad_cam_pp(cut, image, 2, jax.random.key(0), n_samples=20, batch_size=3)
    near = jaxcam.smooth_grad_cam_pp(
        jaxcam.Cut(jnp.float32(0), cut.features, cut.head), image, 2, jax.random.key(0), n_samples=20
    )
    assert jnp.isfinite(result).all() and result.max() > 0
    np.testing.assert_allclose(result, near, rtol=0, atol=1e-3 * near.max())


def test_links():
    one = jnp.ones(SHAPE)
    derivatives = Derivatives(jnp.float32(100.0), 2 * one, 3 * one, 5 * one)
    scale, (Y1, Y2, Y3) = through_link(derivatives, link="exp")
    assert (scale, Y1[0, 0, 0], Y2[0, 0, 0], Y3[0, 0, 0]) == (100, 2, 3 + 4, 5 + 18 + 8)
    scale, Y = through_link(derivatives, link="identity")
    assert (scale, *(y[0, 0, 0] for y in Y)) == (0, 2, 3, 5)
    with pytest.raises(ValueError, match="link is 'log': choose one of identity, exp"):
        through_link(derivatives, link="log")


def test_affine_is_proved_not_hoped():
    x = jnp.ones(4)
    mask = jnp.array([1.0, 0.0, 1.0, 0.0])
    assert affine(lambda x: jaxcam.scores.logit(x, 1), x)
    assert affine(lambda x: (mask * x).sum() - 3, x)
    assert affine(lambda x: jnp.float32(2), x)
    for f in (
        lambda x: jaxcam.scores.log_softmax(x, 1),
        lambda x: x.max(),
        lambda x: jax.nn.relu(x).sum(),
        lambda x: x[0] * x[1],
        lambda x: jnp.where(x > 0, x, 0.1 * x).sum(),
        lambda x: jax.jit(lambda x: x**2)(x).sum(),
        lambda x: jax.lax.fori_loop(0, 2, lambda i, x: x * x, x).sum(),
    ):
        assert not affine(f, x)


def test_a_head_of_mixed_precision_keeps_its_powers():
    """Half-precision activation, float32 logits: squares and cubes are taken in float32 all the same."""
    rng = np.random.default_rng(0)
    W = np.float32(np.abs(rng.normal(size=(4, 5))))
    x = rng.uniform(size=(28, 28, 4))
    for score in (jaxcam.scores.logit, jaxcam.scores.log_softmax, own_log_softmax):
        maps = []
        for dtype in ("float16", "float32"):
            head = lambda p, A, x: (A.mean((0, 1)) @ p).astype(jnp.float32)
            cut = jaxcam.Cut(jnp.asarray(W, dtype), lambda p, x: x, head)
            maps.append(jaxcam.grad_cam_pp(cut, jnp.asarray(x, dtype), int(W.sum(0).argmax()), score=score))
        half, whole = maps
        assert half.dtype == jnp.float32 and whole.max() > 0 and half.max() > 0
        # The scale may move: half-precision gradients of a softmax have few digits left where they cancel.
        np.testing.assert_allclose(jaxcam.normalize(half), jaxcam.normalize(whole), atol=0.02)


@pytest.mark.parametrize("score", [jaxcam.scores.log_softmax, own_log_softmax])
def test_a_negative_target_counts_from_the_end(score):
    head = lambda A: A.sum((0, 1)) @ jnp.array([[1.0, 2.0, 0.5], [3.0, 4.0, -1.0]])
    A = jnp.full((3, 2, 2), 0.1)
    for result, expected in zip(closed_form(head, A, score, -1), closed_form(head, A, score, 2), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("score", [lambda o, t: o["logits"][t], lambda o, t: jax.nn.log_softmax(o["logits"])[t]])
def test_outputs_may_have_integers_beside_the_logits(score):
    kernel = jax.random.normal(jax.random.key(0), (4, 5))

    def head(A):
        logits = A.mean((0, 1)) @ kernel
        return {"label": logits.argmax(), "logits": logits}

    A = jax.random.uniform(jax.random.key(1), SHAPE)
    result = closed_form(head, A, score, 1)
    expected = closed_form(lambda A: {"logits": head(A)["logits"]}, A, score, 1)
    for value, truth in zip(result, expected, strict=True):
        np.testing.assert_allclose(value, truth, rtol=1e-5, atol=1e-7)
    cut = jaxcam.Cut(None, lambda p, x: x, lambda p, A, x: head(A))
    assert jaxcam.grad_cam_pp(cut, A, 1, score=score).shape == (2, 3)


def test_a_write_to_a_ref_is_not_affine():
    def f(x):
        ref = jax.new_ref(jnp.zeros(3))
        ref[...] = x
        return (ref[...] ** 2).sum()

    if hasattr(jax, "new_ref"):
        assert not affine(f, jnp.ones(3))
