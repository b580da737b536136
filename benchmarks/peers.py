"""torch-cam and pytorch-grad-cam beside jaxcam: the same VGG with the same weights, image, class and layer.

PyTorch and the peers are in the development group `peers`, and imported here only when a benchmark asks for them. Where
only PyTorch's CPU build is at hand, torchvision, which pytorch-grad-cam imports, needs torchvision_cpu_shim.py: it is
taken from the folder that JAXCAM_PEERS names, ../shared/peers beside the repository where it names none.
"""

import importlib
import os
import pathlib
import sys

import jax
import numpy as np
from flax import nnx

import jaxcam

TARGET = 3
PEERS = pathlib.Path(__file__).parents[2] / "shared" / "peers"


class Missing(Exception):
    """A peer cannot be imported: the benchmark that runs it beside jaxcam ends with this line."""


def needed(name):
    """A peer's module, or `Missing`."""
    try:
        if name.split(".")[0] == "pytorch_grad_cam":
            declare_operators()
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision without its operators is a RuntimeError
        raise Missing(
            f"it runs {name.split('.')[0]} beside jaxcam, which cannot be imported ({str(error).splitlines()[0]}): "
            "install the group peers; JAXCAM_PEERS names the folder of torchvision_cpu_shim.py"
        ) from error


def declare_operators():
    """Lets torchvision import beside PyTorch's CPU build, where the shim is at hand."""
    folder = pathlib.Path(os.environ.get("JAXCAM_PEERS", PEERS))
    torch = needed("torch")
    if torch.version.cuda is None and (folder / "torchvision_cpu_shim.py").exists():
        sys.path.insert(0, str(folder))
        try:
            importlib.import_module("torchvision_cpu_shim")
        finally:
            sys.path.remove(str(folder))


def vgg(*, small):
    """VGG-16 with random weights and its last convolution; small, the digits network and its."""
    return (jaxcam.digits(), "block3_conv2") if small else (jaxcam.vgg16(rngs=nnx.Rngs(0)), "block5_conv3")


def network(model, **options):
    """The model in PyTorch, as `torch_vgg` writes it."""
    needed("torch")
    return importlib.import_module("benchmarks.torch_vgg").torch_vgg(model, **options)


def images(array, **options):
    """Images `[b h w c]` as PyTorch takes them."""
    return importlib.import_module("benchmarks.torch_vgg").images(array, **options)


def torch_cam(method, net, layers, x, target=TARGET, **options):
    """A rival: the maps of a torch-cam method, called as its documentation does; hooks are set and taken away again.

    Args:
      method: a name in `torchcam.methods`.
      net: the network.
      layers: the target layer's name, or several.
      x: images `[b c h w]`.
      target: the class, or a list of one for each image.
      options: those of the method.

    Returns:
      A function without arguments; its result is a list of maps `[b h w]`, one for each layer.
    """
    methods = needed("torchcam.methods")

    def maps():
        with getattr(methods, method)(net, layers, **options) as extractor:
            scores = net(x)
            return waited(extractor(target, scores, normalized=False))

    return maps


def waited(tensors):
    """The tensors, when they have been computed."""
    torch = needed("torch")
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return tensors


def difference(ours, theirs):
    """The largest difference of two maps over the largest value: whether rivals compute the same."""
    ours, theirs = np.asarray(jax.block_until_ready(ours)), theirs.detach().cpu().float().numpy()
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())
