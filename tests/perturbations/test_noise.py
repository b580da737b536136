import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam._base.numerics import even_chunks
from jaxcam.perturbations.noise import mean_over_noise, noisy

KEY = jax.random.key(11)


def test_noise_is_a_share_of_the_images_range():
    image = jnp.linspace(-50.0, 150.0, 100_000)
    noise = noisy(image, KEY, 0, std=0.15) - image
    assert abs(float(noise.std()) / (0.15 * 200) - 1) < 0.02
    assert jnp.array_equal(noisy(jnp.ones(5), KEY, 0, std=0.15), jnp.ones(5))


def test_samples_differ_and_repeat():
    image = jnp.linspace(0.0, 1.0, 12)
    assert jnp.array_equal(noisy(image, KEY, 3, std=0.1), noisy(image, KEY, 3, std=0.1))
    assert not jnp.array_equal(noisy(image, KEY, 3, std=0.1), noisy(image, KEY, 4, std=0.1))
    assert not jnp.array_equal(noisy(image, KEY, 3, std=0.1), noisy(image, jax.random.key(12), 3, std=0.1))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 100])
def test_the_same_noise_bit_for_bit_whatever_the_batch_size(batch_size):
    """Seven samples fill seven rows; a row is one sample, so the mean times seven is the noisy image itself."""
    image = jnp.linspace(0.0, 1.0, 48).reshape(4, 4, 3)
    seen = []

    def watch(x, A):
        jax.debug.callback(lambda x: seen.append(np.array(x)), x)
        return jnp.float32(0), x

    jax.jit(lambda: mean_over_noise(jnp.sin, watch, image, KEY, n_samples=7, std=0.2, batch_size=batch_size))()
    jax.effects_barrier()
    alone = [np.array(jax.jit(lambda m: noisy(image, KEY, m, std=0.2))(m)) for m in range(7)]
    assert sorted(x.tobytes() for x in seen) == sorted(x.tobytes() for x in alone)


@pytest.mark.parametrize("batch_size", [None, 1, 4, 20])
def test_mean_weighs_each_sample_by_its_factor(batch_size):
    image = jnp.linspace(0.0, 1.0, 6)
    f = lambda x, A: (100 * x.sum(), {"square": A})
    scale, mean = mean_over_noise(jnp.square, f, image, KEY, n_samples=20, std=0.3, batch_size=batch_size)
    copies = np.array([noisy(image, KEY, m, std=0.3) for m in range(20)], np.float64)
    scales = 100 * copies.sum(-1)
    wanted = (np.exp(scales - scales.max())[:, None] * copies**2).sum(0) / 20
    np.testing.assert_allclose(scale, scales.max(), rtol=1e-6)
    np.testing.assert_allclose(mean["square"], wanted, rtol=2e-4)


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_maps_do_not_depend_on_the_batch_size(cut, image, batch_size, dtype, tolerance):
    """But for rounding: XLA sums in another order for another batch, so u moves by |u| eps, and e^u by as much."""
    with jax.enable_x64(dtype == "float64"):
        cut = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), dtype), cut)
        one, other = (
            jaxcam.smooth_grad_cam_pp(cut, image.astype(dtype), 3, KEY, n_samples=12, batch_size=size)
            for size in (12, batch_size)
        )
    one, other = np.asarray(one), np.asarray(other)
    assert one.dtype == dtype
    np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * one.max())


def test_even_chunks():
    assert [even_chunks(count, 8) for count in (1, 5, 8, 9, 10, 50)] == [1, 5, 8, 5, 5, 8]


@pytest.mark.long
def test_gradients_pass_through_the_average():
    square = lambda x, A: (3 * x.sum(), A)
    f = lambda x: mean_over_noise(jnp.square, square, x, KEY, n_samples=6, std=0.1, batch_size=2)[1].sum()
    x = jnp.linspace(0.1, 1.0, 4)
    gradient = jax.grad(f)(x)
    step = 1e-2
    for i in range(4):
        e = step * jnp.eye(4)[i]
        np.testing.assert_allclose(gradient[i], (f(x + e) - f(x - e)) / (2 * step), rtol=2e-2, atol=1e-3)


def test_noise_in_the_images_own_units():
    image = jnp.linspace(-50.0, 150.0, 100_000)
    noise = noisy(image, KEY, 0, std=0.15, relative=False) - image
    assert abs(float(noise.std()) / 0.15 - 1) < 0.02
    identity = lambda x, A: (jnp.float32(0), A)
    both = [mean_over_noise(lambda x: x, identity, image[:5], KEY, n_samples=1, std=std, relative=relative)[1]
            for std, relative in ((0.5 * float(image[4] - image[0]), False), (0.5, True))]  # fmt: skip
    np.testing.assert_allclose(*both, rtol=1e-6)
