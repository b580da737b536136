"""What a command writes: paths of pictures, records, JSON, and errors of one line."""

import argparse
import json
import os
import pathlib
import sys
from typing import Any

# The exit code for any mistake that the user can correct.
FAILURE = 2


def check_free(path: pathlib.Path, options: argparse.Namespace) -> pathlib.Path:
    """The path, if a picture may be written there.

    Raises:
      ValueError: `--out` is not a folder, or the picture exists and `--force` is not given.
    """
    if not options.out.is_dir():
        problem = "is not a folder" if options.out.exists() else "does not exist: make the folder first"
        raise ValueError(f"--out {options.out} {problem}")
    if path.exists() and not options.force:
        raise ValueError(f"{path} exists already; --force overwrites it")
    return path


def picture_paths(options: argparse.Namespace) -> list[pathlib.Path]:
    """The path of each picture that is written, named after the input and the method.

    Raises:
      ValueError: as `check_free`; or two inputs have one name.
    """
    inputs: dict[pathlib.Path, str] = {}
    for image in options.images:
        path = options.out / f"{pathlib.Path(image).stem}.{options.method}.png"
        if path in inputs:
            raise ValueError(f"{inputs[path]} and {image} would both be written to {path}")
        inputs[check_free(path, options)] = image
    return list(inputs)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


def print_error(message: str) -> None:
    """Print an error on stderr."""
    print(f"jaxcam: {message}", file=sys.stderr)


def one_line(error: Exception) -> str:
    """An error's message on one line; for an error of the operating system, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
