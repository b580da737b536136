"""What a command writes: paths of pictures, records, JSON, and errors of one line."""

import argparse
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

from jaxcam.runtime import Plan

# The exit code for any mistake that the user can correct.
FAILURE = 2


def check_free(path: pathlib.Path, options: argparse.Namespace) -> pathlib.Path:
    """The path, if a picture may be written there.

    Raises:
      ValueError: as `check_folder` and `check_new`.
    """
    check_folder(options.out)
    return check_new(path, options)


def check_folder(folder: pathlib.Path) -> None:
    """Raises a ValueError if `--out` is not a folder, or no file can be written to it."""
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist: make the folder first"
        raise ValueError(f"--out {folder} {problem}")
    try:
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell, for example of a read-only disk
            pass
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be written to: {error.strerror}") from error


def check_new(path: pathlib.Path, options: argparse.Namespace) -> pathlib.Path:
    """The path. Raises a ValueError if the file exists and `--force` is not given."""
    if path.exists() and not options.force:
        raise ValueError(f"{path} exists already; --force overwrites it, --out FOLDER writes elsewhere")
    return path


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


def print_plan(plan: Plan, options: argparse.Namespace) -> int:
    """Print what a run will take, for `--dry-run`; the exit code."""
    if options.json:
        print_json(plan.as_json())
    else:
        print(plan)
    return 0


def print_error(message: str) -> None:
    """Print an error on stderr."""
    print(f"jaxcam: {message}", file=sys.stderr)


def one_line(error: Exception) -> str:
    """An error's message on one line; for an error of the operating system, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
