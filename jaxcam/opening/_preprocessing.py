"""From a picture to what a network takes: the fit to the input's size, and the range of the values.

The values change inside of a cut, so that images are RGB in 0..1 for every network: noise, masks and figures know them.

>>> import jax.numpy as jnp
>>> image = jnp.ones([2, 2, 3])
>>> PREPROCESSING["-1..1"](image).max().item(), PREPROCESSING["0..255"](image).max().item()
(1.0, 255.0)
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import datasets
from jaxcam.cutting import Cut
from jaxcam.networks import vgg
from jaxcam.opening._named_functions import is_name, named_function

Values = Callable[[jax.Array], jax.Array]
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in a gray value, as Pillow has them


def unchanged(image: jax.Array) -> jax.Array:
    """RGB in 0..1 as it is."""
    return image


def signed(image: jax.Array) -> jax.Array:
    """RGB in 0..1 to -1..1."""
    return 2 * image - 1


def in_bytes(image: jax.Array) -> jax.Array:
    """RGB in 0..1 to 0..255."""
    return 255 * image


# By the name on the command line: from RGB in 0..1, `[h w 3]`, to the values that a network takes.
PREPROCESSING: dict[str, Values] = {
    "0..1": unchanged,
    "-1..1": signed,
    "0..255": in_bytes,
    "imagenet": vgg.torchvision,
    "caffe": vgg.caffe,
}
NEED_COLORS = ("imagenet", "caffe")


class Preprocessing(NamedTuple):
    """What happens to a picture before a network sees it.

    Attributes:
      values: the name of what happens to the values: one of `PREPROCESSING`, a function's, or "keras:ResNet50".
      fit: how the picture is fitted to the input's size, as in `jaxcam.datasets.load`.
      assumed: whether the values were not given, and the network does not say them.
    """

    values: str
    fit: str
    assumed: bool = False


def named_preprocessing(preprocess: str | Values) -> tuple[str, Values]:
    """The name and the function of a preprocessing.

    Raises:
      TypeError: neither a text nor a function.
      ValueError: no preprocessing of this name.
    """
    if not isinstance(preprocess, str):
        if not callable(preprocess):
            raise TypeError(f"expected a name or a function for preprocess, got {type(preprocess).__name__}")
        return getattr(preprocess, "__name__", type(preprocess).__name__), preprocess
    if preprocess in PREPROCESSING:
        return preprocess, PREPROCESSING[preprocess]
    if is_name(preprocess):
        return preprocess, named_function(preprocess)
    raise ValueError(
        f"no preprocessing {preprocess!r}: choose one of {', '.join(PREPROCESSING)}, or give module:function"
    )


@dataclass(frozen=True)
class AsNetworkInput:
    """From RGB in 0..1, `[h w 3]`, to the image that a network takes.

    Attributes:
      values: what happens to the values.
      gray: whether the network takes one channel.
      channel_axis: the axis of the channels in the network's image; None for an image without channels.
    """

    values: Values
    gray: bool
    channel_axis: int | None

    def __call__(self, image: jax.Array) -> jax.Array:
        """The network's image."""
        image = jnp.asarray(image)
        if self.gray:
            image = (image * jnp.asarray(LUMA, image.dtype).reshape((1, 1, 3))).sum(-1, keepdims=True)
        image = self.values(image)
        return image[..., 0] if self.channel_axis is None else jnp.moveaxis(image, -1, self.channel_axis)


@dataclass(frozen=True)
class OfPicture:
    """A function of a cut whose last argument is RGB in 0..1: `features` or `head`."""

    function: Callable[..., Any]
    as_input: AsNetworkInput

    def __call__(self, params: Any, *arguments: Any) -> Any:
        """The function's value at the network's image."""
        *others, image = arguments
        return self.function(params, *others, self.as_input(image))


def of_pictures(cut: Cut, as_input: AsNetworkInput) -> Cut:
    """The cut that takes RGB in 0..1, `[h w 3]`, and knows of it what `cut` knows."""
    if as_input == AsNetworkInput(unchanged, False, -1):
        return cut
    return Cut(
        cut.params,
        OfPicture(cut.features, as_input),
        OfPicture(cut.head, as_input),
        cut.layer,
        cut.reads_input,
        cut.outputs,
    )


def read_fitted(path: str | os.PathLike, *, shape: tuple[int, int], fit: str = "stretch") -> np.ndarray:
    """A picture file at the size of a network's input, RGB in 0..1, `[*shape 3]`."""
    return np.asarray(datasets.load(datasets.Example(path), shape, fit=fit).image)


def loader(shape: tuple[int, int], fit: str) -> Callable[[Any], np.ndarray]:
    """`read_fitted` with its options bound; "stretch" is left out, as in the records of earlier runs."""
    options = {} if fit == "stretch" else {"fit": fit}
    return functools.partial(read_fitted, shape=shape, **options)
