"""The pictures of the assets that are stored end to end in one file, and the masks of COCO's and CamVid's concepts.

`JAXCAM_ASSETS` names the folder of the assets, which are not part of the repository. Their READMEs name the sources.
"""

import io
import json
import pathlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxcam.datasets import images

CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip


def read(path: pathlib.Path, shape: tuple[int, int], *, of: Sequence[int] | None = None) -> np.ndarray:
    """The pictures of an npz file that has `data` and `offsets`, stretched to a shape, `[n h w 3]` in 0..1.

    Args:
      path: the file.
      shape: the height and the width.
      of: the numbers of the pictures that are read; None for all.
    """
    return np.stack([images.fit(images.read(io.BytesIO(part)), shape) for part in parts(path, of=of)])


def parts(path: pathlib.Path, prefix: str = "", of: Sequence[int] | None = None) -> Iterator[bytes]:
    """The content of each picture's file, of `data` and `offsets` with a prefix."""
    with np.load(path) as file:
        data, offsets = file[f"{prefix}data"], file[f"{prefix}offsets"]
    for i in range(len(offsets) - 1) if of is None else of:
        yield data[offsets[i] : offsets[i + 1]].tobytes()


def coco_masks(
    folder: pathlib.Path, split: str, shape: tuple[int, int], names: Collection[str] | None = None
) -> tuple[list[int], dict[str, np.ndarray]]:
    """The numbers of a split's photographs that have polygons, and for each class the pixels inside its polygons.

    Args:
      folder: of the assets.
      split: "train" or "val".
      shape: that of the masks.
      names: the classes; None for all that the split shows.
    """
    annotations = json.loads((folder / "coco" / "annotations.json").read_text())
    chosen = [i for i, image in enumerate(annotations["images"]) if image["split"] == split and image["polygons"]]
    masks: dict[str, np.ndarray] = {}
    height, width = shape
    for row, number in enumerate(chosen):
        for label, *corners in annotations["images"][number]["polygons"]:
            name = annotations["classes"][int(label)]
            if names is not None and name not in names:
                continue
            filled = Image.new("1", (width, height))
            points = np.array(corners).reshape(-1, 2) * (width, height)
            ImageDraw.Draw(filled).polygon([tuple(point) for point in points], fill=1)
            masks.setdefault(name, np.zeros((len(chosen), *shape), bool))[row] |= np.asarray(filled)
    return chosen, masks


def camvid_masks(folder: pathlib.Path, of: Sequence[int], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """For each class of CamVid its pixels in the frames of the training split, by nearest neighbor, `[n h w]`."""
    labels = []
    for part in parts(folder / "camvid" / "train.npz", "mask_", of):
        with Image.open(io.BytesIO(part)) as opened:
            labels.append(np.asarray(opened.resize(shape[::-1], Image.Resampling.NEAREST)))
    return {name: np.stack(labels) == label for label, name in enumerate(CAMVID)}
