"""FGSM and PGD against NumPy loops, closed solutions, and the constraints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.perturbations import attacks

RNG = np.random.default_rng(0)
W, V = (RNG.normal(size=shape).astype(np.float32) for shape in ((6, 5), (5, 3)))
IMAGE = RNG.uniform(0.2, 0.8, 6).astype(np.float32)


def logits(x):
    return jnp.tanh(x @ W) @ V


def plain_gradient(x, target):
    """Of log p_target of `logits`, by hand."""
    hidden = np.tanh(x @ W)
    z = hidden @ V
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return W @ ((1 - hidden**2) * (V @ (np.eye(3)[target] - p)))


def plain_pgd(x0, target, epsilon, steps, step_size, norm, sign):
    x = x0.astype(np.float64)
    for _ in range(steps):
        g = sign * plain_gradient(x, target)
        x = x + step_size * (np.sign(g) if norm == "linf" else g / np.sqrt((g**2).sum()))
        change = x - x0
        if norm == "linf":
            change = np.array([min(max(c, -epsilon), epsilon) for c in change])
        else:
            length = np.sqrt((change**2).sum())
            change = change * epsilon / length if length > epsilon else change
        x = np.array([min(max(v, 0), 1) for v in x0 + change])
    return x


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_is_the_loop(norm, targeted):
    found = attacks.pgd(logits, IMAGE, 2, epsilon=0.3, steps=6, norm=norm, targeted=targeted)
    expected = plain_pgd(IMAGE, 2, 0.3, 6, 2.5 * 0.3 / 6, norm, 1 if targeted else -1)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    before, after = (float(jax.nn.log_softmax(logits(x))[2]) for x in (IMAGE, found))
    assert after > before if targeted else after < before
    assert found.dtype == np.float32


def test_fgsm_is_one_step_of_the_sign():
    for targeted, sign in ((False, -1), (True, 1)):
        found = attacks.fgsm(logits, IMAGE, 1, epsilon=0.25, targeted=targeted)
        np.testing.assert_allclose(
            found, np.clip(IMAGE + sign * 0.25 * np.sign(plain_gradient(IMAGE, 1)), 0, 1), atol=1e-6
        )


def test_without_a_target_it_moves_away_from_the_largest_output():
    largest = int(np.argmax(logits(IMAGE)))
    found = attacks.pgd(logits, IMAGE, epsilon=0.1)
    np.testing.assert_array_equal(found, attacks.pgd(logits, IMAGE, largest, epsilon=0.1))
    with pytest.raises(TypeError, match="expected a target with targeted=True, the class to move to, got None"):
        attacks.pgd(logits, IMAGE, epsilon=0.1, targeted=True)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.long)])
def test_the_ball_and_the_bounds_hold_from_any_start(norm):
    """Also for images at the bounds, and with steps that are longer than the ball."""
    edge = jnp.array([0.0, 1.0, 0.0, 1.0, 0.5, 0.02])
    run = functools.partial(attacks.pgd, logits, epsilon=0.1, step_size=0.5, steps=3, norm=norm)
    keys = jax.random.split(jax.random.key(0), 20)
    found = np.asarray(jax.vmap(lambda key: run(edge, 0, key))(keys))
    changes = np.abs(found - np.asarray(edge))
    sizes = changes.max(1) if norm == "linf" else np.sqrt((changes**2).sum(1))
    assert found.min() >= 0 and found.max() <= 1 and sizes.max() <= 0.1 * (1 + 1e-5)
    assert len(np.unique(found, axis=0)) > 1 or norm == "linf"
    starts = np.asarray(
        jax.vmap(lambda key: attacks._random_point(key, jnp.zeros(2), norm))(jax.random.split(keys[0], 500))
    )
    lengths = np.abs(starts).max(1) if norm == "linf" else np.sqrt((starts**2).sum(1))
    # Uniform in a ball of two dimensions: the mean radius is 2/3 in every norm.
    assert lengths.max() <= 1 and lengths.mean() == pytest.approx(2 / 3, abs=0.03)


def test_a_linear_model_has_its_solutions_in_closed_form():
    """The worst change of a margin w.x is -epsilon w / |w| in L2 and -epsilon sign(w) in L-inf, also for tiny w."""
    w = np.array([0.3, -0.4, 0.0], np.float32)
    x = jnp.array([0.5, 0.5, 0.5])
    for scale in (1.0, 1e-25):
        margin = lambda outputs, target, scale=scale: scale * outputs
        call = functools.partial(attacks.pgd, lambda x: x @ w, x, "margin", epsilon=0.1, score=margin)
        np.testing.assert_allclose(call(norm="l2"), x - 0.1 * w / 0.5, atol=1e-6)
        np.testing.assert_allclose(call(), x - 0.1 * np.sign(w), atol=1e-6)
    np.testing.assert_array_equal(attacks.pgd(lambda x: x * 0, x, epsilon=0.1, norm="l2"), x)


@pytest.mark.long
def test_a_cut_and_its_model_are_attacked_alike(cut, digits, image):
    """A targeted attack reaches an absent class; a batch is one call under vmap and jit."""
    of_cut = attacks.pgd(cut, image, 8, epsilon=0.05, steps=5, targeted=True)
    of_model = attacks.pgd(lambda x: digits(x[None])[0], image, 8, epsilon=0.05, steps=5, targeted=True)
    logits_of_both = digits(jnp.stack([image, of_cut]))
    assert logits_of_both.argmax(-1).tolist() == [3, 8]
    np.testing.assert_allclose(of_model, of_cut, atol=2e-3)


def test_inside_jit_and_vmap():
    targets, image = jnp.array([0, 2, 5]), jnp.asarray(IMAGE)  # a constant of the outer jit
    batch = jax.jit(jax.vmap(lambda target, epsilon: attacks.pgd(logits, image, target, epsilon=epsilon, steps=6)))
    found = batch(targets, jnp.array([0.1, 0.2, 0.1]))
    np.testing.assert_allclose(found[0], attacks.pgd(logits, IMAGE, 0, epsilon=0.1, steps=6), atol=1e-6)
    np.testing.assert_allclose(found[1], attacks.pgd(logits, IMAGE, 2, epsilon=0.2, steps=6), atol=1e-6)
    assert np.isnan(found[2]).all(), "a class out of range"


def test_probabilities_are_attacked_by_their_logarithm():
    with_softmax = jaxcam.Cut((), lambda p, x: x[None], lambda p, A, x: jax.nn.softmax(logits(A[0])))
    found = attacks.pgd(with_softmax, IMAGE, 2, epsilon=0.3, steps=6)
    np.testing.assert_allclose(found, attacks.pgd(logits, IMAGE, 2, epsilon=0.3, steps=6), atol=1e-5)


def test_refusals():
    call = functools.partial(attacks.pgd, logits, IMAGE, 0)
    with pytest.raises(ValueError, match="expected 'linf' or 'l2' for norm, got 'l1'"):
        call(epsilon=0.1, norm="l1")
    with pytest.raises(ValueError, match=r"expected an image in 0..1, got values from .* to .*: bounds=\(low, high\)"):
        attacks.fgsm(logits, IMAGE * 255, 0, epsilon=0.1)
    assert attacks.fgsm(logits, 2 * IMAGE, 0, epsilon=0.1, bounds=(0, 2)).max() <= 2
    with pytest.raises(ValueError, match="expected a finite number of at least 0 for epsilon, got -0.1"):
        call(epsilon=-0.1)
    with pytest.raises(ValueError, match="expected an integer of at least 1 for steps, got 0"):
        call(epsilon=0.1, steps=0)
    with pytest.raises(ValueError, match="target 3 is out of range: the model has 3 classes"):
        attacks.pgd(logits, IMAGE, 3, epsilon=0.1)
    with pytest.raises(TypeError, match="expected a jax.random.key"):
        attacks.pgd(logits, IMAGE, 0, 1, epsilon=0.1)
    with pytest.raises(TypeError, match="expected a cut, or a function from an image to outputs, got a str"):
        attacks.pgd("vgg", IMAGE, 0, epsilon=0.1)
    with pytest.raises(ValueError, match=r"expected bounds \(low, high\) with low < high, got \(1, 0\)"):
        call(epsilon=0.1, bounds=(1, 0))
