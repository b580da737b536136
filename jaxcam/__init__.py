"""Class activation maps as pure JAX functions: Grad-CAM, Grad-CAM++, Smooth Grad-CAM++ and CAM."""

from importlib.metadata import version as _version

# Networks that come apart, and their weights.
from jaxcam import checkpoints as checkpoints
from jaxcam import layouts as layouts
from jaxcam import pretrained as pretrained
from jaxcam import vgg as vgg
from jaxcam.pretrained import digits as digits
from jaxcam.pretrained import vgg11 as vgg11
from jaxcam.pretrained import vgg13 as vgg13
from jaxcam.pretrained import vgg16 as vgg16
from jaxcam.pretrained import vgg19 as vgg19
from jaxcam.vgg import VGG as VGG
from jaxcam.vgg import vgg_digits as vgg_digits

# A model and a layer to features and head.
from jaxcam.cut import Cut as Cut
from jaxcam.cut import Cuts as Cuts
from jaxcam.cut import cut as cut
from jaxcam.cut import layers as layers

# A proof of when the closed form is exact.
from jaxcam.linearity import certify as certify

# Noise, scores, derivatives, weights and maps: the steps, each a room of its own.
from jaxcam import compat as compat
from jaxcam import derivatives as derivatives
from jaxcam import linearity as linearity
from jaxcam import maps as maps
from jaxcam import noise as noise
from jaxcam import scores as scores
from jaxcam import weights as weights
from jaxcam.maps import fuse as fuse
from jaxcam.maps import normalize as normalize
from jaxcam.maps import resize as resize
from jaxcam.maps import select as select

# One mechanism, and the named methods that it makes.
from jaxcam.composition import gradient_cam as gradient_cam
from jaxcam.methods import cam as cam
from jaxcam.methods import grad_cam as grad_cam
from jaxcam.methods import grad_cam_plus as grad_cam_plus
from jaxcam.methods import grad_cam_pp as grad_cam_pp
from jaxcam.methods import smooth_grad_cam_pp as smooth_grad_cam_pp
from jaxcam.methods import counterfactual_grad_cam as counterfactual_grad_cam
from jaxcam.methods import xgrad_cam as xgrad_cam
from jaxcam.methods import hires_cam as hires_cam
from jaxcam.methods import layer_cam as layer_cam
from jaxcam.methods import score_cam as score_cam
from jaxcam.methods import grad_cam_plus_smooth as grad_cam_plus_smooth
from jaxcam.averages import average_maps as average_maps
from jaxcam.growing import Smoothed as Smoothed

# In the input's space, and other rules for the backward pass of a relu.
from jaxcam import pixels as pixels
from jaxcam import rules as rules
from jaxcam.pixels import deconvnet as deconvnet
from jaxcam.pixels import guided_backprop as guided_backprop
from jaxcam.pixels import guided_grad_cam as guided_grad_cam
from jaxcam.pixels import input_gradient as input_gradient
from jaxcam.pixels import integrated_gradients as integrated_gradients
from jaxcam.pixels import saliency as saliency
from jaxcam.pixels import smooth_grad as smooth_grad
from jaxcam.pixels import square_grad as square_grad
from jaxcam.pixels import var_grad as var_grad

# Many images: to a memory budget, over devices, to files that a killed run goes on with.
from jaxcam import batches as batches
from jaxcam.batches import Explained as Explained
from jaxcam.batches import explain_batch as explain_batch

# Which map is better: metrics, controls beside the methods, and an evaluation of all of them on labelled images.
from jaxcam import controls as controls
from jaxcam import datasets as datasets
from jaxcam import measures as measures
from jaxcam import metrics as metrics
from jaxcam.evaluation import evaluate as evaluate
from jaxcam.examples import Example as Example
from jaxcam.tables import Evaluation as Evaluation

# What is known about a map, and the closed form against the exact derivatives.
from jaxcam.diagnosis import Diagnosis as Diagnosis
from jaxcam.diagnosis import diagnose as diagnose
from jaxcam.validation import validate as validate

__version__ = _version("jaxcam-saliency")
