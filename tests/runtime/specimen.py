"""A small network, images, and a method with its twin in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(2)
RNG = np.random.default_rng(0)
SMALL = RNG.uniform(0, 1, (10, 6, 5, 3)).astype(np.float32)


def weighted(cut, image, target, key, *, std=0.1):
    """A method that is not one of ours: Grad-CAM in one line, with noise on the image."""
    if target is None:
        target = cut.head(cut.params, cut.features(cut.params, image), image).argmax()
    A = cut.features(cut.params, image + std * jax.random.normal(key, image.shape))
    return jnp.maximum(A @ cut.params["dense"][:, target], 0)


def by_hand(cut, image, target, key, std=0.1):
    """The same in NumPy."""
    kernel, dense = (np.asarray(cut.params[name]) for name in ("kernel", "dense"))
    if target is None:
        target = (np.maximum(image @ kernel, 0).mean((0, 1)) @ dense).argmax()
    noisy = image + std * np.asarray(jax.random.normal(key, image.shape))
    return np.maximum(np.maximum(noisy @ kernel, 0) @ dense[:, target], 0)


def check(found, cut, images, targets=None):
    assert len(found.maps) == len(images) and not found.failed
    for i, (image_map, image) in enumerate(zip(found.maps.values(), images, strict=True)):
        image_map = image_map if isinstance(image_map, np.ndarray) else np.load(image_map)
        wanted = by_hand(cut, image, None if targets is None else targets[i], jax.random.fold_in(KEY, i))
        np.testing.assert_allclose(image_map, wanted, atol=1e-5)
