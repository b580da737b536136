"""The colors of a map's values."""

import matplotlib
import numpy as np

from jaxcam.plots._drawing import COLORMAP


def colors(values: np.ndarray) -> np.ndarray:
    """The colors that figures give the values of a map.

    Args:
      values: floats in 0..1, of any shape.

    Returns:
      `[*shape 3]` float32, RGB in 0..1.

    Example:
      >>> colors(np.zeros([2, 2])).shape
      (2, 2, 3)
    """
    return matplotlib.colormaps[COLORMAP](np.asarray(values))[..., :3].astype(np.float32)
