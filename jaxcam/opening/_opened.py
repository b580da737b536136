"""A network that is ready for photographs: its cut, its preprocessing, the names of its classes, its layer and size.

>>> import jaxcam
>>> opened = jaxcam.open_model("digits")
>>> print(opened)
digits: 10 classes, layer block3_conv2, images 64 x 64, values 0..1, fit square
>>> opened.at_layer("block2_conv2").layer
'block2_conv2'
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import datasets
from jaxcam._base import checks
from jaxcam.cutting import (
    Cut,
    LayerDescriptions,
    activations,
    cut,
    describe_layers,
    functional_model,
    output_kind,
    without_last_activation,
)
from jaxcam.opening._named_functions import is_name, named_function
from jaxcam.opening._preprocessing import (
    NEED_COLORS,
    AsNetworkInput,
    Preprocessing,
    Values,
    loader,
    named_preprocessing,
    of_pictures,
    unchanged,
)
from jaxcam.opening._source import FoundModel, ModelSource, model_source

DEFAULT = "efficientnet_lite0"
DEFAULT_FIT = "square"
LAST_ACTIVATIONS = {"probabilities": "softmax", "sigmoids": "sigmoid"}


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A network that is ready for photographs; `jaxcam.open_model` makes one.

    Attributes:
      name: what it was opened by.
      cut: takes RGB in 0..1, `[*input_size 3]`, whatever the network takes, and returns logits.
      layer: where the network is cut.
      class_names: one for each class; its number as text if the names are not known.
      input_size: the height and width of the images.
      preprocessing: what happens to a picture before the network sees it. The values change inside of the cut.
      last_activation: "softmax" or "sigmoid" if the network ends in one, which the cut leaves out.
    """

    name: str
    cut: Cut
    layer: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    preprocessing: Preprocessing
    last_activation: str | None
    _at_layer: Callable[[str], "OpenedModel"] = field(repr=False)

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """A picture file as the cut takes it, `[*input_size 3]`, RGB in 0..1."""
        return self.load(path)

    @property
    def load(self) -> Callable[[Any], np.ndarray]:
        """The function `read` for `jaxcam.explain_batch(..., load=)`, which records it."""
        return loader(self.input_size, self.preprocessing.fit)

    def at_layer(self, layer: str) -> "OpenedModel":
        """The same network, cut at another layer."""
        return self._at_layer(layer)

    def __str__(self) -> str:
        height, width = self.input_size
        values, fit, _ = self.preprocessing
        return (
            f"{self.name}: {len(self.class_names)} classes, layer {self.layer}, images {height} x {width}, values "
            f"{values}, fit {fit}"
        )


class _Input(NamedTuple):
    """What a network takes, and how it is made of a picture.

    Attributes:
      size: height and width.
      shape: of the network's image.
      as_input: from a picture to the network's image.
      preprocessing: described.
    """

    size: tuple[int, int]
    shape: tuple[int, ...]
    as_input: AsNetworkInput
    preprocessing: Preprocessing


def open_model(
    model: Any = DEFAULT,
    *,
    layer: str | None = None,
    weights: str | os.PathLike | None = None,
    classes: str | os.PathLike | Sequence[str] | None = None,
    preprocess: str | Values | None = None,
    fit: str = DEFAULT_FIT,
    input_size: int | Sequence[int] | None = None,
    output: str | Callable[[Any], Any] | None = None,
    after: str | Callable[[jax.Array], jax.Array] | None = None,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    channel_axis: int = -1,
    image_channel_axis: int = -1,
    activation: Callable[[jax.Array], jax.Array] | None = None,
) -> OpenedModel:
    """Opens a network by its name: cuts it, and finds its preprocessing and the names of its classes.

    Args:
      model: one of

        - a network of jaxcam's: "efficientnet_lite0", whose ImageNet weights are installed with jaxcam, `_lite1`,
          `_lite2`; "vgg16", whose weights are downloaded once, "vgg11", "vgg13", "vgg19"; "vgg", whichever VGG is in a
          file; "digits", the embedded network.
        - "keras:ResNet50", any application of Keras, with its own preprocessing and ImageNet's names.
          "keras:ResNet50:weights=none" draws its weights at random, and "keras:ResNet50:weights=FILE" reads a file.
        - the path of a `.keras` or `.h5` file. Nothing in a file is executed: a Lambda layer is refused.
        - "package.module:function", a function without arguments that returns a model, a `(linen_module, variables)`
          pair or a `Cut`. Modules of the current folder count.
        - a model, a pair or a `Cut` itself.
      layer: where to cut; defaults to the layer that `jaxcam.describe_layers` recommends.
      weights: of jaxcam's networks and Keras's applications: a file, "imagenet", or "none" for random ones.
      classes: the names of the classes, a text file with one per line, or "imagenet". Defaults to what the network
        knows.
      preprocess: what happens to RGB in 0..1: "0..1" (nothing), "-1..1", "0..255", "imagenet" (mean and standard
        deviation, as in PyTorch), "caffe" (BGR in 0..255 without the mean), a function of `[h w 3]`, or its name,
        "module:function". By default the network says it; of a file or a function it is 0..1, or 0..255 if a Keras
        model rescales its images, and `preprocessing.assumed` is True.
      fit: how a picture is fitted to the input's size: "square" takes the largest square in the center, "crop" a
        smaller one, as networks are evaluated on ImageNet, "stretch" squashes the whole picture, and "pad" keeps the
        whole picture at its aspect.
      input_size: the side of the images, or `(h, w)`; needed if the model does not say it.
      output, after, grid, prefix, channel_axis: as in `jaxcam.cut`. `after` may be a name in `jax.nn`, or
        "module:function".
      image_channel_axis: 0 if the model takes images `[3 h w]`.
      activation: replaces the activation of jaxcam's own networks.

    Returns:
      An `OpenedModel`.

    Raises:
      FileNotFoundError: no such file.
      OSError: weights cannot be downloaded.
      TypeError, ValueError: in one line, what is wrong with the name, the file, the model or an option.

    Example:
      >>> import jaxcam
      >>> opened = jaxcam.open_model("digits")
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> jaxcam.grad_cam(opened.cut, image).shape, opened.class_names[3]
      ((16, 16), '3')
    """
    source = model if isinstance(model, ModelSource) else model_source(model, weights=weights, activation=activation)
    names = read_class_names(classes)
    if names is not None and source.class_names is not None:
        _check_count(names, len(source.class_names))
    _check_fit(fit)
    found = source.build()
    options = _cut_options(after, output=output, grid=grid, prefix=prefix, channel_axis=channel_axis)
    taken = _input(source.name, found, input_size, preprocess, fit, image_channel_axis)

    @functools.cache  # a cut at a layer is traced once, for any number of pictures
    def at_layer(layer: str | None) -> OpenedModel:
        made, last_activation = _logits_cut(source.name, found, layer, taken, options)
        count = _class_count(source.name, made, taken.size)
        own = found.class_names if found.class_names is None or len(found.class_names) == count else None
        if names is not None:
            _check_count(names, count)
        class_names = names or own or tuple(map(str, range(count)))
        return OpenedModel(
            source.name, made, made.layer, class_names, taken.size, taken.preprocessing, last_activation, at_layer
        )

    return at_layer(layer)


def describe_source(
    source: ModelSource,
    *,
    input_size: int | Sequence[int] | None = None,
    output: str | Callable[[Any], Any] | None = None,
    channel_axis: int = -1,
    image_channel_axis: int = -1,
) -> LayerDescriptions:
    """The layers of a network that is not opened yet, as `jaxcam.describe_layers` describes them.

    Raises:
      ValueError: it is a `Cut`, which has one layer, or the size of its images is not known.
    """
    found = source.build()
    if isinstance(found.model, Cut):
        raise ValueError(f"{source.name} is a Cut, which has one layer: {found.model.layer!r}")
    taken = _input(source.name, found, input_size, "0..1", "stretch", image_channel_axis)
    return describe_layers(
        found.model,
        taken.shape,
        output=output,
        channel_axis=channel_axis,
        image_channel_axis=taken.as_input.channel_axis,
    )


def read_class_names(classes: str | os.PathLike | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of classes: of ImageNet, in a file, or as they are."""
    if classes is None or not isinstance(classes, str | os.PathLike):
        return None if classes is None else tuple(classes)
    return datasets.imagenet_classes() if classes == "imagenet" else datasets.class_names(classes)


def _check_fit(fit: str) -> None:
    """Raises a ValueError if there is no such fit."""
    if fit not in datasets.FITS:
        raise ValueError(f"expected fit to be one of {', '.join(datasets.FITS)}, got {fit!r}")


def _check_count(names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise ValueError(f"expected a name for each of the network's {count} classes, got {len(names)} names")


def _cut_options(after: str | Callable[[jax.Array], jax.Array] | None, **options: Any) -> dict[str, Any]:
    if isinstance(after, str):
        if is_name(after):
            after = named_function(after)
        elif not callable(getattr(jax.nn, after, None)):
            raise ValueError(f"no function {after!r} in jax.nn for after: give one such as relu, or module:function")
        else:
            after = getattr(jax.nn, after)
    return {**options, "after": after}


def _input(
    name: str,
    found: FoundModel,
    input_size: int | Sequence[int] | None,
    preprocess: str | Values | None,
    fit: str,
    image_channel_axis: int,
) -> _Input:
    """What a network takes.

    Raises:
      ValueError: the size of its images is not known, or it does not take pictures.
    """
    shape = found.image_shape
    axis: int | None = image_channel_axis
    if isinstance(found.model, Cut):
        axis = found.model.image_channel_axis
    elif shape is not None and len(shape) == 2:
        axis = None
    elif shape is not None and shape[-1] not in (1, 3) and shape[0] in (1, 3):
        axis = 0
    channels = 3 if shape is None or axis is None else shape[axis]
    if axis is not None and channels not in (1, 3):
        raise ValueError(f"{name} takes images of shape {shape}: expected 1 or 3 channels, got {channels}")
    size = _size(name, found, input_size, axis)
    is_gray = axis is None or channels == 1
    assumed = preprocess is None and found.values is None
    values_name, values = (
        named_preprocessing(preprocess) if preprocess is not None else found.values or ("0..1", unchanged)
    )
    if is_gray and values_name in NEED_COLORS:
        raise ValueError(f"{name} takes images without colors: preprocess {values_name!r} needs three channels")
    as_input = AsNetworkInput(values, is_gray, axis)
    struct = _checked_image(as_input, size, values_name)
    return _Input(size, struct.shape, as_input, Preprocessing(values_name, fit, assumed))


def _size(name: str, found: FoundModel, input_size: int | Sequence[int] | None, axis: int | None) -> tuple[int, int]:
    if input_size is not None:
        sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if len(sides) != 2:
            raise ValueError(f"expected one or two integers for input_size, got {input_size}")
        for side in sides:
            checks.check_count("input_size", side, at_least=1)
        return int(sides[0]), int(sides[1])
    shape = found.image_shape
    spatial = shape if shape is None or axis is None else [*shape[: axis % len(shape)], *shape[axis % len(shape) + 1 :]]
    if spatial is None or len(spatial) != 2 or None in spatial:
        if not isinstance(found.model, Cut):
            _check_model(name, found.model)
        raise ValueError(f"{name} does not say the size of its images: give input_size (--input-size), such as 224")
    return int(spatial[0] or 0), int(spatial[1] or 0)


def _check_model(name: str, model: Any) -> None:
    """Raises a TypeError if this is no model."""
    try:
        functional_model(model)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error


def _checked_image(as_input: AsNetworkInput, size: tuple[int, int], name: str) -> jax.ShapeDtypeStruct:
    """The shape of the network's image, for which the preprocessing is traced."""
    picture = jax.ShapeDtypeStruct((*size, 3), jnp.float32)
    try:
        struct = jax.eval_shape(as_input, picture)
    except Exception as error:  # of a user's function
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
        raise ValueError(f"preprocess {name!r} does not take an image [h w 3] of JAX: {reason}") from error
    if not isinstance(struct, jax.ShapeDtypeStruct):
        raise ValueError(f"preprocess {name!r} returned {type(struct).__name__}: expected an image")
    return struct


def _logits_cut(
    name: str, found: FoundModel, layer: str | None, taken: _Input, options: Mapping[str, Any]
) -> tuple[Cut, str | None]:
    """The cut of pictures that returns logits, and the activation that was taken off."""
    if isinstance(found.model, Cut):
        made = found.model
        if layer not in (None, made.layer):
            raise ValueError(f"{name} is a Cut at {made.layer!r}: it has no layer {layer!r}")
        given = [option for option, value in options.items() if value not in (None, 0, -1)]
        if given:
            raise ValueError(f"{name} is a Cut, which takes no {given[0]}: give it in the function that makes the cut")
    else:
        axis = taken.as_input.channel_axis
        try:
            made = cut(found.model, layer, image_shape=taken.shape, image_channel_axis=axis, **options)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from error
    struct = jax.ShapeDtypeStruct(taken.shape, jnp.float32)
    try:
        last_activation = LAST_ACTIVATIONS.get(output_kind(made, struct))
        if last_activation is not None:
            made = without_last_activation(made)
            made = _with_outputs(made, output_kind(made, struct))
    except TypeError as error:
        raise ValueError(
            f"{name} does not take images of shape {taken.shape}: {' '.join(str(error).split())}"
        ) from error
    return of_pictures(made, taken.as_input), last_activation


def _with_outputs(made: Cut, kind: str) -> Cut:
    return Cut(made.params, made.features, made.head, made.layer, made.reads_input, kind, made.image_channel_axis)


def _class_count(name: str, made: Cut, size: tuple[int, int]) -> int:
    """The number of classes.

    Raises:
      ValueError: the layer has no map, or the outputs are not `[classes]`.
    """
    A, outputs = jax.eval_shape(activations, made, jax.ShapeDtypeStruct((*size, 3), jnp.float32))
    shape = A[made.layer].shape
    if len(shape) != 3:
        raise ValueError(
            f"layer {made.layer!r} of {name} has no map, it returns {shape}: choose a convolution or a "
            "pooling, or give grid=(h, w) for tokens"
        )
    if getattr(outputs, "ndim", None) != 1:
        raise ValueError(
            f"{name} returns {checks.describe_shapes(outputs)}: expected logits [classes]; output "
            "names the part to explain"
        )
    return outputs.shape[0]
