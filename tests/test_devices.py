"""Eight devices give what one gives: by the noise's samples, and inside a shard_map of the user's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

import jaxcam
from jaxcam import noise

KEY = jax.random.key(5)


def mesh(shape, names, types=None):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    return Mesh(devices, names, axis_types=types and (types,) * len(names))


MESHES = {
    "eight": lambda: mesh((8,), ("data",)),
    "four by two": lambda: mesh((4, 2), ("rows", "columns"), AxisType.Explicit),
}


def derivatives_over_noise(cut, image, target, *, mesh=None, n_samples=5, batch_size=1):
    """What Smooth Grad-CAM++ averages."""

    def Y(x, A):
        head = lambda A: cut.head(cut.params, A, x)
        return jaxcam.derivatives.through_link(jaxcam.derivatives.closed_form(head, A, target=target), link="exp")

    return noise.mean_over_noise(
        lambda x: cut.features(cut.params, x),
        Y, image, KEY, n_samples=n_samples, std=0.3, batch_size=batch_size, mesh=mesh,
    )  # fmt: skip


@pytest.mark.parametrize("devices", MESHES)
def test_samples_divided_over_devices(cut, image, devices):
    """Five samples: three of the eight devices have none of their own.

    One at a time on both sides: dense layers sum in another order for another batch, which moves e^u by |u| eps.
    """
    over = functools.partial(jax.jit(derivatives_over_noise, static_argnames="mesh"), cut, jnp.asarray(image), 3)
    (scale, one), (their_scale, many) = over(), over(mesh=MESHES[devices]())
    assert scale == their_scale
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6 * np.abs(a).max())


@pytest.mark.parametrize("n_samples", [1, 5, 8, 21])
def test_a_sample_too_many_counts_for_nothing(x64, n_samples):
    """Against a loop, with weights as far apart as e^600, and the gradient through image and closure with it."""
    image = jnp.linspace(0.0, 1.0, 6)

    def mean(image, width, mesh):
        return noise.mean_over_noise(
            lambda x: width * x**2, lambda x, A: (300 * x.sum(), {"A": A}), image, KEY,
            n_samples=n_samples, std=0.3, batch_size=2, mesh=mesh,
        )  # fmt: skip

    eight = MESHES["eight"]()
    scale, values = mean(image, 2.0, eight)
    copies = np.array([noise.noisy(image, KEY, m, std=0.3) for m in range(n_samples)])
    scales = 300 * copies.sum(-1)
    wanted = (np.exp(scales - scales.max())[:, None] * 2 * copies**2).sum(0) / n_samples
    np.testing.assert_allclose(scale, scales.max(), rtol=1e-12)
    np.testing.assert_allclose(values["A"], wanted, rtol=1e-11)
    gradient = jax.grad(lambda image, width, mesh: mean(image, width, mesh)[1]["A"].sum(), argnums=(0, 1))
    for a, b in zip(gradient(image, 2.0, None), gradient(image, 2.0, eight), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-8 * np.abs(a).max())


def test_three_devices():
    image = jnp.linspace(0.0, 1.0, 6)
    one, three = (
        noise.mean_over_noise(jnp.sin, lambda x, A: (x.sum(), A), image, KEY, n_samples=7, std=0.3, mesh=devices)
        for devices in (None, mesh((3,), ("x",)))
    )
    np.testing.assert_allclose(three[1], one[1], rtol=2e-6)
