"""vmap over classes and over a batch: what the maps have in common is computed once.

python -m examples.classes_and_batches
"""

import functools

import jax
import jax.numpy as jnp

import jaxcam


@jax.jit
def every_class(cut, image):
    """A map for each of the ten classes. The features of the image are computed once."""
    return jax.vmap(functools.partial(jaxcam.grad_cam_pp, cut, image))(jnp.arange(10))


@jax.jit
def every_image(cut, images, targets, keys):
    """A map for each image, class and key of a batch."""
    return jax.vmap(functools.partial(jaxcam.smooth_grad_cam_pp, cut, n_samples=3))(images, targets, keys)


def main():
    """Compute ten maps of one canvas, and one map of each of three canvases."""
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    images = jnp.stack([jaxcam.pretrained.digits_canvas(number)[0] for number in range(3)])
    maps = every_class(cut, images[0])
    print("one image, ten classes:", maps.shape, "largest value of each:", [f"{m.max():.2f}" for m in maps])
    maps = every_image(cut, images, jnp.array([1, 3, 1]), jax.random.split(jax.random.key(0), 3))
    print("three images:", maps.shape)


if __name__ == "__main__":
    main()
