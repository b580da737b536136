"""FGSM and PGD against NumPy loops, closed solutions, and the constraints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.perturbations import attacks

RNG = np.random.default_rng(0)
W, V = (RNG.normal(size=shape).astype(np.float32) for shape in ((6, 5), (5, 3)))
IMAGE = RNG.uniform(0.2, 0.8, 6).astype(np.float32)


def logits(x):
    return jnp.tanh(x.astype(jnp.float32) @ W) @ V


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
    with pytest.raises(ValueError, match=r"expected bounds \(low, high\), two numbers with low < high, got \(1, 0\)"):
        call(epsilon=0.1, bounds=(1, 0))


def test_a_network_that_was_trained_meanwhile_is_attacked_as_it_is():
    """By a function that closes over it, as a module that is a pytree, and by arguments that a partial binds."""
    model = nnx.Linear(IMAGE.size, 3, rngs=nnx.Rngs(0))
    of_function = functools.partial(attacks.pgd, lambda x: model(x.reshape(1, -1))[0], IMAGE, 0, epsilon=0.1)
    before = of_function()
    model.kernel[...] = -model.kernel[...]
    after = of_function()
    kernel = model.kernel[...]
    expected = attacks.pgd(functools.partial(_linear, kernel, model.bias[...]), IMAGE, 0, epsilon=0.1)
    np.testing.assert_array_equal(after, expected)
    assert float(jnp.abs(after - before).max()) > 0.1


def _linear(kernel, bias, x):
    return x.ravel() @ kernel + bias


def test_a_module_that_is_a_pytree_is_an_argument():
    @jax.tree_util.register_pytree_node_class
    class Module:
        def __init__(self, kernel):
            self.kernel = kernel

        def __call__(self, x):
            return x.ravel() @ self.kernel

        def tree_flatten(self):
            return (self.kernel,), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    module = Module(jax.random.normal(jax.random.key(1), (IMAGE.size, 3)))
    before = attacks.fgsm(module, IMAGE, 0, epsilon=0.1)
    module.kernel = -module.kernel
    after = attacks.fgsm(module, IMAGE, 0, epsilon=0.1)
    np.testing.assert_array_equal(after, attacks.fgsm(lambda x: x.ravel() @ module.kernel, IMAGE, 0, epsilon=0.1))
    assert float(jnp.abs(after - before).max()) > 0.1


@pytest.mark.parametrize("dtype, margin", [(jnp.float16, 40.0), (jnp.bfloat16, 40.0), (jnp.float32, 500.0)])
def test_a_network_that_is_certain_is_attacked(dtype, margin):
    """The gradient of log p is that of the log odds times 1 - p, which is 0 where p is rounded to 1."""
    direction = jax.random.normal(jax.random.key(2), IMAGE.shape)

    def certain(x):
        change = ((x.astype(jnp.float32) - IMAGE) * direction).sum()
        return jnp.stack([margin + change, -change, -change - 1]).astype(dtype)

    attacked = attacks.fgsm(certain, IMAGE, 0, epsilon=0.01, bounds=(-1, 2))
    np.testing.assert_allclose(attacked, IMAGE - 0.01 * jnp.sign(direction), atol=1e-6)


def test_the_log_odds_have_the_direction_of_the_log_probability():
    outputs = jnp.array([0.5, -1.0, 2.0, 0.1])
    for target in range(4):
        of_odds = jax.grad(attacks._log_odds)(outputs, target)
        of_probability = jax.grad(lambda z, target=target: jax.nn.log_softmax(z)[target])(outputs)
        cosine = of_odds @ of_probability / jnp.linalg.norm(of_odds) / jnp.linalg.norm(of_probability)
        assert float(cosine) == pytest.approx(1, abs=1e-6)
    for certain in (jnp.array([3.0]), jnp.array([3.0, -jnp.inf, -jnp.inf])):  # no other class is possible
        np.testing.assert_array_equal(jax.grad(attacks._log_odds)(certain, 0), 0)
    masked = jnp.array([3.0, -jnp.inf, 1.0])
    np.testing.assert_allclose(jax.grad(attacks._log_odds)(masked, 0), [1, 0, -1])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [8 / 255, 0.5 / 255])
def test_half_precision_stays_in_the_ball(dtype, norm, epsilon):
    image = IMAGE.astype(dtype)
    attacked = attacks.pgd(logits, image, 0, epsilon=epsilon, norm=norm, steps=5)
    change = np.asarray(attacked, np.float64) - np.asarray(image, np.float64)
    length = np.abs(change).max() if norm == "linf" else np.linalg.norm(change)
    assert attacked.dtype == dtype and length <= epsilon * (1 + 1e-5)


@pytest.mark.parametrize("bounds", [(-2.1179, 2.64), (0.0, 0.1), (-1 / 3, 1 / 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_an_attack_returns_can_be_attacked(bounds, dtype):
    image = jnp.full(IMAGE.shape, bounds[1] - 0.01, dtype)
    first = attacks.pgd(logits, image, 0, epsilon=1.0, bounds=bounds)
    assert attacks.pgd(logits, first, 0, epsilon=1.0, bounds=bounds).shape == first.shape


@pytest.mark.parametrize(
    "model, target, options, message",
    [
        (lambda x: logits(x)[None], 0, {}, r"expected outputs \[classes\] for one image without a batch axis"),
        (logits, True, {}, "True"),
        (logits, "cat", {}, "'cat'"),
        (logits, 1.0, {}, "1.0"),
        (logits, 0, {"epsilon": "a"}, "expected a finite number of at least 0 for epsilon, got 'a'"),
        (logits, 0, {"epsilon": np.ones([3, 3])}, r"for epsilon, got an array of shape \(3, 3\)"),
        (logits, 0, {"bounds": None}, r"expected bounds \(low, high\), two numbers with low < high, got None"),
        (logits, 0, {"bounds": (0, 1, 2)}, r"expected bounds \(low, high\)"),
    ],
)
def test_what_cannot_be_attacked_is_one_line(model, target, options, message):
    with pytest.raises((ValueError, TypeError), match=message) as refused:
        attacks.pgd(model, IMAGE, target, **{"epsilon": 0.1, **options})
    assert "\n" not in str(refused.value)
