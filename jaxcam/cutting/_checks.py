"""Checks of a cut and its layer, which methods and metrics make before they compute anything."""

import difflib
from collections.abc import Sequence
from typing import Any

import jax

from jaxcam.cutting._cut import Cut, Cuts


def check_cut(cut: Any, *, several: bool = False) -> None:
    """Raises a TypeError if `cut` is not a `Cut`, such as a model, or if it is `Cuts` and `several` is not set."""
    if isinstance(cut, Cuts) and not several:
        raise TypeError(
            f"expected a cut at one layer, jaxcam.cut(model, layer), got one at several: {', '.join(cut.layers)}"
        )
    if not isinstance(cut, Cut | Cuts):
        raise TypeError(f"{type(cut).__name__} is not a Cut: make one with jaxcam.cut(model, layer)")


def check_spatial(layer: str | None, A: jax.Array) -> None:
    """Raises a ValueError if an activation has no spatial axes, so that it has no map."""
    if A.ndim < 2:
        raise ValueError(
            f"{layer or 'this cut'!r} gives {list(A.shape)}: a map needs at least one spatial axis, [*spatial k]"
        )


def layer_choices(layer: str, names: Sequence[str]) -> str:
    """What a message says about a layer that is not there: all names, or the nearest of many and the last."""
    names = list(dict.fromkeys(name.split("[")[0] for name in names))
    if len(names) <= 24:
        return f"choose one of {', '.join(names)}"
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0) + names[-1:]
    return f"choose one of {len(names)} that jaxcam.layers lists, such as {', '.join(dict.fromkeys(near))}"
