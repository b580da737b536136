"""TODO."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Score = Callable[[Any, Any], jax.Array]
Image = jax.Array | np.ndarray
Target = jax.Array | int | None
Baseline = jax.Array | np.ndarray | float
Method = Callable[..., jax.Array]
