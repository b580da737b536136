"""Labelled examples on disk."""

from jaxcam.datasets._classes import Classes as Classes
from jaxcam.datasets._classes import class_names as class_names
from jaxcam.datasets._classes import find_class as find_class
from jaxcam.datasets._classes import imagenet_classes as imagenet_classes
from jaxcam.datasets._classes import synsets as synsets
from jaxcam.datasets._csv import csv as csv
from jaxcam.datasets._example import Example as Example
from jaxcam.datasets._example import MaskFile as MaskFile
from jaxcam.datasets._example import checked as checked
from jaxcam.datasets._example import load as load
from jaxcam.datasets._example import pictures_in as pictures_in
from jaxcam.datasets._folder import folder as folder
from jaxcam.datasets._folder import of_synsets as of_synsets
from jaxcam.datasets._imagenet import imagenet as imagenet
from jaxcam.datasets._voc import VOC_CLASSES as VOC_CLASSES
from jaxcam.datasets._voc import voc as voc
