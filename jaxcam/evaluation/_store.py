"""TODO."""

import importlib.metadata
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxcam.cutting import Cut
from jaxcam.datasets import Example, MaskFile
from jaxcam.evaluation._scorer import OF_THE_MAP
from jaxcam.runtime import described as description_of
from jaxcam.runtime import differences, digest, of_model, replace, sample_of, seen, sweep


class _Folder:
    """Where the figures of each image are kept, each file whole or not there."""

    def __init__(self, out: pathlib.Path, cut: Cut, settings: Mapping[str, Any], growing: Mapping[str, Mapping]):
        """Settings are to be the same; what is growing, kinds of things by name, may be added to."""
        self.out, self.cut, self.settings, self.growing = out, cut, settings, growing
        self.file = out / "run.json"
        self.here: dict[str, Any] = {}
        sweep(out)
        sweep(out / "images")
        sample = sample_of(out)
        if sample is not None:
            self.open(sample)
        elif any((out / "images").glob("*.json")):
            raise ValueError(f"{out} has figures but no run.json that says of which run: choose another folder")

    def open(self, sample: jax.ShapeDtypeStruct) -> None:
        """Say of which run the folder is; a ValueError where it has figures of another."""
        if self.here:
            return
        described = {name: description_of(value, state=name != "load") for name, value in self.settings.items()}
        here = {
            "jaxcam": importlib.metadata.version("jaxcam-saliency"),
            **of_model(self.cut, sample),
            **described,
            **{
                f"{kind}s": {name: description_of(each) for name, each in things.items()}
                for kind, things in self.growing.items()
            },
        }
        self.here = json.loads(json.dumps(here))
        if any((self.out / "images").glob("*.json")):
            self._agreed()
        elif any(self.out.glob("*.npy")):
            raise ValueError(f"{self.out} holds maps of explain_batch: choose another folder")
        else:  # nothing was finished
            replace(self.file, json.dumps(self.here, indent=1).encode())

    def _agreed(self) -> dict[str, Any] | None:
        """What run.json is to say with this run added; None where it does, a ValueError where it is of another run."""
        try:
            there = dict(json.loads(self.file.read_text()))
            known = {f"{kind}s": dict(there[f"{kind}s"]) for kind in self.growing}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self.file} does not describe an evaluation of this version of jaxcam: choose another folder"
            ) from error
        grown = {kinds: known[kinds] | self.here[kinds] for kinds in known}
        differs = differences({**there, **grown}, {**self.here, **grown})
        for kind in self.growing:
            was, now = known[f"{kind}s"], self.here[f"{kind}s"]
            differs += [f"another {kind} {name!r}" for name in was if was[name] != now.get(name, was[name])]
        if differs:
            what = "; ".join(differs)
            raise ValueError(f"{self.out} holds another run, with {what}: choose another folder, or the same settings")
        return None if grown == known else {**self.here, **grown}

    def read(self, name: str, digest: str) -> dict[str, Any] | None:
        """What there is of an image; a ValueError where it is of another image."""
        path = self._path(name)
        try:
            record = dict(json.loads(path.read_text()))
            known = record.pop("example")
            for row in dict(record["rows"]).values():
                dict(row[OF_THE_MAP])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is torn, or not of an evaluation: remove it, or choose another folder") from error
        if known != digest:
            raise ValueError(f"{self.out} holds another run, with another image {name!r}: choose another folder")
        return record

    def write(self, name: str, digest: str, record: Mapping[str, Any], finished: int) -> None:
        """The figures of an image; an OSError that says how many are finished."""
        path = self._path(name)
        # Another run may have begun or added to it in the meantime.
        there, agreed = self.read(name, digest), self._agreed()
        if there is not None:
            record = {**record, "rows": _merged(there["rows"], record["rows"])}
        try:
            if agreed is not None:
                replace(self.file, json.dumps(agreed, indent=1).encode())
            replace(path, json.dumps({"example": digest, **record}).encode())
        except OSError as error:
            reason = f"{error.strerror or error}; {finished} images are finished, and the same call goes on from there"
            raise OSError(error.errno, reason, str(path)) from error

    def _path(self, name):
        return self.out / "images" / f"{name}.json"


def _merged(there, found):
    """What metrics found of methods: what is there, as it is, and what was found since."""
    return {row: {**found.get(row, {}), **there.get(row, {})} for row in there | found}


def _digest(example):
    """Of what an example is made of, arrays by their values and files by what is in them."""
    if not isinstance(example, Example):
        return digest(seen(example))
    mask = example.mask
    parts = [*mask] if isinstance(mask, MaskFile) else [mask]
    return digest(*map(_held, [example.image, example.boxes, *parts]), example.label)


def _held(part):
    if isinstance(part, str | os.PathLike) and os.path.isfile(part):
        return pathlib.Path(part).read_bytes()
    return seen(part)
