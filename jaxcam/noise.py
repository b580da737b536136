"""Gaussian noise on the input, and averages over it that do not grow with the number of samples.

Sample `m` is drawn from `jax.random.fold_in(key, m)`: it is the same noise whatever the chunking, batching or number
of devices.

Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SAMPLES_AT_A_TIME = 16


def noisy(image: jax.Array, key: jax.Array, sample: jax.Array | int, *, std: jax.Array | float) -> jax.Array:
    """Noisy copy number `sample` of one image: `image + std * (max - min) * normal`.

    Args:
      image: `[...]`, any float array.
      key: a `jax.random.key`.
      sample: which of the key's samples.
      std: standard deviation of the noise as a share of the image's range, as in SmoothGrad; 0.1 to 0.3 is usual.

    Example:
      >>> image = jnp.linspace(0, 1, 12).reshape(2, 2, 3)
      >>> noisy(image, jax.random.key(0), 4, std=0.15).shape
      (2, 2, 3)
    """
    spread = std * (image.max() - image.min())
    return image + spread * jax.random.normal(jax.random.fold_in(key, sample), image.shape, image.dtype)


def mean_over_noise(
    features: Callable[[jax.Array], jax.Array],
    f: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]],
    image: jax.Array,
    key: jax.Array,
    *,
    n_samples: int,
    std: jax.Array | float,
    batch_size: int | None = None,
) -> tuple[jax.Array, Any]:
    """Mean of e^scale * values over noisy copies x of an image, where `scale, values = f(x, features(x))`.

    The factors e^scale may be far outside the range of floats (e^500), so the mean is returned in the same form: as
    `(largest scale, values)`, whose product e^scale * values is the mean. Samples are taken `batch_size` at a time and
    added to running sums, so memory does not grow with `n_samples`.

    Args:
      features: from an image to an array, the costly part.
      f: from an image and its features to a scalar and a pytree of arrays.
      image: one example.
      key: a `jax.random.key`.
      n_samples: at least 1.
      std: as in `noisy`.
      batch_size: samples at a time, 16 where absent. The memory knob: it changes the result by rounding only.

    Example:
      >>> f = lambda x, A: (jnp.float32(500.0), A)
      >>> scale, mean = mean_over_noise(jnp.sin, f, jnp.zeros(3), jax.random.key(0), n_samples=20, std=0.1)
      >>> float(scale), mean.shape
      (500.0, (3,))
    """
    samples = jnp.arange(n_samples)

    def one(m):
        x = noisy(image, key, m, std=std)
        return x, features(x)

    # Convolutions of one image fill a CPU's cores, and those of several overflow its caches: VGG-16 takes 10% longer a
    # pass at 8 at a time. What follows the features, dense layers for one, gains from a batch everywhere.
    one_by_one = jax.default_backend() == "cpu"

    def add(total, some):
        if size == 1:
            # Without vmap: a branch that is chosen for one sample stays a branch.
            return _join(total, f(*one(some[0])))
        x_and_A = jax.lax.map(one, some) if one_by_one else jax.vmap(one)(some)
        return _join(total, _sum(*jax.vmap(f)(*x_and_A)))

    size = even_chunks(n_samples, batch_size or SAMPLES_AT_A_TIME)
    whole = n_samples // size
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda x: f(x, features(x)), image)
    )
    total = (jnp.full_like(zero[0], jnp.finfo(zero[0].dtype).min), zero[1])
    if whole == 1:
        total = add(total, samples[:size])
    else:
        chunks = samples[: whole * size].reshape(whole, size)
        total, _ = jax.lax.scan(lambda total, some: (add(total, some), None), total, chunks)
    if whole * size < n_samples:
        total = add(total, samples[whole * size :])
    scale, values = total
    return scale, jax.tree.map(lambda value: value / n_samples, values)


def even_chunks(count: int, at_most: int) -> int:
    """The size of the chunks that split `count` evenly into as few as `at_most` allows: 10 by 8 goes as 5 and 5."""
    chunks = -(-count // at_most)
    return -(-count // chunks)


def _sum(scales, values):
    top = scales.max()
    factors = jnp.exp(scales - top)
    return top, jax.tree.map(lambda value: jnp.tensordot(factors, value, 1, precision="highest"), values)


def _join(a, b):
    top = jnp.maximum(a[0], b[0])
    fa, fb = jnp.exp(a[0] - top), jnp.exp(b[0] - top)
    return top, jax.tree.map(lambda va, vb: fa * va + fb * vb, a[1], b[1])
