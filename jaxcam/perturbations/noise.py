"""Gaussian noise on the input, and averages over it in memory that does not grow with the number of samples.

Sample `m` is drawn from `jax.random.fold_in(key, m)`, so the noise does not depend on the chunking, the batching or the
number of devices.

Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import even_chunks, on_cpu
from jaxcam.perturbations import _sums
from jaxcam.perturbations._sums import ScaledValues, add_scaled
from jaxcam.tracing import for_loops

SAMPLES_AT_A_TIME = 16


def noisy(
    image: jax.Array, key: jax.Array, sample: jax.Array | int, *, std: jax.Array | float, relative: bool = True
) -> jax.Array:
    """Noisy copy number `sample` of one image: `image + std * (max - min) * normal`.

    Args:
      image: `[...]`, any float array.
      key: a `jax.random.key`.
      sample: the number of the sample among those of the key.
      std: standard deviation of the noise as a share of the image's range, as in SmoothGrad; 0.1 to 0.3 is usual.
      relative: False for a std in the units of the image: `image + std * normal`.

    Example:
      >>> image = jnp.linspace(0, 1, 12).reshape(2, 2, 3)
      >>> noisy(image, jax.random.key(0), 4, std=0.15).shape
      (2, 2, 3)
    """
    std = jnp.asarray(std).astype(image.dtype)
    spread = std * (image.max() - image.min()) if relative else std
    return image + spread * jax.random.normal(jax.random.fold_in(key, sample), image.shape, image.dtype)


def mean_over_noise(
    features: Callable[[jax.Array], jax.Array],
    scaled_values: Callable[[jax.Array, jax.Array], ScaledValues],
    image: jax.Array,
    key: jax.Array,
    *,
    n_samples: int,
    std: jax.Array | float,
    relative: bool = True,
    batch_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> ScaledValues:
    """Mean of e^scale * values over noisy copies x of an image, with `scale, values = scaled_values(x, features(x))`.

    The factors e^scale may be far outside the range of floats (e^500), so the mean is returned in the same form, as
    `(largest scale, values)`, which stands for e^scale * values. Samples are taken `batch_size` at a time and added to
    running sums, so memory does not grow with `n_samples`.

    Args:
      features: from an image to an array; the expensive part.
      scaled_values: from an image and its features to a scalar and a pytree of arrays.
      image: one example.
      key: a `jax.random.key`.
      n_samples: at least 1.
      std: as in `noisy`.
      relative: as in `noisy`.
      batch_size: samples at a time, on each device; defaults to 16. It limits memory and changes the result by rounding
        only.
      mesh: the samples are divided over all devices of the mesh, whatever its axes are called; None for the device that
        holds the image. It changes the result by rounding only.

    Example:
      >>> scaled = lambda x, A: (jnp.float32(500.0), A)
      >>> scale, mean = mean_over_noise(jnp.sin, scaled, jnp.zeros(3), jax.random.key(0), n_samples=20, std=0.1)
      >>> float(scale), mean.shape
      (500.0, (3,))
    """

    def noisy_features(m):
        x = noisy(image, key, m, std=std, relative=relative)
        return x, features(x)

    if mesh is None:
        scale, values = _sum_on_one_device(noisy_features, scaled_values, jnp.arange(n_samples), batch_size)
    else:
        scale, values = _sum_over_mesh(noisy_features, scaled_values, n_samples, batch_size, mesh)
    return scale, _sums.divided(values, n_samples)


def _sum_on_one_device(noisy_features, scaled_values, samples, batch_size):
    """The sum over samples of e^scale * values, with `scale, values = scaled_values(*noisy_features(m))`."""
    # Convolutions of one image fill the cores of a CPU, and those of several overflow its caches: VGG-16 takes 10%
    # longer per pass at 8 at a time. What follows the features, such as dense layers, gains from a batch everywhere.
    features_one_by_one = on_cpu()

    def add_chunk(total, chunk):
        if size == 1:
            # Without vmap, which would turn a branch chosen by one sample into both branches.
            return add_scaled(total, scaled_values(*noisy_features(chunk[0])))
        inputs = jax.lax.map(noisy_features, chunk) if features_one_by_one else jax.vmap(noisy_features)(chunk)
        return add_scaled(total, _sums.weighted_sum(*jax.vmap(scaled_values)(*inputs)))

    size = even_chunks(samples.size, batch_size or SAMPLES_AT_A_TIME)
    whole_chunks = samples.size // size
    # zeros_like and full_like keep the type of the values. Inside a shard_map of the caller it says that they differ
    # from device to device.
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda m: scaled_values(*noisy_features(m)), samples[0]))
    total = (jnp.full_like(zero[0], _lowest(zero[0])), zero[1])
    if whole_chunks == 1:
        total = add_chunk(total, samples[:size])
    else:
        chunks = samples[: whole_chunks * size].reshape(whole_chunks, size)
        body = for_loops(add_chunk)
        total, _ = jax.lax.scan(lambda total, chunk: (body(total, chunk), None), total, chunks)
    if whole_chunks * size < samples.size:
        total = add_chunk(total, samples[whole_chunks * size :])
    return total


def _sum_over_mesh(noisy_features, scaled_values, n_samples, batch_size, mesh):
    """`_sum_on_one_device` of all samples, divided equally over a mesh; samples beyond `n_samples` have weight zero."""
    axes, samples_per_device = mesh.axis_names, -(-n_samples // mesh.size)
    if jax.sharding.get_abstract_mesh().empty:
        # Explicit axes would be part of the result's type, which the caller's arrays lack outside a mesh.
        mesh = jax.sharding.Mesh(mesh.devices, axes)

    def padded_features(m):
        return m, *noisy_features(jnp.minimum(m, n_samples - 1))

    def padded_values(m, x, features_of_x):
        scale, values = scaled_values(x, features_of_x)
        return jnp.where(m < n_samples, scale, _lowest(scale)), values

    def sum_of_all_devices():
        first = jax.lax.axis_index(axes) * samples_per_device
        samples = first + jnp.arange(samples_per_device, dtype=first.dtype)
        return _sums.sum_over_devices(_sum_on_one_device(padded_features, padded_values, samples, batch_size), axes)

    # check_vma=False, because the given functions may contain loops that were not written for a shard_map. Under jit,
    # because it turns the arrays that they close over into arguments.
    replicated = jax.sharding.PartitionSpec()
    summed = jax.shard_map(sum_of_all_devices, mesh=mesh, in_specs=(), out_specs=replicated, check_vma=False)
    return jax.jit(summed)()


def _lowest(scale):
    return jnp.finfo(scale.dtype).min
