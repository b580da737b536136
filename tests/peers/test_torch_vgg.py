"""The VGG that is written by hand in PyTorch, for the peers, computes what jaxcam's does, at every layer."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxcam

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")

from benchmarks.torch_vgg import images, torch_vgg  # noqa: E402


def wide():
    """A net whose flattened activation is not square and which is wider than high: a transposed fc1 would show."""
    options = {"image_shape": (32, 48, 3), "preprocess": jaxcam.vgg.caffe, "rngs": nnx.Rngs(1)}
    return jaxcam.vgg_digits(**options)


MODELS = {
    "digits": jaxcam.digits,
    "wide, caffe": wide,
    "average, torchvision": lambda: jaxcam.vgg_digits(top="average", preprocess=jaxcam.vgg.torchvision),
    "VGG-16": lambda: jaxcam.vgg16(rngs=nnx.Rngs(0), preprocess=jaxcam.vgg.torchvision),
}


@pytest.mark.parametrize("name", MODELS)
def test_same_layers(name):
    model = MODELS[name]()
    network = torch_vgg(model)
    image = np.random.default_rng(0).random((1, *model.image_shape), np.float32)
    seen = {}
    for layer in model.layers:
        network.get_submodule(layer).register_forward_hook(
            lambda _, inputs, output, layer=layer: seen.update({layer: output.numpy().copy()})
        )
    with torch.no_grad():
        network(images(image))
    for layer in (*[layer for layer in model.layers if layer.startswith("block")][-3:], *model.layers[-2:]):
        wanted = np.asarray(jax.jit(lambda model, x, layer=layer: model.features(x, until=layer))(model, image))
        found = np.moveaxis(seen[layer], 1, -1)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max(), layer


def test_dtype_and_refusals():
    network = torch_vgg(jaxcam.digits(), dtype=torch.bfloat16)
    assert network(images(np.zeros((2, 64, 64, 3), np.float32), dtype=torch.bfloat16)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="activation is"):
        torch_vgg(jaxcam.digits(activation=jax.nn.gelu))
    with pytest.raises(ValueError, match="preprocess is"):
        torch_vgg(jaxcam.vgg_digits(preprocess=lambda x: x))
