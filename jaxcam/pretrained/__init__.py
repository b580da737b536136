"""Trained parameters: files of weights, their layouts, and the network that ships with the package."""

from jaxcam.datasets import class_names as class_names
from jaxcam.datasets import find_class as find_class
from jaxcam.datasets import imagenet_classes as imagenet_classes
from jaxcam.pretrained._arrays import from_arrays as from_arrays
from jaxcam.pretrained._arrays import to_arrays as to_arrays
from jaxcam.pretrained._efficientnet import efficientnet_lite0 as efficientnet_lite0
from jaxcam.pretrained._efficientnet import efficientnet_lite1 as efficientnet_lite1
from jaxcam.pretrained._efficientnet import efficientnet_lite2 as efficientnet_lite2
from jaxcam.pretrained._digits import DIGITS_CLASSES as DIGITS_CLASSES
from jaxcam.pretrained._digits import digits as digits
from jaxcam.pretrained._digits import digits_canvas as digits_canvas
from jaxcam.pretrained._timm import convnext_tiny as convnext_tiny
from jaxcam.pretrained._timm import efficientnet_b0 as efficientnet_b0
from jaxcam.pretrained._timm import mobilenet_v2 as mobilenet_v2
from jaxcam.pretrained._timm import resnet18 as resnet18
from jaxcam.pretrained._timm import resnet34 as resnet34
from jaxcam.pretrained._timm import resnet50 as resnet50
from jaxcam.pretrained._timm import vit_small_patch16 as vit_small_patch16
from jaxcam.pretrained._vgg import load as load
from jaxcam.pretrained._vgg import vgg11 as vgg11
from jaxcam.pretrained._vgg import vgg13 as vgg13
from jaxcam.pretrained._vgg import vgg16 as vgg16
from jaxcam.pretrained._vgg import vgg19 as vgg19
from jaxcam.pretrained._words import answerer as answerer
from jaxcam.pretrained._words import captioner as captioner
