"""Trained parameters: checkpoints, their layouts, and the networks that ship with the package."""

from jaxcam.datasets import class_names as class_names
from jaxcam.datasets import find_class as find_class
from jaxcam.datasets import imagenet_classes as imagenet_classes
from jaxcam.pretrained._load import DIGITS_CLASSES as DIGITS_CLASSES
from jaxcam.pretrained._load import digits as digits
from jaxcam.pretrained._load import digits_canvas as digits_canvas
from jaxcam.pretrained._load import from_arrays as from_arrays
from jaxcam.pretrained._load import load as load
from jaxcam.pretrained._load import to_arrays as to_arrays
from jaxcam.pretrained._load import vgg11 as vgg11
from jaxcam.pretrained._load import vgg13 as vgg13
from jaxcam.pretrained._load import vgg16 as vgg16
from jaxcam.pretrained._load import vgg19 as vgg19
