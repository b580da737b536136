"""VGG in Flax NNX, built to come apart at every layer.

A VGG is a list of named layers, so it splits by construction: `model.features(x, until=layer)` runs the layers
up to and including `layer`, and `model.head(activation, since=layer)` runs the ones after it. The names are
those of Keras (`block5_conv3`, `fc1`, `predictions`), and a layer's output is the value *after* its activation, as
in the papers.

    >>> import jax, jaxcam
    >>> model = jaxcam.digits()
    >>> A = model.features(jax.numpy.zeros([1, 64, 64, 3]), until="block3_conv2")
    >>> A.shape, model.head(A, since="block3_conv2").shape
    ((1, 16, 16, 64), (1, 10))

Images are floats in 0..1, RGB, `[b h w 3]`; the `preprocess` of a model turns them into what its weights expect.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, Table 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.cutting import Cut, Cuts, MadeFunction, Memo, Recipe, SelfCutting
from jaxcam.networks._parts import checked_class_names

Activation = Callable[[jax.Array], jax.Array]
_cut_functions = Memo()

# The convolutions of each block, by the number of layers with weights: Table 1's configurations A, B, D and E.
DEPTHS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def caffe(image: jax.Array) -> jax.Array:
    """RGB in 0..1 to BGR in 0..255 less the ImageNet mean: what the Oxford weights, and so Keras's, expect."""
    mean = jnp.array([103.939, 116.779, 123.68], image.dtype)
    return 255 * image[..., ::-1] - mean.reshape((1,) * (image.ndim - 1) + (3,))


def torchvision(image: jax.Array) -> jax.Array:
    """RGB in 0..1 less the ImageNet mean, over its standard deviation: what torchvision's and timm's weights expect."""
    one = (1,) * (image.ndim - 1)
    mean = jnp.array([0.485, 0.456, 0.406], image.dtype).reshape(*one, 3)
    std = jnp.array([0.229, 0.224, 0.225], image.dtype).reshape(*one, 3)
    return (image - mean) / std


class VGG(nnx.Module, SelfCutting):
    """A VGG network as a sequence of named layers.

    Args:
      blocks: for each block, the channels of its 3 x 3 convolutions; a 2 x 2 max pooling ends each block.
      dense: the widths of the hidden fully connected layers `fc1`, `fc2`, ...
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, channels)` of one image.
      top: "dense" flattens the last pooling into the fully connected layers, as VGG does; "average" replaces the
        last pooling and the hidden layers by global average pooling, the network of the CAM paper.
      activation: the elementwise function after each convolution and each hidden layer. The closed form of
        Grad-CAM++ is exact where it is piecewise linear (relu) and an approximation where it is not (gelu, silu).
      preprocess: applied to the image first, `[b h w c] -> [b h w c]`; None for nothing.
      class_names: one for each output, in the order of the classes; None where they are not known.
      rngs: where the initial parameters come from (He et al. 2015, normal).
    """

    def __init__(
        self,
        *,
        blocks: Sequence[Sequence[int]],
        dense: Sequence[int] = (4096, 4096),
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        top: str = "dense",
        activation: Activation = jax.nn.relu,
        preprocess: Activation | None = None,
        class_names: Sequence[str] | None = None,
        rngs: nnx.Rngs,
    ):
        if top not in ("dense", "average"):
            raise ValueError(f"expected 'dense' or 'average' for top, got {top!r}")
        height, width, channels = image_shape
        shrink = 2 ** len(blocks)
        if height < shrink or width < shrink:
            raise ValueError(
                f"expected images of at least {shrink} x {shrink} for {len(blocks)} poolings, got {image_shape}"
            )
        self.image_shape = tuple(image_shape)
        self.class_names = checked_class_names(class_names, classes)
        self.activation = activation
        self.preprocess = preprocess
        self.top = top
        names = []

        def add(name, layer=None):
            names.append(name)
            if layer is not None:
                setattr(self, name, layer)

        he = nnx.initializers.he_normal()
        for b, widths in enumerate(blocks, start=1):
            for c, width_ in enumerate(widths, start=1):
                add(f"block{b}_conv{c}", nnx.Conv(channels, width_, (3, 3), kernel_init=he, rngs=rngs))
                channels = width_
            if b < len(blocks) or top == "dense":
                add(f"block{b}_pool")
        if top == "dense":
            size = channels * math.prod(side // shrink for side in (height, width))
            for d, width_ in enumerate(dense, start=1):
                add(f"fc{d}", nnx.Linear(size, width_, kernel_init=he, rngs=rngs))
                size = width_
        else:
            add("average")
            size = channels
        add("predictions", nnx.Linear(size, classes, rngs=rngs))
        self.layers = tuple(names)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w c]`."""
        return self.features(image, until="predictions")

    def features(self, image: jax.Array, *, until: str) -> jax.Array:
        """The output of layer `until`, after its activation, for the images `[b h w c]`."""
        x = image if self.preprocess is None else self.preprocess(image)
        for name in self.layers[: self._index(until) + 1]:
            x = self._apply(name, x)
        return x

    def head(self, activation: jax.Array, *, since: str) -> jax.Array:
        """Logits `[b classes]` from the output of layer `since`: the layers after it."""
        x = activation
        for name in self.layers[self._index(since) + 1 :]:
            x = self._apply(name, x)
        return x

    def cut_at(self, layer: str) -> Cut:
        """The cut at a layer, after its activation.

        Raises:
          ValueError: no such layer; when called, `features` raises it for an image of another shape than the model's.
        """
        self._check_layer(layer)
        graphdef, params = nnx.split(self)
        features, head = _functions(_features_and_head, (graphdef, layer), (self.activation, self.preprocess))
        return Cut(params, features, head, layer, reads_input=False, outputs="logits")

    def cuts_at(self, layers: Sequence[str]) -> Cuts:
        """The cut at several layers, after the activation of each.

        Raises:
          ValueError: as `cut_at`; when called, `tapped` raises it for a delta of another shape than its layer's too.
        """
        layers = tuple(layers)
        for layer in layers:
            self._check_layer(layer)
        graphdef, params = nnx.split(self)
        (tapped,) = _functions(_tapped, (graphdef, layers), (self.activation, self.preprocess))
        return Cuts(params, tapped, layers, outputs="logits")

    def _check_layer(self, layer: str) -> None:
        """Raises a ValueError that lists the layers if `layer` is not one of them."""
        if layer not in self.layers:
            raise ValueError(f"no layer {layer!r}: choose one of {', '.join(self.layers)}")

    def _index(self, layer: str) -> int:
        self._check_layer(layer)
        return self.layers.index(layer)

    def _apply(self, name: str, x: jax.Array) -> jax.Array:
        if name.endswith("pool"):
            return nnx.max_pool(x, (2, 2), strides=(2, 2))
        if name == "average":
            return x.mean((1, 2))
        if name.startswith("block"):
            return self.activation(getattr(self, name)(x))
        x = getattr(self, name)(x.reshape(x.shape[0], -1))
        return x if name == "predictions" else self.activation(x)


def vgg_digits(**options) -> VGG:
    """The small VGG of the embedded default: three blocks, two hidden layers, 64 x 64 images, ten classes."""
    blocks = ((16, 16), (32, 32), (64, 64))
    return VGG(**{
        "blocks": blocks, "dense": (128, 64), "classes": 10, "image_shape": (64, 64, 3), "rngs": nnx.Rngs(0), **options
    })  # fmt: skip


def _functions(make, description, exact) -> tuple[Callable[..., Any], ...]:
    """The functions that `make` makes, the same ones for equal networks; they pickle as what they were made from."""
    return _cut_functions.remembered(_made_functions, (make, description, exact), exact=exact)


def _made_functions(description):
    make, arguments, _ = description
    recipe = Recipe(_functions, *description)
    return tuple(MadeFunction(run, recipe, place) for place, run in enumerate(make(arguments)))


def _features_and_head(description):
    graphdef, layer = description

    def features(params, x):
        model = nnx.merge(graphdef, params)
        _check_image(model, x)
        return model.features(x[None], until=layer)[0]

    def head(params, A, x):
        del x  # no connection of a VGG goes round a layer
        return nnx.merge(graphdef, params).head(A[None], since=layer)[0]

    return features, head


def _tapped(description):
    graphdef, layers = description

    def tapped(params, deltas, x):
        model = nnx.merge(graphdef, params)
        _check_image(model, x)
        for name in deltas:
            if name not in layers:
                raise ValueError(f"deltas has {name!r}: choose one of {', '.join(layers)}")
        value = x[None] if model.preprocess is None else model.preprocess(x[None])
        activations = {}
        for name in model.layers:
            value = model._apply(name, value)
            if name in deltas:
                shape, expected = jnp.shape(deltas[name]), value.shape[1:]
                if shape != expected:
                    raise ValueError(f"expected shape {expected} for deltas[{name!r}], got {shape}")
                value = value + jnp.asarray(deltas[name], value.dtype)[None]
            if name in layers:
                activations[name] = value[0]
        return {layer: activations[layer] for layer in layers}, value[0]

    return (tapped,)


def _check_image(model: VGG, image: jax.Array) -> None:
    """Raises a ValueError if the model does not take an image of this shape.

    With global average pooling it takes any height and width that leave a pixel after the last pooling.
    """
    expected = " ".join(map(str, model.image_shape))
    if image.ndim == 4:
        raise ValueError(
            f"expected an image [{expected}] without a batch axis, got shape {image.shape}: use jax.vmap for many"
        )
    smallest = 2 ** sum(name.endswith("pool") for name in model.layers)
    fits_any_size = (
        model.top == "average"
        and image.ndim == 3
        and image.shape[-1] == model.image_shape[-1]
        and min(image.shape[:2]) >= smallest
    )
    if image.shape != model.image_shape and not fits_any_size:
        raise ValueError(f"expected an image [{expected}], got shape {image.shape}")
