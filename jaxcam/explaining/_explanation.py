"""One explained picture: the maps of a class, drawn on the picture at its own size."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcam.formulas import maps as map_functions
from jaxcam.methods import METHOD_TITLES


class ClassProbability(NamedTuple):
    """A class by its number and its name, and how probable it is."""

    number: int
    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `jaxcam.explain` returns. It shows itself as the last value of a notebook's cell.

    Attributes:
      source: the picture's file, or "the image".
      image: the picture at its own size, `[H W 3]` in 0..1; a very large one is reduced.
      fitted: what the network saw of it, `[h w 3]` in 0..1.
      region: row0, column0, row1, column1 of `fitted` in the pixels of `image`; outside of `image` where it is padded.
      layer: where the network is cut.
      target: the number of the explained class.
      class_name: its name.
      probability: its probability.
      top: the most probable classes, the most probable one first.
      maps: by the method's name its map, `[h' w']` at the layer's resolution.
    """

    source: str
    image: np.ndarray
    fitted: np.ndarray
    region: tuple[float, float, float, float]
    layer: str
    target: int
    class_name: str
    probability: float
    top: tuple[ClassProbability, ...]
    maps: Mapping[str, np.ndarray]

    def on_image(self, name: str) -> np.ma.MaskedArray:
        """The map of a method at the size of `image`, `[H W]`; masked where the network did not see the picture.

        Maps `[m h' w']` of several chosen feature maps give `[m H W]`.
        """
        if name not in self.maps:
            raise ValueError(f"no map {name!r}: choose one of {', '.join(self.maps)}")
        height, width = self.image.shape[:2]
        row0, column0, row1, column1 = (round(side) for side in self.region)
        resized = np.asarray(map_functions.resize(jnp.asarray(self.maps[name]), (row1 - row0, column1 - column0)))
        values = np.zeros((*resized.shape[:-2], height, width), np.float32)
        hidden = np.ones_like(values, bool)
        rows, columns = slice(max(row0, 0), min(row1, height)), slice(max(column0, 0), min(column1, width))
        values[..., rows, columns] = resized[
            ..., rows.start - row0 : rows.stop - row0, columns.start - column0 : columns.stop - column0
        ]
        hidden[..., rows, columns] = False
        return np.ma.MaskedArray(values, hidden)

    def figure(self) -> Any:
        """A matplotlib figure: the picture with the class, and the map of each method on it."""
        from jaxcam import plots  # loads matplotlib

        drawn = {METHOD_TITLES.get(name, name): [self.on_image(name)] for name in self.maps}
        return plots.compare([self.image], drawn, titles=[self.title])

    def save(self, path: str | os.PathLike, *, force: bool = False) -> None:
        """Write the figure to a file, as `jaxcam.plots.save` does."""
        from jaxcam import plots

        plots.save(self.figure(), path, force=force)

    @property
    def title(self) -> str:
        """The class and its probability."""
        return f"{self.class_name!r}, {self.probability:.1%}"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pixels and the values of the maps, ready for JSON."""
        return {
            "image": self.source,
            "class": self.class_name,
            "target": self.target,
            "probability": self.probability,
            "top": [{"class": name, "target": number, "probability": p} for number, name, p in self.top],
            "layer": self.layer,
            "region": [float(side) for side in self.region],
            "map_shape": {name: list(saliency.shape) for name, saliency in self.maps.items()},
        }

    def __str__(self) -> str:
        top = ", ".join(f"{name!r} {probability:.1%}" for _, name, probability in self.top)
        methods = ", ".join(METHOD_TITLES.get(name, name) for name in self.maps)
        return (
            f"{self.source}: class {self.class_name!r}, probability {self.probability:.4f}\n"
            f"  most probable: {top}\n  layer {self.layer}, {methods}"
        )

    def __repr__(self) -> str:
        shown = {name: saliency.shape for name, saliency in self.maps.items()}
        return (
            f"Explanation({self.source!r}, {self.class_name!r}, {self.probability:.4f}, {self.layer!r}, maps={shown})"
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.figure()._repr_png_()
