"""Full-size VGG-16 files as Keras and PyTorch write them themselves, and the logits that those compute from them.

Weights are random, biases too, so that a lost bias shows. A file has 550 MB; each is deleted before the next.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import collections

import jax
import numpy as np
import pytest

import jaxcam

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Keras's, that HDF5 is its older format
]

IMAGE = np.random.default_rng(1).random((1, 224, 224, 3), np.float32)


def compare(path, wanted, what):
    try:
        model = jaxcam.vgg16(weights=path)
    finally:
        path.unlink()
    found = np.asarray(jax.jit(lambda model, x: model(x))(model, IMAGE))
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape == (1, 1000)
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"\n{what}: logits up to {np.abs(wanted).max():.3g}, largest difference {difference:.1e} of that")
    assert difference < 1e-4


@pytest.fixture(scope="module")
def keras_model():
    keras = pytest.importorskip("keras")
    model = keras.applications.VGG16(weights=None, classifier_activation=None)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = (weight.shape for weight in layer.weights)
            scale = np.float32(np.sqrt(2 / np.prod(kernel[:-1])))
            layer.set_weights([
                rng.standard_normal(kernel, np.float32) * scale, rng.standard_normal(bias, np.float32)
            ])  # fmt: skip
    preprocessed = keras.applications.vgg16.preprocess_input(255 * IMAGE)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # Keras asks for both
        return model, np.asarray(model(preprocessed))


@pytest.mark.parametrize("name", ["x.h5", "x.weights.h5", "x.keras"])
def test_keras(tmp_path, keras_model, name):
    model, logits = keras_model
    path = tmp_path / name
    (model.save_weights if name == "x.weights.h5" else model.save)(path)
    compare(path, logits, f"Keras {name}")


@pytest.fixture(scope="module")
def torch_model():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layers, channels = [], 3
    for width, length in zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True):
        for _ in range(length):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    parts = {"features": nn.Sequential(*layers), "avgpool": nn.AdaptiveAvgPool2d(7), "flatten": nn.Flatten()}
    parts["classifier"] = nn.Sequential(*dense, nn.Linear(4096, 1000))
    model = nn.Sequential(collections.OrderedDict(parts)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.0 if parameter.ndim == 1 else (2 / parameter[0].numel()) ** 0.5
            parameter.normal_(std=scale)
        x = torch.from_numpy(IMAGE.transpose(0, 3, 1, 2).copy())
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        logits = model((x - mean[:, None, None]) / std[:, None, None]).numpy()
    return torch, model.state_dict(), logits


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "timm safetensors"])
def test_torch(tmp_path, torch_model, form):
    torch, state, logits = torch_model
    path = tmp_path / "weights"
    if form == "timm safetensors":
        conv = {"classifier.0.weight": (4096, 512, 7, 7), "classifier.3.weight": (4096, 4096, 1, 1)}
        names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
        renamed = {name: value.reshape(conv.get(name, value.shape)) for name, value in state.items()}
        for old, new in names.items():
            renamed = {name.replace(old, new): value for name, value in renamed.items()}
        state = renamed
    if form.endswith("safetensors"):
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    compare(path, logits, f"PyTorch {form}")


def test_torch_writes_views_as_jaxcam_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "base": base, "transposed": base.T, "part": base[1:3, 1:4], "repeated": base[:1].expand(3, 6),
        "parameter": torch.nn.Parameter(base[2]), "half": base.half(), "bfloat16": base.bfloat16(),
        "integers": torch.arange(3), "booleans": base > 5, "none": base[:0], "scalar": base[2, 2],
    }  # fmt: skip
    for zipped in (True, False):
        torch.save({"epoch": 1, "lr": 0.1, "state_dict": state}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
        found = jaxcam.checkpoints.read(tmp_path / "w")
        assert found.keys() == state.keys()
        for name, value in state.items():
            value = value.detach()
            np.testing.assert_array_equal(found[name], value.float() if value.is_floating_point() else value)
