"""Small files of pictures, masks and annotations for the tests of data sets."""

import numpy as np
from PIL import Image

ANNOTATION = """<annotation><size><width>20</width><height>12</height></size>{}</annotation>"""
OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><part><name>head</name></part></object>"""


def picture_file(path, size=(20, 12), **options):
    """A small picture at a path, width and height as Pillow has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    Image.fromarray(pixels).save(path, **options)
    return path


def gray_file(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def drawn(box, shape):
    mask = np.zeros(shape, np.int8)
    row0, column0, row1, column1 = box
    mask[row0:row1, column0:column1] = 1
    return mask


def around(mask):
    rows, columns = np.nonzero(mask == 1)
    return [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def annotation_file(path, *objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ANNOTATION.format("".join(OBJECT.format(*fields) for fields in objects)))
    return path
