"""Grad-CAM of one image takes at most as long as the peers', torch-cam's and pytorch-grad-cam's.

VGG-16 with random weights at 224 x 224, block5_conv3; forward and backward pass included for all. The peers are called
as their documentation does. pytorch-grad-cam's backward pass then reaches every parameter and its map is resized to the
image, so it has a second row, of parameters frozen but for those of the layer: the least that it can be made to do. The
least of all rivals counts. `difference` is that of jaxcam's map and torch-cam's, over the map's maximum.
"""

import jax

import jaxcam
from benchmarks import peers, timing

BOUND = 1


@jax.jit
def grad_cam(cut, image):
    """The map, class given."""
    return jaxcam.grad_cam(cut, image, peers.TARGET)


def measure(*, small: bool = False) -> dict:
    """Ratios of the map's time over its rivals'; small runs the digits network."""
    model, layer = peers.vgg(small=small)
    cut, image = jaxcam.cut(model, layer), jax.random.uniform(jax.random.key(0), model.image_shape)
    net, frozen, x = peers.network(model), peers.network(model), peers.images(image[None])
    frozen.requires_grad_(False).get_submodule(layer).requires_grad_(True)
    torch_cam = peers.torch_cam("GradCAM", net, layer, x)
    rivals = {
        "torch-cam": torch_cam,
        "pytorch-grad-cam": pytorch_grad_cam(net, layer, x),
        "pytorch-grad-cam, other parameters frozen": pytorch_grad_cam(frozen, layer, x),
    }
    times = timing.in_turn({"jaxcam": lambda: grad_cam(cut, image), **rivals}, repeats=2 if small else 9)
    least = timing.fastest(times, rivals)
    return {
        "ratios": {f"jaxcam / {name}": timing.median_ratio(times, "jaxcam", name) for name in rivals},
        "bounds": {f"jaxcam / {least}": BOUND},
        "difference": peers.difference(grad_cam(cut, image), torch_cam()[0][0]),
        "seconds": timing.summary(times),
    }


def pytorch_grad_cam(net, layer, x):
    """A rival: the map of pytorch-grad-cam, called as its documentation does."""
    package = peers.needed("pytorch_grad_cam")
    targets = [peers.needed("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(peers.TARGET)]

    def saliency_map():
        with package.GradCAM(model=net, target_layers=[net.get_submodule(layer)]) as extractor:
            return extractor(input_tensor=x, targets=targets)

    return saliency_map
