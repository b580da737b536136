"""The options of `jaxcam.cut` for type checkers, which several overloads share; `cut` documents them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import jax


class CutOptions(TypedDict, total=False):
    """The keyword arguments of `jaxcam.cut`."""

    image_shape: Sequence[int] | None
    inputs: Sequence[Any] | Mapping[str, Any]
    image: int | str
    output: str | Callable[[Any], Any] | None
    method: str
    after: Callable[[jax.Array], jax.Array] | None
    channel_axis: int
    image_channel_axis: int | None
    grid: Sequence[int] | None
    prefix: int
    suffix: int
    batched: bool
    strip_activation: bool
    through_stop_gradient: bool
