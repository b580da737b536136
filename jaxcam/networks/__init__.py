"""Networks in Flax NNX that are cut at their layers without being traced."""

from jaxcam.networks.vgg import VGG as VGG
from jaxcam.networks.vgg import vgg_digits as vgg_digits
