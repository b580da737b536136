"""Gaussian noise on the input, and averages over it that do not grow with the number of samples.

Sample `m` is drawn from `jax.random.fold_in(key, m)`: it is the same noise whatever the chunking, batching or number
of devices.

Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import even_chunks
from jaxcam.tracing import for_loops

SAMPLES_AT_A_TIME = 16


def noisy(
    image: jax.Array, key: jax.Array, sample: jax.Array | int, *, std: jax.Array | float, relative: bool = True
) -> jax.Array:
    """Noisy copy number `sample` of one image: `image + std * (max - min) * normal`.

    Args:
      image: `[...]`, any float array.
      key: a `jax.random.key`.
      sample: which of the key's samples.
      std: standard deviation of the noise as a share of the image's range, as in SmoothGrad; 0.1 to 0.3 is usual.
      relative: False for a std in the image's own units: `image + std * normal`.

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
    f: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]],
    image: jax.Array,
    key: jax.Array,
    *,
    n_samples: int,
    std: jax.Array | float,
    relative: bool = True,
    batch_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
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
      relative: as in `noisy`.
      batch_size: samples at a time, on each device; 16 where absent. The memory knob: it changes the result by rounding
        only.
      mesh: divides the samples over all its devices, whatever its axes are called; None for the device that the image
        is on. It changes the result by rounding only.

    Example:
      >>> f = lambda x, A: (jnp.float32(500.0), A)
      >>> scale, mean = mean_over_noise(jnp.sin, f, jnp.zeros(3), jax.random.key(0), n_samples=20, std=0.1)
      >>> float(scale), mean.shape
      (500.0, (3,))
    """

    def one(m):
        x = noisy(image, key, m, std=std, relative=relative)
        return x, features(x)

    if mesh is None:
        scale, values = _total(one, f, jnp.arange(n_samples), batch_size)
    else:
        scale, values = _divided(one, f, n_samples, batch_size, mesh)
    return scale, jax.tree.map(lambda value: value / n_samples, values)


def _total(one, f, samples, batch_size):
    """The sum over samples of e^scale * values, where `scale, values = f(*one(m))`."""
    count = samples.size
    # Convolutions of one image fill a CPU's cores, and those of several overflow its caches: VGG-16 takes 10% longer a
    # pass at 8 at a time. What follows the features, dense layers for one, gains from a batch everywhere.
    one_by_one = jax.default_backend() == "cpu"

    def add(total, some):
        if size == 1:
            # Without vmap: a branch that is chosen for one sample stays a branch.
            return join(total, f(*one(some[0])))
        inputs = jax.lax.map(one, some) if one_by_one else jax.vmap(one)(some)
        return join(total, _sum(*jax.vmap(f)(*inputs)))

    size = even_chunks(count, batch_size or SAMPLES_AT_A_TIME)
    whole = count // size
    # Like what is added to them, also in that they differ from device to device inside a shard_map of the caller's.
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda m: f(*one(m)), samples[0]))
    total = (jnp.full_like(zero[0], _lowest(zero[0])), zero[1])
    if whole == 1:
        total = add(total, samples[:size])
    else:
        chunks = samples[: whole * size].reshape(whole, size)
        body = for_loops(add)
        total, _ = jax.lax.scan(lambda total, some: (body(total, some), None), total, chunks)
    if whole * size < count:
        total = add(total, samples[whole * size :])
    return total


def _divided(one, f, n_samples, batch_size, mesh):
    """`_total` of all samples, each device of the mesh taking as many; the last of them may count for nothing."""
    axes, each = mesh.axis_names, -(-n_samples // mesh.size)
    if jax.sharding.get_abstract_mesh().empty:
        # Axes that are Explicit would be part of the result's type, which meets none without them.
        mesh = jax.sharding.Mesh(mesh.devices, axes)

    def padded_one(m):
        return m, *one(jnp.minimum(m, n_samples - 1))

    def padded_f(m, x, A):
        scale, values = f(x, A)
        return jnp.where(m < n_samples, scale, _lowest(scale)), values

    def part():
        first = jax.lax.axis_index(axes) * each
        scale, values = _total(padded_one, padded_f, first + jnp.arange(each, dtype=first.dtype), batch_size)
        top = jax.lax.all_gather(scale, axes).max()  # pmax has no derivative
        factor = jnp.exp(scale - top)
        return top, jax.tree.map(lambda value: jax.lax.psum(factor * value, axes), values)

    # Not checked: the functions that are given may hold a loop that was not written for a shard_map. And under jit,
    # which makes arguments of what they close over.
    nothing = jax.sharding.PartitionSpec()
    return jax.jit(jax.shard_map(part, mesh=mesh, in_specs=(), out_specs=nothing, check_vma=False))()


def _lowest(scale):
    return jnp.finfo(scale.dtype).min


def _sum(scales, values):
    top = scales.max()
    factors = jnp.exp(scales - top)
    return top, jax.tree.map(lambda value: jnp.tensordot(factors, value, 1, precision="highest"), values)


def join(a: tuple[jax.Array, Any], b: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
    """The sum of two `(scale, values)`, each to be read as e^scale * values, in the same form."""
    top = jnp.maximum(a[0], b[0])
    fa, fb = jnp.exp(a[0] - top), jnp.exp(b[0] - top)
    return top, jax.tree.map(lambda va, vb: fa * va + fb * vb, a[1], b[1])
