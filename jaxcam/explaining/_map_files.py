"""Maps as files for other programs: NumPy's formats, or a table of numbers."""

import io
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxcam.runtime import replace

FORMATS = ("npy", "npz", "csv")


def write_maps(path: str | os.PathLike, maps: Mapping[str, np.ndarray], *, force: bool = False) -> None:
    """Writes maps to one file, which is complete or absent.

    Args:
      path: ends in `.npz` (an array for each map, by its name), `.npy` (one map), or `.csv` (one map `[h w]`: a line
        for each row, with the digits that a float32 needs).
      maps: by name.
      force: overwrite an existing file.

    Raises:
      FileExistsError: the file exists, and `force` is False.
      ValueError: another suffix, several maps for a file of one, or a table of a map that is not `[h w]`.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = pathlib.Path(folder) / "map.csv"
      ...     write_maps(file, {"grad_cam": np.array([[0, 0.5], [1, 2]], np.float32)})
      ...     print(file.read_text(), end="")
      0,0.5
      1,2
    """
    path = pathlib.Path(path)
    suffix = path.suffix[1:].lower()
    if suffix not in FORMATS:
        raise ValueError(f"{path} ends in {path.suffix!r}: choose one of {', '.join(FORMATS)}")
    if suffix != "npz" and len(maps) != 1:
        raise ValueError(f"{path} holds one map, got {len(maps)}: write them to a .npz file")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already")
    content = io.BytesIO()
    if suffix == "npz":
        np.savez_compressed(content, **maps)  # type: ignore[arg-type]
    else:
        [saliency] = maps.values()
        if suffix == "npy":
            np.save(content, saliency)
        elif saliency.ndim != 2:
            raise ValueError(f"{path} holds a map [h w], got {list(saliency.shape)}: write it to a .npy file")
        else:
            np.savetxt(content, saliency, fmt="%.9g", delimiter=",")
    replace(path, content.getvalue())
