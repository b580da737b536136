"""Labeled examples on disk, each as an `Example`: its picture, its class, and where the object is.

`folder`, `csv`, `imagenet` and `voc` list examples and read no pixel; `load` reads one example. `images` reads picture
files; it imports Pillow and is not imported here.

>>> import importlib.resources, pathlib, tempfile
>>> digits = importlib.resources.files("jaxcam.pretrained") / "digits"
>>> with tempfile.TemporaryDirectory() as path:
...     table = pathlib.Path(path) / "labels.csv"
...     _ = table.write_text("image,label,xmin,ymin,xmax,ymax\\ncanvas1.png,3,2,4,8,12\\n")
...     [example] = csv(table, root=digits)
>>> loaded = load(example, (32, 32))
>>> loaded.image.shape, loaded.label, loaded.boxes.tolist()
((32, 32, 3), 3, [[2.0, 1.0, 6.0, 4.0]])

Class numbers are those of the model's outputs, from 0. If a folder or a file leaves them ambiguous, `classes=` is
required: a number that is off by one raises no error and makes every figure wrong.
"""

# One example.
from jaxcam.datasets._example import FITS as FITS
from jaxcam.datasets._example import Example as Example
from jaxcam.datasets._example import MaskFile as MaskFile
from jaxcam.datasets._example import checked_example as checked_example
from jaxcam.datasets._example import load as load
from jaxcam.datasets._frame import Frame as Frame
from jaxcam.datasets._frame import PictureFile as PictureFile
from jaxcam.datasets._frame import name_of as name_of
from jaxcam.datasets._geometry import fitted_region as fitted_region
from jaxcam.datasets._files import is_picture as is_picture
from jaxcam.datasets._files import other_files_in as other_files_in
from jaxcam.datasets._files import pictures_in as pictures_in
from jaxcam.datasets._sample import sample_photograph as sample_photograph

# Class names and numbers.
from jaxcam.datasets._classes import Classes as Classes
from jaxcam.datasets._classes import class_names as class_names
from jaxcam.datasets._classes import find_class as find_class
from jaxcam.datasets._classes import imagenet_classes as imagenet_classes
from jaxcam.datasets._classes import synsets as synsets

# Layouts on disk.
from jaxcam.datasets._csv import csv as csv
from jaxcam.datasets._folder import folder as folder
from jaxcam.datasets._folder import of_synsets as of_synsets
from jaxcam.datasets._imagenet import imagenet as imagenet
from jaxcam.datasets._voc import VOC_CLASSES as VOC_CLASSES
from jaxcam.datasets._voc import voc as voc

checked = checked_example
