"""What users keep images in: dictionaries, arrays of paths, views; and what is not a sequence of images, in one line.

>>> as_sequence({"cat": "cat.png", "dog": "dog.png"}, None, load=None)
(['cat.png', 'dog.png'], ['cat', 'dog'])
>>> as_sequence(np.array(["cat.png", "dog.png"]), None, load=None)
(['cat.png', 'dog.png'], None)
"""

import os
from collections.abc import Callable, Mapping, Set, ValuesView
from typing import Any

import jax
import numpy as np

from jaxcam.cutting import Cut, check_target
from jaxcam.formulas import scores

PAIRS = (
    "give images=[image for image, label in pairs], and targets=[label for image, label in pairs] to explain the labels"
)


def as_sequence(images: Any, names: Any, *, load: Callable[[Any], Any] | None) -> tuple[Any, Any]:
    """Images as an array, a sequence that has a length and is indexed by numbers, or another iterable, and their names.

    A dictionary holds the images by name. An array of paths or of objects becomes a list.

    Raises:
      TypeError: a path, or a set, which has no order; a dictionary of a batch's parts; an element that is no image,
        such as an image with its label, if there is no `load`.
      ValueError: a dictionary with `names`.
    """
    if is_path(images) or isinstance(images, bytes):
        raise TypeError(
            f"expected a sequence of images, such as sorted(pathlib.Path(...).iterdir()), got {str(images)!r}"
        )
    if isinstance(images, Mapping):
        if names is not None:
            raise ValueError("expected names= or a dictionary of images by name, got both")
        if load is None:
            _check_dictionary(images)
        names, images = [str(name) for name in images], list(images.values())
    elif isinstance(images, ValuesView):
        images = list(images)
    elif isinstance(images, Set) or not hasattr(images, "__iter__" if not _is_indexed(images) else "__len__"):
        raise TypeError(f"expected a sequence or an iterable of images in order, got a {type(images).__name__}")
    elif not _is_indexed(images):
        return images, names
    elif getattr(images, "ndim", None) == 1:  # paths, or images of several shapes
        array = np.asarray(images)
        images = [os.fsdecode(path) for path in array] if array.dtype.kind == "S" else array
        images = array.tolist() if array.dtype.kind in "OUT" else images
    if load is None and not hasattr(images, "ndim") and len(images):
        check_element(_first(images))
    return images, names


def _is_indexed(images):
    return hasattr(images, "__len__") and hasattr(images, "__getitem__")


def is_path(element: Any) -> bool:
    """Whether an element of a sequence is a path."""
    return isinstance(element, str | os.PathLike)


def check_element(element: Any) -> None:
    """Raises a TypeError if an element is an image with something else: its label, or an example of a data set."""
    if isinstance(element, Mapping):
        keys = ", ".join(map(repr, element))
        raise TypeError(
            f"expected an image, got a dictionary with {keys}: give load=lambda example: example['image'], or the key "
            "that the image has"
        )
    if hasattr(element, "image") and isinstance(element, tuple):
        raise TypeError(
            "expected an image, got an example of a data set: give load=lambda example: "
            "jaxcam.datasets.load(example, (224, 224)).image, with the model's height and width"
        )
    if not isinstance(element, tuple | list):
        return
    axes = {getattr(part, "ndim", 0) for part in element}
    if isinstance(element, tuple) or len(axes) > 1 or any(map(is_path, element)):  # other lists are arrays
        raise TypeError(f"expected an image, got a {type(element).__name__} of {len(element)}: {PAIRS}")


def check_axes(cut: Cut, images: Any) -> None:
    """Raises a ValueError if the images are one image, or a sequence of batches, as far as the model tells.

    Args:
      cut: a `Cut`.
      images: an array, or a sequence whose first element may be an array.
    """
    first: Any = _first(images) if len(images) else None
    if not hasattr(first, "shape") or not hasattr(first, "dtype") or not len(first.shape) or _takes(cut, first):
        return
    shape = list(np.shape(first))
    if hasattr(images, "ndim") and _takes(cut, images):
        raise ValueError(f"expected images [n *image], got one image {list(images.shape)}: give images[None]")
    if shape[0] and _takes(cut, first[0]):
        kind = f"an array {list(images.shape)}" if hasattr(images, "ndim") else f"a sequence of arrays {shape}"
        raise ValueError(
            f"expected images [n *image], or a sequence of images, got {kind}, while the model takes an image "
            f"{shape[1:]}: give each batch to a call of its own, with names="
        )


def _check_dictionary(images):
    """Raises a TypeError if a dictionary holds the parts of a batch, such as its images and its labels."""
    for name, value in images.items():
        if not is_path(value) and not isinstance(value, Mapping | tuple | list) and np.ndim(value) < 2:
            raise TypeError(
                f"expected a dictionary of images by name, got {name!r} of shape {list(np.shape(value))}: of a batch "
                "with labels, give images=batch['image'], and targets=batch['label'] to explain the labels"
            )


def _first(images):
    """The first element; None if it cannot be loaded, which is reported when its turn comes."""
    try:
        return images[0]
    except Exception:
        return None


def _takes(cut, image):
    """Whether the model takes an image of this shape, and its outputs are `[classes]`."""
    sample: Any = jax.ShapeDtypeStruct(np.shape(image), jax.dtypes.canonicalize_dtype(image.dtype))
    try:
        check_target(cut, sample, None, scores.logit)
    except Exception:  # a model says in its own way that it does not take a shape
        return False
    return True
