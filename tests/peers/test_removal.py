"""Curves against xplique's, and ROAD's imputation against pytorch-grad-cam's and Quantus', which run here.

xplique runs in an interpreter that has TensorFlow, JAXCAM_TENSORFLOW_PYTHON, on the same network, image and map.
"""

import pathlib
import subprocess

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam.perturbations import blurred, impute
from tests.peers import libraries as peers

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def saliency(image):
    """A map without ties, which each library breaks in its own way."""
    return np.random.default_rng(0).permutation(image[..., 0].size).reshape(image.shape[:2]).astype(np.float32)


def test_xplique(tmp_path, digits, cut, image, saliency):
    """Deletion and insertion are its curves and areas; its insertion starts from black by default."""
    before, after = tmp_path / "in.npz", tmp_path / "out.npz"
    weights = {
        f"{name}/{part}": np.asarray(getattr(getattr(digits, name), part).get_value(), image.dtype)
        for name in digits.layers
        if not name.endswith("pool")
        for part in ("kernel", "bias")
    }
    blurred_image = np.asarray(blurred(image))
    np.savez(
        before, image=image, targets=[3], explain=["deletion", "insertion", "insertion of blurred"],
        layers=digits.layers, saliency=saliency, blurred=blurred_image, steps=7, **weights,
    )  # fmt: skip
    script = pathlib.Path(__file__).with_name("tensorflow_side.py")
    python = peers.tensorflow_python()
    run = [python, script, "xplique-removal", before, after]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip(f"xplique does not run in {python}: {done.stdout.strip()}; JAXCAM_TENSORFLOW_PYTHON names another")
    assert done.returncode == 0, done.stderr[-3000:]
    curves = {
        "deletion": metrics.deletion(cut, image, saliency, 3, steps=7),
        "insertion": metrics.insertion(cut, image, saliency, 3, steps=7, baseline=0.0),
        "insertion of blurred": metrics.insertion(cut, image, saliency, 3, steps=7),
    }
    with np.load(after) as arrays:
        for name, (*curve, area) in ((name, array[0]) for name, array in arrays.items()):
            assert np.ptp(curve) > 0.1, "a flat curve shows nothing"
            np.testing.assert_allclose(curves[name], curve, atol=1e-5)
            assert float(metrics.area(curves[name])) == pytest.approx(area, abs=1e-5)


def masks(saliency):
    smooth = np.asarray(jaxcam.resize(jaxcam.resize(saliency, (8, 8)), saliency.shape))
    return [smooth > np.quantile(smooth, 1 - share) for share in (0.2, 0.5, 0.8)] + [saliency > np.median(saliency)]


def test_road_of_pytorch_grad_cam(image, saliency):
    peers.pytorch_grad_cam()
    import torch
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    theirs = NoisyLinearImputer(noise=0.0)
    for removed in masks(saliency):
        channels, kept = torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(~removed).float()
        expected = theirs(channels, kept).numpy().transpose(1, 2, 0)
        filled = impute(image, removed, jax.random.key(0), noise=0.0)
        assert np.abs(filled - expected).max() < 1e-3 * np.ptp(image)


def test_road_combined_of_pytorch_grad_cam(digits, cut, image, saliency):
    """Their percentile p keeps what is below the map's p-th percentile: it removes the share 1 - p / 100."""
    peers.pytorch_grad_cam()
    import torch
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    from benchmarks.torch_vgg import images, torch_vgg

    torch.manual_seed(0)
    scaled = saliency / saliency.max()
    targets = [ClassifierOutputSoftmaxTarget(3)]
    expected = ROADCombined([40, 60, 80])(images(image[None]), scaled[None], targets, torch_vgg(digits))[0]
    curves = [
        metrics.road(cut, image, scaled, 3, jax.random.key(0), shares=(0.6, 0.4, 0.2), first=first)
        for first in ("most", "least")
    ]
    assert float(metrics.road_combined(*curves)) == pytest.approx(
        expected, abs=0.02
    )  # each library draws its own noise


def test_road_of_quantus(image, saliency):
    """Quantus keeps neighbors beyond the left and right border apart from pixels of the row above or below."""
    functions = pytest.importorskip("quantus.functions.perturb_func")
    for removed in masks(saliency):
        indices = np.flatnonzero(removed)
        expected = functions.noisy_linear_imputation(image.transpose(2, 0, 1).copy(), indices, noise=0.0)
        filled = impute(image, removed, jax.random.key(0), noise=0.0)
        assert np.abs(filled - expected.transpose(1, 2, 0)).max() < 1e-3 * np.ptp(image)
