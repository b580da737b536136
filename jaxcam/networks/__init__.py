"""Networks in Flax NNX: VGG, which is cut at its layers without being traced, and EfficientNet-Lite."""

from jaxcam.networks.efficientnet import EfficientNetLite as EfficientNetLite
from jaxcam.networks.vgg import VGG as VGG
from jaxcam.networks.vgg import vgg_digits as vgg_digits
