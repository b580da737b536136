"""Controls: maps that explain nothing, in the form of methods. A method that does not beat them explains nothing.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> random(cut, image, None, jax.random.key(0)).shape, float(all_ones(cut, image).min())
    ((16, 16), 1.0)

Each uses less information than a method: the mean activation depends on the image and the layer but not on the class,
and the others depend on neither. `jaxcam.grad_cam_plus` is the fifth control: it uses only the positive gradients.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import relu
from jaxcam._base.types import Image, Target
from jaxcam.cutting import Cut, activations, check_spatial
from jaxcam.methods._call import explanation_method


@explanation_method()
def all_ones(cut: Cut, image: Image, target: Target = None) -> jax.Array:
    """1 everywhere, `[*spatial]`. Masking by it changes nothing, so its Average Drop is 0, the best value.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> float(all_ones(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).mean())
      1.0
    """
    return jnp.ones(_map_shape(cut, image), jnp.float32)


@explanation_method()
def center_gaussian(cut: Cut, image: Image, target: Target = None) -> jax.Array:
    """A Gaussian at the image's center, `[*spatial]`, std a quarter of each side: photographs show their subject there.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> float(center_gaussian(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image)[0, 0]) < 0.03
      True
    """
    shape = _map_shape(cut, image)
    grid = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 4) for n in shape), indexing="ij")
    return jnp.asarray(np.exp(-np.square(grid).sum(0) / 2), jnp.float32)


centre_gaussian = center_gaussian  # the name of earlier versions


@explanation_method()
def random(cut: Cut, image: Image, target: Target = None, key: jax.Array | None = None) -> jax.Array:
    """Uniform noise in 0..1, drawn for each location of the layer, `[*spatial]`, at the resolution of its maps.

    Raises:
      ValueError: there is no key.

    Example:
      >>> import jax, jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> random(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image, None, jax.random.key(0)).shape
      (16, 16)
    """
    if key is None:
        raise ValueError("a random map needs a key: jax.random.key(0)")
    return jax.random.uniform(key, _map_shape(cut, image))


@explanation_method()
def mean_activation(cut: Cut, image: Image, target: Target = None) -> jax.Array:
    """relu(mean over channels of A), `[*spatial]`: where the layer is active, whatever the class.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> mean_activation(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    A = cut.features(cut.params, jnp.asarray(image))
    check_spatial(cut.layer, A)
    return relu(A.mean(-1))


def _map_shape(cut, image):
    """The shape of a map; nothing is computed."""
    A = jax.eval_shape(lambda: activations(cut, jnp.asarray(image))[0][cut.layer])
    check_spatial(cut.layer, A)
    return A.shape[:-1]
