"""The files that `jaxcam explain` writes for one picture, known before anything is computed."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxcam.cli import _output
from jaxcam.cli._inputs import Input
from jaxcam.explaining import Explanations, write_maps


class Files(NamedTuple):
    """Paths of what is written for one picture.

    Attributes:
      picture: the figure, or the GIF that it is a frame of.
      maps: paths with the labels of the maps that each holds.
    """

    picture: pathlib.Path
    maps: dict[pathlib.Path, list[str]]

    @property
    def all(self) -> list[pathlib.Path]:
        """The figure first."""
        return [self.picture, *self.maps]


def planned_files(
    inputs: Sequence[Input], options: argparse.Namespace, name: str, labels: Sequence[str]
) -> list[Files]:
    """The files of each picture.

    Args:
      inputs: the pictures.
      options: of the command line.
      name: of the figure, such as the method's.
      labels: of the maps, from `jaxcam.explaining.map_labels`.

    Raises:
      ValueError: `--out` is not a folder that can be written to, a file exists and `--force` is not given, or two
        pictures would be written to one file.
    """
    _output.check_folder(options.out)
    planned = [_files_of(picture, options, name, labels) for picture in inputs]
    writers: dict[pathlib.Path, str] = {}
    for picture, files in zip(inputs, planned, strict=True):
        for path in files.all:
            is_shared = options.gif == "frames" and path == files.picture and writers.get(path) == picture.clip
            writer = picture.clip if options.gif == "frames" and path == files.picture else picture.name
            if path in writers and not is_shared:
                raise ValueError(f"{writers[path]} and {writer} would both be written to {path}")
            writers[path] = writer
            _output.check_new(path, options)
    return planned


def _files_of(picture: Input, options: argparse.Namespace, name: str, labels: Sequence[str]) -> Files:
    stem = picture.clip_stem if options.gif == "frames" else picture.stem
    figure = options.out / f"{stem}.{name}.{'gif' if options.gif else 'png'}"
    maps: dict[pathlib.Path, list[str]] = {}
    for suffix in options.save_maps:
        if suffix == "npz" or len(labels) == 1:
            maps[options.out / f"{picture.stem}.{name}.{suffix}"] = list(labels)
        else:
            maps |= {options.out / f"{picture.stem}.{label}.{suffix}": [label] for label in labels}
    return Files(figure, maps)


def write_map_files(explanations: Explanations, files: Files, *, force: bool) -> None:
    """Writes the maps."""
    maps = explanations.labeled_maps()
    for path, labels in files.maps.items():
        write_maps(path, {label: maps[label] for label in labels}, force=force)
