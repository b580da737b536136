"""The other methods beside the peers that compute them rightly: the same weights, image and targets, several layers.

torch-cam gives its maps without its normalization; pytorch-grad-cam normalizes always, so ours is normalized as it
does.
"""

import jax
import numpy as np
import pytest

import jaxcam
from tests.peers import libraries as peers

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

LAYERS = ("block1_conv2", "block2_conv2", "block3_conv2")
TARGETS = (1, 4, 8)
METHODS = {
    "GradCAM": jaxcam.grad_cam, "XGradCAM": jaxcam.xgrad_cam, "LayerCAM": jaxcam.layer_cam,
    "HiResCAM": jaxcam.hires_cam, "ScoreCAM": jaxcam.score_cam,
}  # fmt: skip


@pytest.fixture(scope="module")
def network(digits):
    pytest.importorskip("torch")
    from benchmarks.torch_vgg import torch_vgg

    return torch_vgg(digits)


def torch_image(image):
    from benchmarks.torch_vgg import images

    return images(image[None])


def ours(name, digits, layer, image):
    cut = jaxcam.cut(digits, layer)
    return [np.asarray(METHODS[name](cut, image, target)) for target in TARGETS]


def of_torch_cam(name, network, layer, image):
    methods = pytest.importorskip("torchcam.methods")
    with getattr(methods, name)(network, layer) as explainer:
        return [
            explainer(target, network(torch_image(image)), normalized=False)[0][0].detach().numpy()
            for target in TARGETS
        ]


def of_pytorch_grad_cam(name, network, layer, image, shape):
    library = peers.pytorch_grad_cam()
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class AtTheLayer(getattr(library, name)):
        def get_target_width_height(self, images):
            return shape[::-1]

    with AtTheLayer(network, [network.get_submodule(layer)]) as explainer:
        return [explainer(torch_image(image), [ClassifierOutputTarget(target)])[0] for target in TARGETS]


def twice_min_max(found):
    for _ in range(2):
        found = found - found.min()
        found = found / (found.max() + 1e-7)
    return found


def largest_difference(found, wanted):
    differences = []
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert theirs.max() > 0
        differences.append(np.abs(mine - theirs).max() / theirs.max())
    return max(differences)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ["GradCAM", "XGradCAM", "LayerCAM"])
def test_torch_cam(name, layer, digits, network, image):
    difference = largest_difference(ours(name, digits, layer, image), of_torch_cam(name, network, layer, image))
    print(f"\ntorch-cam {name}, {layer}: {difference:.1e} of the maximum")
    assert difference < 1e-5


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ["GradCAM", "XGradCAM", "LayerCAM", "HiResCAM"])
def test_pytorch_grad_cam(name, layer, digits, network, image):
    found = ours(name, digits, layer, image)
    wanted = of_pytorch_grad_cam(name, network, layer, image, found[0].shape)
    difference = largest_difference([twice_min_max(each) for each in found], wanted)
    print(f"\npytorch-grad-cam {name}, {layer}: {difference:.1e} of the maximum")
    assert difference < 1e-5


def test_score_cam(digits, network, image):
    """Where nothing is upsampled, all three agree."""
    layer = "block1_conv2"
    found = ours("ScoreCAM", digits, layer, image)
    wanted = of_torch_cam("ScoreCAM", network, layer, image)
    check_score_cam("torch-cam", layer, found, wanted)
    wanted = of_pytorch_grad_cam("ScoreCAM", network, layer, image, found[0].shape)
    check_score_cam("pytorch-grad-cam", layer, [twice_min_max(each) for each in found], wanted)


def test_score_cam_masks_are_the_only_difference(digits, network, image):
    """Elsewhere, torch-cam scales a channel to 0..1 before it upsamples it, where the paper, pytorch-grad-cam and
    jaxcam do after; and pytorch-grad-cam's bilinear upsampling aligns the corners, which torch-cam's and jaxcam's do
    not. With their masks jaxcam's steps give their maps."""
    layer = "block3_conv2"
    torch = pytest.importorskip("torch")
    cut = jaxcam.cut(digits, layer)
    A = cut.features(cut.params, image)
    channels = torch.from_numpy(np.moveaxis(np.asarray(A), -1, 0).copy())[None]

    def scaled(x):
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return (x - low) / (high - low + 1e-8)

    def upsampled(x, align_corners):
        return torch.nn.functional.interpolate(x, image.shape[:2], mode="bilinear", align_corners=align_corners)

    @jax.jit
    def by_masks(cut, A, masks):
        def logits(mask):
            masked = image * mask[..., None]
            return cut.head(cut.params, cut.features(cut.params, masked), masked)

        found = jax.lax.map(logits, masks, batch_size=16)
        return [jaxcam.maps.weighted_sum(A, jaxcam.weights.score_cam(found[:, target])) for target in TARGETS]

    own = ours("ScoreCAM", digits, layer, image)
    wanted = of_torch_cam("ScoreCAM", network, layer, image)
    found = [np.asarray(each) for each in by_masks(cut, A, upsampled(scaled(channels), False)[0].numpy())]
    check_score_cam("torch-cam", layer, found, wanted, own)
    wanted = of_pytorch_grad_cam("ScoreCAM", network, layer, image, A.shape[:2])
    found = [twice_min_max(np.asarray(each)) for each in by_masks(cut, A, scaled(upsampled(channels, True))[0].numpy())]
    check_score_cam("pytorch-grad-cam", layer, found, wanted, [twice_min_max(each) for each in own])


def check_score_cam(peer, layer, found, wanted, unlike=None):
    difference = largest_difference(found, wanted)
    print(f"\n{peer} ScoreCAM, {layer}: {difference:.1e} of the maximum")
    assert difference < 1e-5
    if unlike is not None:
        difference = largest_difference(unlike, wanted)
        print(f"with jaxcam's own masks: {difference:.1e}")
        assert difference > 1e-2
