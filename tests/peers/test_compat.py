"""Each preset against its peer, run for real: the same weights, the same image, at the layer's resolution.

torch-cam and pytorch-grad-cam run in this process; tf-keras-vis, xplique and the original in one that has TensorFlow,
JAXCAM_TENSORFLOW_PYTHON, which reads weights and image from a file and writes its maps to another. The original has no
package: JAXCAM_ORIGINAL names a clone of adityac94/Grad_CAM_plus_plus.
"""

import pathlib
import subprocess

import jax
import numpy as np
import pytest
from flax import nnx

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


def presets(peer, model, layer, image, targets=TARGETS):
    cut = jaxcam.cut(model, layer)
    return [np.asarray(jaxcam.grad_cam_pp(cut, image, target, compat=peer)) for target in targets]


def compare(peer, layer, found, wanted, bound=1e-4):
    differences = []
    for preset, theirs in zip(found, wanted, strict=True):
        assert preset.shape == theirs.shape
        assert theirs.max() > 0
        differences.append(np.abs(preset - theirs).max() / theirs.max())
    print(f"\n{peer}, {layer}: {max(differences):.1e} of the maximum")
    assert max(differences) < bound


@pytest.fixture(scope="module")
def torch_network(digits):
    pytest.importorskip("torch")
    from benchmarks.torch_vgg import images, torch_vgg

    return torch_vgg(digits), images


@pytest.mark.parametrize("layer", LAYERS)
def test_torch_cam(layer, digits, torch_network, image):
    torchcam = pytest.importorskip("torchcam.methods")
    network, images = torch_network
    with torchcam.GradCAMpp(network, layer) as explainer:
        wanted = [explainer(target, network(images(image[None])))[0][0].numpy() for target in TARGETS]
    compare("torch-cam", layer, presets("torch-cam", digits, layer, image), wanted)


@pytest.mark.parametrize("layer", LAYERS)
def test_pytorch_grad_cam(layer, digits, torch_network, image):
    library = peers.pytorch_grad_cam()
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    found = presets("pytorch-grad-cam", digits, layer, image)

    class AtTheLayer(library.GradCAMPlusPlus):
        def get_target_width_height(self, images):
            return found[0].shape[::-1]

    network, images = torch_network
    with AtTheLayer(network, [network.get_submodule(layer)]) as explainer:
        wanted = [explainer(images(image[None]), [ClassifierOutputTarget(target)])[0] for target in TARGETS]
    compare("pytorch-grad-cam", layer, found, wanted)


def in_tensorflow(tmp_path, peer, model, layers, image, targets=TARGETS):
    before, after = tmp_path / "in.npz", tmp_path / "out.npz"
    weights = {
        f"{name}/{part}": np.asarray(getattr(getattr(model, name), part).get_value(), image.dtype)
        for name in model.layers
        if not name.endswith("pool")
        for part in ("kernel", "bias")
    }
    np.savez(before, image=image, targets=targets, explain=layers, layers=model.layers, **weights)
    script = pathlib.Path(__file__).with_name("tensorflow_side.py")
    python = peers.tensorflow_python()
    done = subprocess.run([python, script, peer, before, after], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip(f"{peer} does not run in {python}: {done.stdout.strip()}; JAXCAM_TENSORFLOW_PYTHON names another")
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(after) as arrays:
        return dict(arrays)


def test_xplique(tmp_path, digits, image):
    for layer, wanted in in_tensorflow(tmp_path, "xplique", digits, LAYERS, image).items():
        compare("xplique", layer, presets("xplique", digits, layer, image), wanted)


def test_tf_keras_vis(tmp_path, digits, image):
    (wanted,) = in_tensorflow(tmp_path, "tf-keras-vis", digits, LAYERS[-1:], image).values()
    compare("tf-keras-vis", LAYERS[-1], presets("tf-keras-vis", digits, LAYERS[-1], image), wanted)


def test_tf_keras_vis_in_float64(tmp_path, digits, image, x64):
    """Where 2 + S g is near zero for some g < 0, its alpha is huge, and as the sum of alphas is divided by, rounding
    grows with it: to more than 1e-4 at the earlier layers in float32. In float64 nothing is left of that."""
    graphdef, state = nnx.split(digits)
    wide = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(np.float64), state))
    for layer, wanted in in_tensorflow(tmp_path, "tf-keras-vis", wide, LAYERS, image.astype(np.float64)).items():
        found = presets("tf-keras-vis", wide, layer, image.astype(np.float64))
        compare("tf-keras-vis in float64", layer, found, wanted, bound=1e-9)


def test_original(tmp_path):
    """Its sizes are fixed: images of 224 x 224, 1000 classes, a layer of 14 x 14."""
    model = jaxcam.VGG(blocks=((4,), (4,), (8,), (8,), (16, 16)), dense=(32,), rngs=nnx.Rngs(0))
    image = np.random.default_rng(0).random(model.image_shape, np.float32)
    targets = (3, 7, 500)
    wanted = in_tensorflow(tmp_path, "original", model, ["block5_conv2"], image, targets)["block5_conv2"]
    compare("original", "block5_conv2", presets("original", model, "block5_conv2", image, targets), wanted)
