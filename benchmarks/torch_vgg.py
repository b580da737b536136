"""A jaxcam VGG written by hand in PyTorch, with the same weights: the network on which peers stand beside jaxcam.

    >>> import jaxcam, torch
    >>> network = torch_vgg(jaxcam.digits())
    >>> network(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])

Layers have the names of `VGG.layers`, and a layer's output is the value after its relu: `network.get_submodule(name)`
is what a peer takes as its target layer. Images are floats in 0..1, RGB, `[b 3 h w]`; the preprocessing is inside.
"""

import collections

import jax
import numpy as np
import torch
from torch import nn

import jaxcam

MEANS = {
    jaxcam.vgg.caffe: ([123.68 / 255, 116.779 / 255, 103.939 / 255], [1 / 255] * 3, True),
    jaxcam.vgg.torchvision: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
}


def torch_vgg(
    model: jaxcam.VGG, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> nn.Sequential:
    """The network in PyTorch, in evaluation mode, as one `nn.Sequential` of the layers' names.

    Args:
      model: a VGG with relu, of any size, top "dense" or "average".
      dtype: of parameters and images; float32 where absent.
      device: where the parameters are to be; the CPU where absent.

    Raises:
      ValueError: an activation that is not relu, or a preprocessing that is not one of `jaxcam.vgg`.
    """
    if model.activation is not jax.nn.relu:
        raise ValueError(f"activation is {model.activation}: only jax.nn.relu is written in PyTorch")
    parts: dict[str, nn.Module] = {}
    if model.preprocess is not None:
        parts["preprocess"] = Preprocess(model.preprocess)
    spatial = [side >> sum(name.endswith("pool") for name in model.layers) for side in model.image_shape[:2]]
    flat = model.top == "average"
    for name in model.layers:
        if name.endswith("pool"):
            parts[name] = nn.MaxPool2d(2)
        elif name == "average":
            parts[name] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        elif name.startswith("block"):
            parts[name] = nn.Sequential(_convolution(getattr(model, name)), nn.ReLU(inplace=True))
        else:
            layer = _dense(getattr(model, name), None if flat else spatial)
            before = [] if flat else [nn.Flatten()]
            after = [] if name == "predictions" else [nn.ReLU(inplace=True)]
            parts[name] = nn.Sequential(*before, layer, *after)
            flat = True
    return nn.Sequential(collections.OrderedDict(parts)).to(device=device, dtype=dtype).eval()


class Preprocess(nn.Module):
    """What `jaxcam.vgg.caffe` or `jaxcam.vgg.torchvision` does, for images `[b 3 h w]`."""

    def __init__(self, preprocess):
        if preprocess not in MEANS:
            raise ValueError(f"preprocess is {preprocess}: only caffe and torchvision are written in PyTorch")
        super().__init__()
        mean, std, self.reverse = MEANS[preprocess]
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, image):
        """RGB in 0..1 to what the weights expect."""
        x = (image - self.mean) / self.std
        return x.flip(1) if self.reverse else x


def images(array, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> torch.Tensor:
    """Images `[b h w c]`, NumPy or JAX, as PyTorch has them, `[b c h w]`."""
    return torch.from_numpy(np.moveaxis(np.asarray(array), -1, 1).copy()).to(device=device, dtype=dtype)


def _convolution(layer):
    kernel, bias = _arrays(layer)
    size, _, channels, width = kernel.shape
    made = nn.utils.skip_init(nn.Conv2d, channels, width, size, padding=size // 2)
    return _filled(made, kernel.transpose(3, 2, 0, 1), bias)


def _dense(layer, spatial):
    kernel, bias = _arrays(layer)
    size, width = kernel.shape
    made = nn.utils.skip_init(nn.Linear, size, width)
    if spatial is not None:  # flattened there as h, w, c, and here as c, h, w
        kernel = kernel.reshape(*spatial, -1, width).transpose(2, 0, 1, 3).reshape(size, width)
    return _filled(made, kernel.T, bias)


def _filled(made, weight, bias):
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        made.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))
    return made


def _arrays(layer):
    return tuple(np.array(variable.get_value(), np.float32) for variable in (layer.kernel, layer.bias))
