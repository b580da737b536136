"""Cut a model at a named layer into two pure functions: `features: x -> A` and `head: A -> outputs`.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> A = cut.features(cut.params, image)
    >>> A.shape, cut.head(cut.params, A, image).shape
    ((16, 16, 64), (10,))

Any two pure functions make a cut; neither Flax nor a layer is needed:

    >>> import jax.numpy as jnp
    >>> params = {"kernel": jnp.ones([3, 8]), "classifier": jnp.ones([8, 2])}
    >>> features = lambda params, x: jnp.maximum(x @ params["kernel"], 0)
    >>> head = lambda params, A, x: A.mean((0, 1)) @ params["classifier"]
    >>> mine = jaxcam.Cut(params, features, head)
    >>> jaxcam.cam(mine, jnp.ones([4, 4, 3]), 0).shape
    (4, 4)
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.vgg import VGG


@functools.partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["features", "head", "layer"])
@dataclass(frozen=True, eq=False)
class Cut:
    """A model in two parts, on one example without a batch axis.

    A cut is a pytree whose leaves are the parameters. Pass it to a jitted function as an argument: closed over, the
    parameters become constants of the program, which for VGG-16 takes a gigabyte and seconds to compile.

    Attributes:
      params: any pytree; what the two functions take first.
      features: `(params, x) -> A`, with `A` of shape `[*spatial k]`: channels last, any number of spatial axes.
      head: `(params, A, x) -> outputs`. It takes the input too, for layers that a skip connection bypasses.
      layer: the layer's name, for messages and titles.
    """

    params: Any
    features: Callable[[Any, Any], jax.Array] = field(repr=False)
    head: Callable[[Any, Any, Any], Any] = field(repr=False)
    layer: str = ""

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params) if hasattr(leaf, "size"))
        return f"Cut(layer={self.layer!r}, {count:,} parameters)"


def cut(model: VGG, layer: str) -> Cut:
    """Cut a `VGG` after a named layer, so that `head(features(x))` is the model on one image.

    Args:
      model: a `jaxcam.VGG`. For any other model make the `Cut` from its two halves, as in the module's example.
      layer: a name that `jaxcam.layers(model)` lists, such as "block5_conv3"; its output is after the activation.

    Returns:
      A `Cut`. Cutting equal models at one layer twice gives functions that are the same, so nothing is traced again.

    Raises:
      TypeError: the model is not a VGG.
      ValueError: no such layer; the message lists those there are. When called, `features` raises it for an image of
        another shape than the model's `image_shape`.

    Example:
      >>> import jaxcam
      >>> jaxcam.cut(jaxcam.digits(), "block9_conv1")
      Traceback (most recent call last):
        ...
      ValueError: no layer 'block9_conv1': choose one of block1_conv1, block1_conv2, ..., predictions
    """
    if not isinstance(model, VGG):
        raise TypeError(
            f"cut splits a jaxcam.VGG: got {type(model).__name__}. "
            "For another model give its two halves: jaxcam.Cut(params, features, head)"
        )
    model.check_layer(layer)
    graphdef, params = nnx.split(model)
    features, head = _halves(graphdef, layer)
    return Cut(params, features, head, layer)


def layers(model: VGG) -> dict[str, tuple[int, ...]]:
    """The layers that a model can be cut at, in order, with the shape `[*spatial k]` of their output for one image.

    Nothing is computed.

    Example:
      >>> import jaxcam
      >>> jaxcam.layers(jaxcam.digits())["block3_conv2"]
      (16, 16, 64)
    """
    graphdef, params = nnx.split(model)
    image = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)

    def outputs(params, image):
        return {name: nnx.merge(graphdef, params).features(image, until=name) for name in model.layers}

    shapes = jax.eval_shape(outputs, params, image)
    return {name: shapes[name].shape[1:] for name in model.layers}


@functools.cache
def _halves(graphdef, layer):
    # Cached, because jit knows a function by its identity: cuts of equal models must share their functions.
    def features(params, x):
        model = nnx.merge(graphdef, params)
        _check_image(model, x)
        return model.features(x[None], until=layer)[0]

    def head(params, A, x):
        del x  # a VGG has no path round a layer
        return nnx.merge(graphdef, params).head(A[None], since=layer)[0]

    return features, head


def _check_image(model, image):
    wanted = "[" + " ".join(map(str, model.image_shape)) + "]"
    if image.ndim == 4:
        raise ValueError(
            f"image has shape {image.shape}: {wanted} is wanted, without a batch axis; use jax.vmap for many"
        )
    smallest = 2 ** sum(name.endswith("pool") for name in model.layers)
    anysize = (
        model.top == "average"
        and image.ndim == 3
        and image.shape[-1] == model.image_shape[-1]
        and min(image.shape[:2]) >= smallest
    )
    if image.shape != model.image_shape and not anysize:
        raise ValueError(f"image has shape {image.shape}: {wanted} is wanted")
