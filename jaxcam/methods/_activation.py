"""The clean activation at the layer of a cut, for methods that need one layer."""

from typing import Any

import jax

from jaxcam._base.types import Image, Target
from jaxcam.cutting import Cut, activations, check_spatial, resolve_target


def activation_and_target(cut: Cut, image: Image, target: Target) -> tuple[jax.Array, Any, Any]:
    """The activation `[*spatial k]`, the target that the score gets, and whether it is in range."""
    A, outputs = activations(cut, image)
    check_spatial(cut.layer, A[cut.layer])
    return A[cut.layer], *resolve_target(outputs, target)
