"""Arrays that are computed once: a killed run goes on with the files that are complete."""

import pathlib
from collections.abc import Callable

import numpy as np


def kept_arrays(file: pathlib.Path, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of an npz file. If there is no such file, they are computed and written, to another name first.

    Args:
      file: in a folder that exists or is made.
      compute: returns the arrays by name.

    Example:
      >>> import tempfile
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "ones.npz"
      >>> [kept_arrays(file, lambda: {"a": value * np.ones(2)})["a"].tolist() for value in (1, 2)]
      [[1.0, 1.0], [1.0, 1.0]]
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **compute())  # type: ignore[arg-type]
        partial.replace(file)
    with np.load(file) as arrays:
        return dict(arrays)
