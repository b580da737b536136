"""Class activation maps as pure JAX functions: Grad-CAM, Grad-CAM++, Smooth Grad-CAM++ and CAM.

The names stand in the order of the pipeline: networks and their weights, a model cut into two functions, derivatives,
channel weights and maps, methods, many images, and measurements of maps. Each package has a face, its `__init__`.
"""

import importlib as _importlib
import warnings as _warnings
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from typing import Any as _Any

# Networks that come apart at their layers, and trained parameters.
from jaxcam.networks import vgg as vgg
from jaxcam.networks import EfficientNetLite as EfficientNetLite
from jaxcam.networks import VGG as VGG
from jaxcam.networks import vgg_digits as vgg_digits
from jaxcam import pretrained as pretrained
from jaxcam.pretrained import checkpoints as checkpoints
from jaxcam.pretrained import layouts as layouts
from jaxcam.pretrained import digits as digits
from jaxcam.pretrained import efficientnet_lite0 as efficientnet_lite0
from jaxcam.pretrained import efficientnet_lite1 as efficientnet_lite1
from jaxcam.pretrained import efficientnet_lite2 as efficientnet_lite2
from jaxcam.pretrained import convnext_tiny as convnext_tiny
from jaxcam.pretrained import efficientnet_b0 as efficientnet_b0
from jaxcam.pretrained import mobilenet_v2 as mobilenet_v2
from jaxcam.pretrained import resnet18 as resnet18
from jaxcam.pretrained import resnet34 as resnet34
from jaxcam.pretrained import resnet50 as resnet50
from jaxcam.pretrained import vit_small_patch16 as vit_small_patch16
from jaxcam.pretrained import vgg11 as vgg11
from jaxcam.pretrained import vgg13 as vgg13
from jaxcam.pretrained import vgg16 as vgg16
from jaxcam.pretrained import vgg19 as vgg19

# A model and a layer to `features` and `head`.
from jaxcam.cutting import Cut as Cut
from jaxcam.cutting import Cuts as Cuts
from jaxcam.cutting import cut as cut
from jaxcam.cutting import layers as layers
from jaxcam.cutting import describe_layers as describe_layers

# The score's derivatives at every location, and a proof of when the closed form is exact.
from jaxcam import derivatives as derivatives
from jaxcam.derivatives import certificate as certificate
from jaxcam.derivatives import certify as certify

# The papers' equations on arrays: scores, channel weights, maps; and the noise that derivatives are averaged over.
from jaxcam.formulas import compat as compat
from jaxcam.formulas import maps as maps
from jaxcam.formulas import scores as scores
from jaxcam.formulas import weights as weights
from jaxcam.formulas.maps import fuse as fuse
from jaxcam.formulas.maps import normalize as normalize
from jaxcam.formulas.maps import resize as resize
from jaxcam.formulas.maps import select as select
from jaxcam.perturbations import noise as noise
from jaxcam.perturbations import attacks as attacks

# One mechanism, and the named methods that are made of it.
from jaxcam.methods import gradient_cam as gradient_cam
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
from jaxcam.methods import occlusion as occlusion
from jaxcam.methods import grad_cam_plus_smooth as grad_cam_plus_smooth
from jaxcam.methods import average_maps as average_maps
from jaxcam.methods import explain_classes as explain_classes
from jaxcam.methods import Sampled as Sampled
from jaxcam.perturbations import Smoothed as Smoothed

# Methods in the input's space, and other backward rules for a relu.
from jaxcam.tracing import rules as rules
from jaxcam.methods import pixels as pixels
from jaxcam.methods import deconvnet as deconvnet
from jaxcam.methods import guided_backprop as guided_backprop
from jaxcam.methods import guided_grad_cam as guided_grad_cam
from jaxcam.methods import input_gradient as input_gradient
from jaxcam.methods import integrated_gradients as integrated_gradients
from jaxcam.methods import saliency as saliency
from jaxcam.methods import smooth_grad as smooth_grad
from jaxcam.methods import square_grad as square_grad
from jaxcam.methods import var_grad as var_grad

# Many images: memory, devices, and folders that a stopped run goes on with.
from jaxcam._base import limits as limits
from jaxcam import runtime as runtime
from jaxcam.runtime import Explained as Explained
from jaxcam.runtime import explain_batch as explain_batch

# Which map is better: metrics, controls, and an evaluation of methods on labeled examples.
from jaxcam import datasets as datasets
from jaxcam import metrics as metrics
from jaxcam.datasets import Example as Example
from jaxcam.evaluation import Evaluation as Evaluation
from jaxcam.evaluation import evaluate as evaluate
from jaxcam.evaluation import measures as measures
from jaxcam.methods import controls as controls

# A network by its name, ready for photographs, and what explains one photograph.
from jaxcam import opening as opening
from jaxcam.opening import OpenedModel as OpenedModel
from jaxcam.opening import open_model as open_model
from jaxcam.explaining import Explanation as Explanation
from jaxcam.explaining import Explanations as Explanations
from jaxcam.explaining import explain as explain

# Questions about a model and its maps.
from jaxcam import analysis as analysis
from jaxcam.analysis import Diagnosis as Diagnosis
from jaxcam.analysis import diagnose as diagnose
from jaxcam.analysis import validate as validate

# Names that say more, or that earlier versions had.
channel_weights = weights
linearity = certificate
batches = runtime

__version__ = _version("jaxcam-saliency")


def _warn_of_the_camera_library() -> None:
    """Warns if the distribution that is called jaxcam is installed as well: its files and ours are in one folder."""
    try:
        _version("jaxcam")
    except _PackageNotFoundError:
        return
    _warnings.warn(
        "the distribution 'jaxcam', a camera library, is installed too, and its files mix with those of "
        "jaxcam-saliency: run pip uninstall jaxcam, then install jaxcam-saliency again",
        stacklevel=2,
    )


_warn_of_the_camera_library()

_LAZY_PACKAGES = ("losses", "plots", "web")  # they import libraries that most programs do not need
__all__ = sorted({name for name in globals() if not name.startswith("_")} | set(_LAZY_PACKAGES))


def __getattr__(name: str) -> _Any:
    if name in _LAZY_PACKAGES:
        return _importlib.import_module(f"jaxcam.{name}")
    raise AttributeError(f"module 'jaxcam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
