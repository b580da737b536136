"""The methods: `method(cut, image, target, [key]) -> saliency map`."""

from jaxcam.methods._average import average_maps as average_maps
from jaxcam.methods._call import explanation_method as explanation_method
from jaxcam.methods._cam import METHOD_TITLES as METHOD_TITLES
from jaxcam.methods._cam import cam as cam
from jaxcam.methods._cam import counterfactual_grad_cam as counterfactual_grad_cam
from jaxcam.methods._cam import grad_cam as grad_cam
from jaxcam.methods._cam import grad_cam_plus as grad_cam_plus
from jaxcam.methods._cam import grad_cam_pp as grad_cam_pp
from jaxcam.methods._cam import hires_cam as hires_cam
from jaxcam.methods._cam import layer_cam as layer_cam
from jaxcam.methods._cam import smooth_grad_cam_pp as smooth_grad_cam_pp
from jaxcam.methods._cam import xgrad_cam as xgrad_cam
from jaxcam.methods._gradient_cam import gradient_cam as gradient_cam
from jaxcam.methods._layer_derivatives import derivatives_at_layers as derivatives_at_layers
from jaxcam.methods._paper import grad_cam_plus_smooth as grad_cam_plus_smooth
from jaxcam.methods._score_cam import score_cam as score_cam
from jaxcam.methods._signature import option_names as option_names
from jaxcam.methods.pixels import deconvnet as deconvnet
from jaxcam.methods.pixels import guided_backprop as guided_backprop
from jaxcam.methods.pixels import guided_grad_cam as guided_grad_cam
from jaxcam.methods.pixels import input_gradient as input_gradient
from jaxcam.methods.pixels import integrated_gradients as integrated_gradients
from jaxcam.methods.pixels import saliency as saliency
from jaxcam.methods.pixels import smooth_grad as smooth_grad
from jaxcam.methods.pixels import square_grad as square_grad
from jaxcam.methods.pixels import var_grad as var_grad
