"""Controls: maps that explain nothing, in the form of methods. What does not beat them has shown nothing either.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> random(cut, image, None, jax.random.key(0)).shape, float(all_ones(cut, image).min())
    ((16, 16), 1.0)

Each looks at less than a method does: the mean activation at the image and the layer but at no class, the others at
nothing. Grad-CAM+, of `jaxcam.methods`, is the fifth control: gradients, but only their sign and size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.types import Image, Target
from jaxcam.cutting import Cut, activations, check_spatial
from jaxcam.methods._call import method


@method()
def all_ones(cut: Cut, image: Image, target: Target = None) -> jax.Array:
    """1 everywhere, `[*spatial]`: masking by it changes nothing, so its Average Drop is 0, the best there is.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> float(all_ones(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).mean())
      1.0
    """
    return jnp.ones(_shape(cut, image), jnp.float32)


@method()
def centre_gaussian(cut: Cut, image: Image, target: Target = None) -> jax.Array:
    """A Gaussian at the image's centre, `[*spatial]`, std a quarter of each side: photographs are centred.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> float(centre_gaussian(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image)[0, 0]) < 0.03
      True
    """
    shape = _shape(cut, image)
    grid = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 4) for n in shape), indexing="ij")
    return jnp.asarray(np.exp(-np.square(grid).sum(0) / 2), jnp.float32)


@method()
def random(cut: Cut, image: Image, target: Target = None, key: jax.Array | None = None) -> jax.Array:
    """Uniform in 0..1, drawn for each location of the layer, `[*spatial]`: as coarse as the maps beside it.

    Raises:
      ValueError: no key.

    Example:
      >>> import jax, jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> random(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image, None, jax.random.key(0)).shape
      (16, 16)
    """
    if key is None:
        raise ValueError("a random map needs a key: give jax.random.key(0), say")
    return jax.random.uniform(key, _shape(cut, image))


@method()
def mean_activation(cut: Cut, image: Image, target: Target = None) -> jax.Array:
    """relu(mean over channels of A), `[*spatial]`: where the network sees anything, whatever the class.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> mean_activation(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    A = cut.features(cut.params, jnp.asarray(image))
    check_spatial(cut.layer, A)
    return jax.nn.relu(A.mean(-1))


def _shape(cut, image):
    """The map's shape; nothing is computed."""
    A = jax.eval_shape(lambda: activations(cut, jnp.asarray(image))[0][cut.layer])
    check_spatial(cut.layer, A)
    return A.shape[:-1]
