"""timm's networks with random weights, written by PyTorch: jaxcam's networks load the file and give the same logits."""

import jax
import numpy as np
import pytest
import safetensors.numpy

import jaxcam

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")

from tests.peers import libraries  # noqa: E402
from tests.pretrained.timm_names import LINES, shapes  # noqa: E402


@pytest.fixture(scope="module")
def timm():
    libraries.torchvision()  # which timm imports
    return pytest.importorskip("timm")


def drawn(timm, name, images):
    """timm's network with random parameters, none of them zero or one, and the statistics of the images."""
    network = timm.create_model(name, num_classes=10)
    generator = torch.Generator().manual_seed(0)
    for key, value in network.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            value.copy_(noise * (2 / value[0].numel()) ** 0.5)
        else:
            value.copy_(0.5 + 0.15 * noise.clamp(-2, 2) if key.endswith(("weight", "gamma")) else 0.1 * noise)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of the last batch
    if norms:
        network.train()(images)
    return network.eval()


@pytest.mark.parametrize("name", LINES)
def test_the_logits_are_those_of_timm(name, timm, tmp_path):
    # Odd sides show where a convolution is padded; position embeddings are for one size.
    side = (224, 224) if "vit" in name else (130, 97)
    images = np.random.default_rng(0).random((2, *side, 3), np.float32)
    path = tmp_path / "model.safetensors"
    with torch.no_grad():
        mean, std = (
            np.array(timm.get_pretrained_cfg(LINES[name][0]).to_dict()[key], np.float32) for key in ("mean", "std")
        )
        torch_images = torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2))
        network = drawn(timm, LINES[name][0], torch_images)
        safetensors.numpy.save_file({key: value.numpy() for key, value in network.state_dict().items()}, path)
        expected = network(torch_images).numpy()
    assert network.state_dict().keys() == shapes(name).keys()  # what the tests without PyTorch write
    model = getattr(jaxcam, name)(weights=path, image_shape=(*side, 3))
    cut = jaxcam.cut(model, list(jaxcam.layers(model))[-1])
    features = jax.jit(lambda cut, x: cut.features(cut.params, x))
    logits = np.stack([features(cut, image) for image in images])
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
