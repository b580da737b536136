"""One explained picture: the maps of a class, drawn on the picture at its own size."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcam.explaining._map_files import write_maps
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
      layer: where the network is cut; of fused layers a text that names them.
      target: the number of the explained class.
      class_name: its name.
      probability: its probability.
      top: the most probable classes, the most probable one first.
      maps: by the method's name its map, `[h' w']` at the layer's resolution.
      network: what the network was opened by.
      layers: the layer, or those that are fused.
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
    network: str = ""
    layers: tuple[str, ...] = ()

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

    def figure(
        self,
        *,
        style: str = "overlay",
        colormap: str | None = None,
        alpha: float = 0.5,
        threshold: float | None = None,
    ) -> Any:
        """A matplotlib figure: the picture with the class, and the map of each method on it.

        The options are those of `jaxcam.plots.compare`.
        """
        from jaxcam import plots  # loads matplotlib

        drawn = {METHOD_TITLES.get(name, name): [self.on_image(name)] for name in self.maps}
        return plots.compare(
            [self.image],
            drawn,
            titles=[self.title],
            style=style,
            colormap=colormap,
            alpha=alpha,
            threshold=threshold,
        )

    def frames(self, **drawing: Any) -> list[Any]:
        """A figure for each method, with the options of `figure`."""
        return [dataclasses.replace(self, maps={name: self.maps[name]}).figure(**drawing) for name in self.maps]

    def save(self, path: str | os.PathLike, *, force: bool = False, **drawing: Any) -> None:
        """Writes the figure to a file, as `jaxcam.plots.save` does; to a `.gif` the `frames`, one after the other.

        Args:
          path: of the file; its folder has to exist.
          force: overwrite an existing file.
          **drawing: the options of `figure`.
        """
        save_figures(self, path, force, drawing)

    def save_maps(self, path: str | os.PathLike, *, force: bool = False) -> None:
        """Writes the maps at the layer's resolution: `.npz` with an array for each method, or `.npy` or `.csv` of one.

        Raises:
          FileExistsError: the file exists, and `force` is False.
          ValueError: another suffix, or several maps for a file of one.
        """
        write_maps(path, self.maps, force=force)

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
            "network": self.network,
            "layer": self.layer,
            "layers": list(self.layers),
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


def save_figures(explained: Any, path: str | os.PathLike, force: bool, drawing: Mapping[str, Any]) -> None:
    """Writes the figure of what is explained, or its frames as a GIF."""
    from jaxcam import plots

    if pathlib.Path(path).suffix.lower() == ".gif":
        plots.animate(explained.frames(**drawing), path, force=force)
    else:
        plots.save(explained.figure(**drawing), path, force=force)
