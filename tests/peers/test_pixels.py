"""captum's methods in the input's space, on a PyTorch network with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peers' own: hooks on activations

torch = pytest.importorskip("torch")
attr = pytest.importorskip("captum.attr")

TARGET, SIZE = 3, 16
IMAGE = np.random.default_rng(0).normal(size=(SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def peer():
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * SIZE * SIZE // 4, 10), nn.ReLU(), nn.Linear(10, 5),
    ).eval()  # fmt: skip
    return model


def pool(x):
    """The gradient goes to the first of equal values, as PyTorch's does; that of jnp.max is shared among them.

    The deconvnet shows it: it passes gradients to the zeros of a relu.
    """
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID")


@pytest.fixture(scope="module")
def cut(peer):
    w = {name: jnp.asarray(value.detach().numpy()) for name, value in peer.named_parameters()}

    def conv(w, i, x):
        dims = ("NHWC", "OIHW", "NHWC")
        return jax.lax.conv_general_dilated(x[None], w[f"{i}.weight"], (1, 1), "SAME", dimension_numbers=dims)[0]

    def features(w, x):
        x = jax.nn.relu(conv(w, 0, x) + w["0.bias"][None, None])
        return conv(w, 2, x) + w["2.bias"][None, None]

    def head(w, A, x):
        hidden = w["6.weight"] @ pool(jnp.maximum(A, 0)).transpose(2, 0, 1).reshape(-1) + w["6.bias"]
        return w["8.weight"] @ jnp.where(hidden > 0, hidden, 0) + w["8.bias"]

    return jaxcam.Cut(w, features, head)


def compare(found, wanted):
    wanted = wanted.detach().numpy()[0].transpose(1, 2, 0)
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"\nlargest difference {difference:.1e} of the largest value")
    assert np.abs(wanted).max() > 0 and difference < 1e-5


def chw():
    return torch.from_numpy(IMAGE.transpose(2, 0, 1)[None].copy()).requires_grad_()


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        (jaxcam.guided_backprop, attr.GuidedBackprop),
        (jaxcam.deconvnet, attr.Deconvolution),
        (jaxcam.input_gradient, lambda model: attr.Saliency(model)),
        (jaxcam.integrated_gradients, attr.IntegratedGradients),
    ],
)
def test_captum(peer, cut, method, theirs):
    options = {"abs": False} if method is jaxcam.input_gradient else {}
    compare(method(cut, IMAGE, TARGET), theirs(peer).attribute(chw(), target=TARGET, **options))


def test_saliency(peer, cut):
    """captum's has a value for each channel, the paper's the largest of them."""
    wanted = attr.Saliency(peer).attribute(chw(), target=TARGET).amax(1, keepdim=True)
    compare(jaxcam.saliency(cut, IMAGE, TARGET)[..., None], wanted)


def test_integrated_gradients_from_a_baseline(peer, cut):
    base = np.random.default_rng(1).normal(size=IMAGE.shape).astype(np.float32)
    wanted = attr.IntegratedGradients(peer).attribute(
        chw(), torch.from_numpy(base.transpose(2, 0, 1)[None].copy()), target=TARGET, n_steps=20
    )
    compare(jaxcam.integrated_gradients(cut, IMAGE, TARGET, baseline=base, steps=20), wanted)


def test_guided_grad_cam(peer, cut):
    """At the second convolution, before its relu. captum enlarges to the nearest by default; asked, bilinearly."""
    wanted = attr.GuidedGradCam(peer, peer[2]).attribute(chw(), target=TARGET, interpolate_mode="bilinear")
    compare(jaxcam.guided_grad_cam(cut, IMAGE, TARGET), wanted)


def test_guided_grad_cam_enlarged(peer, cut):
    """At the pooled layer, of half the size."""
    w = cut.params

    def pooled(w, x):
        return pool(jnp.maximum(cut.features(w, x), 0))

    def head(w, A, x):
        hidden = w["6.weight"] @ A.transpose(2, 0, 1).reshape(-1) + w["6.bias"]
        return w["8.weight"] @ jax.nn.relu(hidden) + w["8.bias"]

    wanted = attr.GuidedGradCam(peer, peer[4]).attribute(chw(), target=TARGET, interpolate_mode="bilinear")
    compare(jaxcam.guided_grad_cam(jaxcam.Cut(w, pooled, head), IMAGE, TARGET), wanted)
