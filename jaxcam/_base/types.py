"""Types that signatures share."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# One example, floats `[*spatial c]`, without a batch axis.
Image = jax.Array | np.ndarray
# What the score takes second; None is the class of the largest output.
Target = Any
# `(outputs, target) -> scalar`.
Score = Callable[[Any, Any], jax.Array]
# `(cut, image, target, [key]) -> map`.
Method = Callable[..., jax.Array]
# What stands where an image is removed: a number, or an array that broadcasts to the image.
Baseline = jax.Array | np.ndarray | float
