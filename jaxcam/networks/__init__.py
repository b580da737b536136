"""Networks in Flax NNX that come apart at their layers."""

from jaxcam.networks.vgg import VGG as VGG
from jaxcam.networks.vgg import vgg_digits as vgg_digits
