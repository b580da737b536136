"""The results folder of an evaluation: what was measured of each image in `images/NAME.json`, and the run."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxcam.cutting import Cut
from jaxcam.datasets import Example, MaskFile
from jaxcam.evaluation._scorer import OF_THE_MAP
from jaxcam.evaluation._stored import methods_from_json, rows_as_json, rows_from_json
from jaxcam.runtime import (
    content_digest,
    content_or_stamp,
    describe,
    describe_differences,
    describe_model,
    prepare_folder,
    read_run,
    recorded_sample,
    refuse_if_any,
    replace,
    saying_how_many,
)


class RecordFolder:
    """The folder of `evaluate`: a record an image, each file whole or absent.

    Args:
      out: the folder.
      cut: a `Cut`.
      settings: by name, what must be the same in every run that writes to the folder.
      growing: "methods" and "metrics", each by name. A later run may add to them.
      read_only: makes and writes nothing.

    Raises:
      ValueError: the folder holds the results of another run.
    """

    def __init__(
        self,
        out: pathlib.Path,
        cut: Cut,
        settings: Mapping[str, Any],
        growing: Mapping[str, Mapping[str, Any]],
        *,
        read_only: bool = False,
    ):
        self.out, self.cut, self.settings, self.growing, self.read_only = out, cut, settings, growing, read_only
        self.file = out / "run.json"
        self.run: dict[str, Any] = {}
        if not read_only:
            prepare_folder(out)
            prepare_folder(out / "images")
        sample = recorded_sample(out)
        if sample is not None:
            self.open(sample)
        elif self._has_records():
            raise ValueError(f"{out} has figures but no run.json that says of which run: choose another folder")
        else:
            self._check_no_maps()

    def open(self, sample: jax.ShapeDtypeStruct) -> None:
        """Records the run, or checks that the folder's records are of this run; at the first call only.

        Args:
          sample: the shape and type of an image that the model takes.

        Raises:
          ValueError: the folder holds the results of another run.
        """
        if self.run:
            return
        run = {
            **describe_model(self.cut, sample),
            **{name: describe(value, with_state=name != "load") for name, value in self.settings.items()},
            **{
                kind: {name: describe(function) for name, function in functions.items()}
                for kind, functions in self.growing.items()
            },
        }
        self.run = json.loads(json.dumps(run))
        if self._has_records():
            self._grown_run()
        else:
            self._check_no_maps()
            if self.read_only:
                return
            replace(self.file, json.dumps(self.run, indent=1).encode())

    def _has_records(self):
        return any((self.out / "images").glob("*.json"))

    def _check_no_maps(self):
        if any(self.out.glob("*.npy")):
            raise ValueError(f"{self.out} holds maps of explain_batch: choose another folder")

    def _grown_run(self) -> dict[str, Any] | None:
        """The recorded run with this run's methods and metrics, or None if it has them; a ValueError if it is another.

        The file is read again each time, because another run may have added to it.
        """
        try:
            recorded = read_run(self.file)
            known = {kind: dict(recorded[kind]) for kind in self.growing}
            known["methods"] = methods_from_json(known["methods"], self.run["methods"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self.file} does not describe an evaluation of this version of jaxcam: choose another folder"
            ) from error
        grown = {kind: known[kind] | self.run[kind] for kind in known}
        differences = describe_differences({**recorded, **grown}, {**self.run, **grown})
        for kind in self.growing:
            changed = [name for name in known[kind] if known[kind][name] != grown[kind][name]]
            differences += [f"another {kind.removesuffix('s')} {name!r}" for name in changed]
        refuse_if_any(differences, self.out)
        return None if grown == known else {**self.run, **grown}

    def read(self, name: str, digest: str) -> dict[str, Any] | None:
        """The record of an image, or None if it has none yet.

        Args:
          name: of the image.
          digest: of the example, by `example_digest`.

        Raises:
          ValueError: the record is of another image of that name, or not a record.
        """
        path = self._path(name)
        try:
            record = dict(json.loads(path.read_text()))
            recorded_digest = record.pop("example")
            for row in dict(record["rows"]).values():
                dict(row[OF_THE_MAP])
            record["rows"] = rows_from_json(record["rows"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is torn, or not of an evaluation: remove it, or choose another folder") from error
        if recorded_digest != digest:
            raise ValueError(
                f"{self.out} holds another run, with another image, mask or label of {name!r}: choose another folder"
            )
        return record

    def write(self, name: str, digest: str, record: Mapping[str, Any], finished: int) -> None:
        """Writes the record of an image; an OSError says how many are finished."""
        # Another run may have written to the folder since this one read it.
        recorded, grown_run = self.read(name, digest), self._grown_run()
        if recorded is not None:
            record = {**record, "rows": merge_rows(recorded["rows"], record["rows"])}
        rows = rows_as_json(record["rows"])
        with saying_how_many(finished, "images", self._path(name)):
            if grown_run is not None:
                replace(self.file, json.dumps(grown_run, indent=1).encode())
            replace(self._path(name), json.dumps({"example": digest, **record, "rows": rows}).encode())

    def _path(self, name):
        return self.out / "images" / f"{name}.json"


def merge_rows(recorded: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """For each method what each metric measured; what is recorded stays as it is."""
    methods = {**recorded, **measured}
    return {method: {**measured.get(method, {}), **recorded.get(method, {})} for method in methods}


def example_digest(example: Any) -> str:
    """A digest of what an example is made of: arrays by their values, and files by their content."""
    if not isinstance(example, Example):
        return content_digest(content_or_stamp(example))
    mask = example.mask
    parts = [example.image, example.boxes, *(mask if isinstance(mask, MaskFile) else [mask])]
    # Most examples have neither inputs nor a target: they add nothing.
    others = jax.tree.leaves_with_path((example.inputs, example.target))
    named = [part for path, leaf in others for part in (path, _file_content_or_stamp(leaf))]
    return content_digest(*map(_file_content_or_stamp, parts), example.label, *named)


def _file_content_or_stamp(part):
    if isinstance(part, str | os.PathLike) and os.path.isfile(part):
        return pathlib.Path(part).read_bytes()
    return content_or_stamp(part)
