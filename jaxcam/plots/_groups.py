"""A figure of mean maps by group of images."""

from collections.abc import Hashable, Mapping, Sequence

import jax.typing
import numpy as np
from matplotlib.figure import Figure

from jaxcam.plots._drawing import checked_drawing
from jaxcam.plots._layout import Panel, panel_grid
from jaxcam.plots._picture import ValueRange


def mean_maps(
    images: Sequence[jax.typing.ArrayLike] | np.ndarray,
    maps_by_name: Mapping[str, Sequence[jax.typing.ArrayLike] | np.ndarray | jax.Array],
    groups: Sequence[Hashable],
    *,
    alpha: float = 0.5,
    value_range: ValueRange | None = None,
) -> Figure:
    """One row for each group of images: their mean, then over it the mean of their maps, for each name.

    Each map is divided by its maximum, so that all images count alike; a map of zeros counts as zeros.

    Args:
      images: `[n h w 3]`, of one size, in any range that `as_picture` knows.
      maps_by_name: for each name, such as a method, the maps of the n images, `[n h' w']`.
      groups: the group of each image, such as its class.
      alpha: opacity of the maps.
      value_range: the values of the image that are drawn black and white, such as `(-1, 1)`. By default `as_picture`
        says which.

    Raises:
      ValueError: numbers of images, maps and groups differ.

    Example:
      >>> import jaxcam.plots
      >>> images, saliency = np.zeros([4, 8, 8, 3]), np.ones([4, 2, 2])
      >>> figure = jaxcam.plots.mean_maps(images, {"Grad-CAM": saliency}, ["cat", "dog", "cat", "cat"])
      >>> [axes.get_title() for axes in figure.axes[:4]]
      ['cat, 3 images', 'Grad-CAM', 'dog, 1 image', 'Grad-CAM']
    """
    labels = list(groups)
    for name, count in [("images", len(images)), *((f"maps of {name}", len(m)) for name, m in maps_by_name.items())]:
        if count != len(labels):
            raise ValueError(f"expected one group for each image, got {len(labels)} groups and {count} {name}")
    pictures, rows = [], []
    for group in dict.fromkeys(labels):
        members = np.array([label == group for label in labels])
        count = int(members.sum())
        panels: list[Panel] = [(f"{group}, {count} image{'s' if count > 1 else ''}", None)]
        panels += [(name, _mean_of_scaled(np.asarray(stack)[members])) for name, stack in maps_by_name.items()]
        pictures.append(np.asarray(images, np.float32)[members].mean(0))
        rows.append(panels)
    return panel_grid(pictures, rows, checked_drawing(alpha=alpha), value_range=value_range)


def _mean_of_scaled(stack):
    """The mean of maps that are divided by their maxima."""
    tops = stack.reshape(len(stack), -1).max(1).reshape(-1, *[1] * (stack.ndim - 1))
    return np.divide(stack, tops, out=np.zeros(stack.shape), where=tops > 0).mean(0)
