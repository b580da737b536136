"""Networks in Flax NNX: VGG, which is cut at its layers without being traced, networks with timm's names, and networks
that write captions and answer questions.
"""

from jaxcam.networks.answerer import Answerer as Answerer
from jaxcam.networks.beam_search import beam_search as beam_search
from jaxcam.networks.captioner import Captioner as Captioner
from jaxcam.networks.convnext import ConvNeXt as ConvNeXt
from jaxcam.networks.efficientnet import EfficientNetLite as EfficientNetLite
from jaxcam.networks.efficientnet_b0 import EfficientNet as EfficientNet
from jaxcam.networks.mobilenet import MobileNetV2 as MobileNetV2
from jaxcam.networks.resnet import ResNet as ResNet
from jaxcam.networks.vgg import VGG as VGG
from jaxcam.networks.vgg import vgg_digits as vgg_digits
from jaxcam.networks.vit import ViT as ViT
from jaxcam.networks.boxes import Detector as Detector
from jaxcam.networks.clips import C3D as C3D
from jaxcam.networks.masks import UNet as UNet
