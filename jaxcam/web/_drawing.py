"""The pictures of the page, as arrays, and where a click on one falls on the layer.

Nothing here is compiled: a program for each size of a visitor's picture would be kept.

>>> neuron_at((10, 90), (0.0, 50.0, 100.0, 150.0), (4, 4)), neuron_at((10, 20), (0.0, 50.0, 100.0, 150.0), (4, 4))
((0, 1), None)
"""

from collections.abc import Sequence

import numpy as np

from jaxcam.web._maps import Answer

LONGEST_SIDE = 960  # of a drawn picture, in pixels
LEAST_DRAWN = 480  # of the longer side: smaller pictures are enlarged, so that their neurons can be clicked
SMALL = 240  # of the longer side of a picture that is one of many
OPACITY = 0.5
OUTLINE = np.array([1.0, 1.0, 1.0], np.float32)
Region = tuple[float, float, float, float]


def drawn_picture(picture: np.ndarray) -> np.ndarray:
    """A picture at the size at which it is drawn; its longer side is in `LEAST_DRAWN..LONGEST_SIDE`.

    Example:
      >>> drawn_picture(np.zeros([64, 32, 3], np.float32)).shape
      (480, 240, 3)
    """
    longest = max(picture.shape[:2])
    return _fitted_to(picture, min(max(1.0, LEAST_DRAWN / longest), LONGEST_SIDE / longest))


def drawn_region(answer: Answer, drawn: np.ndarray) -> Region:
    """What the network saw, in the pixels of the drawn picture."""
    rows, columns = (new / old for new, old in zip(drawn.shape[:2], answer.picture.shape[:2], strict=True))
    row0, column0, row1, column1 = answer.region
    return row0 * rows, column0 * columns, row1 * rows, column1 * columns


def overlay(drawn: np.ndarray, saliency: np.ndarray, region: Region) -> np.ndarray:
    """A map in color over a drawn picture where the network saw it, `[H W 3]` in 0..1.

    Args:
      drawn: the picture, `[H W 3]`.
      saliency: the map, `[h w]`, which is normalized to 0..1.
      region: what the network saw, in the pixels of the picture.
    """
    low, high = saliency.min(), saliency.max()
    scaled = (saliency - low) / (high - low) if high > low else np.zeros_like(saliency)
    return laid_over(drawn, scaled, region)


def laid_over(drawn: np.ndarray, scaled: np.ndarray, region: Region) -> np.ndarray:
    """A map in 0..1 in color over a drawn picture where the network saw it, `[H W 3]` in 0..1.

    Args:
      drawn, region: as in `overlay`.
      scaled: the map, `[h w]`, on a scale that several maps may share.
    """
    from jaxcam import plots  # loads matplotlib
    from jaxcam.datasets import images

    row0, column0, row1, column1 = (round(side) for side in region)
    fine = images.fit(scaled[..., None], (row1 - row0, column1 - column0))[..., 0]
    height, width = drawn.shape[:2]
    rows, columns = slice(max(row0, 0), min(row1, height)), slice(max(column0, 0), min(column1, width))
    seen = fine[rows.start - row0 : rows.stop - row0, columns.start - column0 : columns.stop - column0]
    result = drawn.copy()
    result[rows, columns] = (1 - OPACITY) * drawn[rows, columns] + OPACITY * plots.colors(seen)
    return result


def framed(drawn: np.ndarray, box: Region) -> np.ndarray:
    """A drawn picture with a white line inside a box's sides.

    Args:
      drawn: the picture, `[H W 3]`.
      box: row0, column0, row1, column1 in the pixels of the picture; what lies outside the picture is not drawn.

    Example:
      >>> framed(np.zeros([8, 8, 3]), (1, 1, 7, 8))[..., 0].astype(int).sum(1).tolist()
      [0, 7, 7, 4, 4, 7, 7, 0]
    """
    height, width = drawn.shape[:2]
    row0, row1 = (round(min(max(side, 0), height)) for side in (box[0], box[2]))
    column0, column1 = (round(min(max(side, 0), width)) for side in (box[1], box[3]))
    line = max(2, round(max(height, width) / 120))
    result = drawn.copy()
    result[row0:row1, column0:column1] = OUTLINE
    inside = (
        slice(row0 + line, max(row1 - line, row0 + line)),
        slice(column0 + line, max(column1 - line, column0 + line)),
    )
    result[inside] = drawn[inside]
    return result


def outlined(drawn: np.ndarray, mask: np.ndarray, region: Region) -> np.ndarray:
    """A drawn picture with a white line around the chosen neurons.

    Args:
      drawn: the picture, `[H W 3]`.
      mask: which neurons are chosen, bools `[h w]`.
      region: what the network saw, in the pixels of the picture.
    """
    row0, column0, row1, column1 = region
    height, width = drawn.shape[:2]
    rows = np.floor((np.arange(height) + 0.5 - row0) / (row1 - row0) * mask.shape[0]).astype(int)
    columns = np.floor((np.arange(width) + 0.5 - column0) / (column1 - column0) * mask.shape[1]).astype(int)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    clipped = np.clip(rows, 0, mask.shape[0] - 1)[:, None], np.clip(columns, 0, mask.shape[1] - 1)
    chosen = mask[clipped] & inside
    width_of_line = max(2, round(max(height, width) / 240))
    inner = chosen
    for _ in range(width_of_line):
        padded = np.pad(inner, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & inner
    return np.where((chosen & ~inner)[..., None], OUTLINE, drawn)


def neuron_at(pixel: Sequence[float], region: Region, shape: tuple[int, int]) -> tuple[int, int] | None:
    """The neuron under a pixel of a drawn picture; None where the network did not see it.

    Args:
      pixel: row and column.
      region: what the network saw, in the pixels of the picture.
      shape: height and width of the layer.
    """
    row0, column0, row1, column1 = region
    row = int(np.floor((pixel[0] + 0.5 - row0) / (row1 - row0) * shape[0]))
    column = int(np.floor((pixel[1] + 0.5 - column0) / (column1 - column0) * shape[1]))
    return (row, column) if 0 <= row < shape[0] and 0 <= column < shape[1] else None


def small_picture(picture: np.ndarray, *, longest: int = SMALL) -> np.ndarray:
    """A picture at the size of one of many.

    Example:
      >>> small_picture(np.zeros([300, 600, 3], np.float32)).shape
      (120, 240, 3)
    """
    return _fitted_to(picture, longest / max(picture.shape[:2]))


def in_bytes(picture: np.ndarray) -> np.ndarray:
    """A picture in 0..1 as bytes, `[h w 3]`."""
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _fitted_to(picture: np.ndarray, factor: float) -> np.ndarray:
    from jaxcam.datasets import images  # loads Pillow

    shape = tuple(max(1, round(side * factor)) for side in picture.shape[:2])
    return picture if shape == picture.shape[:2] else images.fit(picture, (shape[0], shape[1]))
