"""Names of maps, which are names of files."""

import os
from typing import Any

LONGEST_NAME = 160  # bytes; file systems take 255, and a file has a longer name while it is written


def check_name(name: Any) -> None:
    """Raises a ValueError if a name cannot be that of a file."""
    if not isinstance(name, str) or not name or set(name) & set("/\\\0") or len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"name {name!r} is no name for a file: give names=, short and without a path")
