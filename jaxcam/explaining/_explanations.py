"""Several explanations of one picture: of several classes, layers or networks."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from jaxcam.explaining._explanation import Explanation, save_figures
from jaxcam.explaining._map_files import write_maps
from jaxcam.methods import METHOD_TITLES


@dataclass(frozen=True, eq=False)
class Explanations(Sequence[Explanation]):
    """What `jaxcam.explain` returns for several classes, layers or networks: a sequence of `Explanation`.

    It shows itself as the last value of a notebook's cell. With one method the maps stand beside each other; with
    several, each explanation has a row.

    Attributes:
      explanations: of the first class by each network or at each layer, then of the next class.
      places: the number of networks or layers.
      of_networks: whether the places are networks.
    """

    explanations: tuple[Explanation, ...]
    places: int = 1
    of_networks: bool = False

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Explanation, ...]: ...
    def __getitem__(self, index: int | slice) -> Explanation | tuple[Explanation, ...]:
        return self.explanations[index]

    def __len__(self) -> int:
        return len(self.explanations)

    @property
    def classes(self) -> int:
        """The number of classes that are explained."""
        return len(self.explanations) // self.places

    def figure(self, **drawing: Any) -> Any:
        """A matplotlib figure of all maps, with the options of `jaxcam.Explanation.figure`."""
        from jaxcam import plots  # loads matplotlib

        if len(self) == 1:
            return self[0].figure(**drawing)
        first = self[0]
        if len(first.maps) > 1:  # a row for each explanation
            images = [first.image] * len(self)
            titles = [self._title(i) for i in range(len(self))]
            drawn = {
                METHOD_TITLES.get(name, name): [explanation.on_image(name) for explanation in self]
                for name in first.maps
            }
            return plots.compare(images, drawn, titles=titles, **drawing)
        [name] = first.maps
        method = METHOD_TITLES.get(name, name)
        if self.places == 1 or self.classes == 1:
            drawn = {self._title(i): [explanation.on_image(name)] for i, explanation in enumerate(self)}
            return plots.compare([first.image], drawn, titles=[method], **drawing)
        rows = [self[start : start + self.places] for start in range(0, len(self), self.places)]
        drawn = {
            title: [explanation.on_image(name) for explanation in column]
            for title, column in zip(self._place_titles(), zip(*rows, strict=True), strict=True)
        }
        titles = [f"{self._class(row[0])}\n{method}" for row in rows]  # of the first network, if there are several
        return plots.compare([first.image] * len(rows), drawn, titles=titles, **drawing)

    def frames(self, **drawing: Any) -> list[Any]:
        """A figure for each explanation, titled with what differs; of one explanation a figure for each method."""
        if len(self) == 1:
            return self[0].frames(**drawing)
        from jaxcam import plots

        return [
            plots.compare(
                [explanation.image],
                {METHOD_TITLES.get(name, name): [explanation.on_image(name)] for name in explanation.maps},
                titles=[self._title(i)],
                **drawing,
            )
            for i, explanation in enumerate(self)
        ]

    def save(self, path: str | os.PathLike, *, force: bool = False, **drawing: Any) -> None:
        """Writes the figure to a file, as `jaxcam.plots.save` does; to a `.gif` the `frames`, one after the other."""
        save_figures(self, path, force, drawing)

    def labeled_maps(self) -> dict[str, np.ndarray]:
        """All maps by the names that `map_labels` gives them."""
        labels = map_labels(list(self[0].maps), self._places(), self.classes)
        maps = [saliency for explanation in self for saliency in explanation.maps.values()]
        return dict(zip(labels, maps, strict=True))

    def save_maps(self, path: str | os.PathLike, *, force: bool = False) -> None:
        """Writes `labeled_maps` to a `.npz` file; or one map to a `.npy` or `.csv` file.

        Raises:
          FileExistsError: the file exists, and `force` is False.
          ValueError: another suffix, or several maps for a file of one.
        """
        write_maps(path, self.labeled_maps(), force=force)

    def as_dict(self) -> dict[str, Any]:
        """The first explanation as a dictionary, and all of them under "explanations", ready for JSON."""
        return {**self[0].as_dict(), "explanations": [explanation.as_dict() for explanation in self]}

    def _title(self, index: int) -> str:
        place = f"\n{self._place_titles()[index % self.places]}" if self.places > 1 else ""
        return f"{self._class(self[index])}{place}"

    def _class(self, explanation: Explanation) -> str:
        """The class, with its number where another one has the same name."""
        numbers = {other.target for other in self if other.class_name == explanation.class_name}
        number = f" ({explanation.target})" if len(numbers) > 1 else ""
        return f"{explanation.class_name!r}{number}, {explanation.probability:.1%}"

    def _place_titles(self) -> list[str]:
        """Of each place the network, if there are several, and the layer with the size of its maps."""
        titles = []
        for name, explanation in zip(self._places(), self[: self.places], strict=True):
            rows, columns = next(iter(explanation.maps.values())).shape[-2:]
            layer = f"{explanation.layer}, {rows} x {columns}"
            titles.append(f"{name}\n{layer}" if self.of_networks else layer)
        return titles

    def _places(self) -> list[str]:
        """The layers; or the networks, numbered where two of them have one name."""
        of_class = self[: self.places]
        if not self.of_networks:
            return [explanation.layer for explanation in of_class]
        names = [explanation.network for explanation in of_class]
        return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.explanations)

    def __str__(self) -> str:
        if len(self) == 1:
            return str(self[0])
        first = self[0]
        top = ", ".join(f"{name!r} {probability:.1%}" for _, name, probability in first.top)
        methods = ", ".join(METHOD_TITLES.get(name, name) for name in first.maps)
        lines = [f"{first.source}: {methods}", f"  most probable: {top}"]
        for i, explanation in enumerate(self):
            network = f"{self._places()[i % self.places]}, " if self.of_networks else ""
            lines.append(
                f"  {network}layer {explanation.layer}: class {explanation.class_name!r}, probability "
                f"{explanation.probability:.4f}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Explanations({list(self.explanations)!r})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.figure()._repr_png_()


def map_labels(methods: Sequence[str], places: Sequence[str], classes: int) -> list[str]:
    """A name for each map, which a file can have: the method, the place if there are several, and which class.

    A class is named by its place among how many, such as `2of3`. The names are in the order of `Explanations`: by
    class, then by place, then by method.

    Raises:
      ValueError: two maps would have one name.

    Example:
      >>> map_labels(["grad_cam"], ["head", "blocks/11/expand"], 1)
      ['grad_cam.head', 'grad_cam.blocks-11-expand']
      >>> map_labels(["grad_cam", "layer_cam"], ["head"], 2)
      ['grad_cam.1of2', 'layer_cam.1of2', 'grad_cam.2of2', 'layer_cam.2of2']
    """
    labels = [
        ".".join(
            [
                _as_file_name(method),
                *([_as_file_name(place)] if len(places) > 1 else []),
                *([f"{number}of{classes}"] if classes > 1 else []),
            ]
        )
        for number in range(1, classes + 1)
        for place in places
        for method in methods
    ]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"two maps would be called {twice!r}: explain them one after the other")
    return labels


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w+=.]+", "-", text).strip("-")
