"""Methods in the input's space: they go through the whole model, and their maps have the image's resolution.

Each is `method(cut, image, target=None, [key], *, options)` on one example, like the methods at a layer. They return an
attribution for every value of the image, `[*spatial c]`, signed; `saliency` returns a map. Only `guided_grad_cam`
depends on the layer of the cut.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> jaxcam.guided_backprop(cut, image).shape, jaxcam.saliency(cut, image).shape
    ((64, 64, 3), (64, 64))

They differentiate the score itself, Y = u. A link would only scale the result, except for integrated gradients, where
it is an option.
"""

from jaxcam.methods._gradients import deconvnet as deconvnet
from jaxcam.methods._gradients import guided_backprop as guided_backprop
from jaxcam.methods._gradients import input_gradient as input_gradient
from jaxcam.methods._gradients import saliency as saliency
from jaxcam.methods._guided_grad_cam import guided_grad_cam as guided_grad_cam
from jaxcam.methods._integrated_gradients import integrated_gradients as integrated_gradients
from jaxcam.methods._smooth_grad import smooth_grad as smooth_grad
from jaxcam.methods._smooth_grad import square_grad as square_grad
from jaxcam.methods._smooth_grad import var_grad as var_grad
