"""Files of a VGG's weights in every layout and format, written by hand."""

import functools
import io
import zipfile

import h5py
import numpy as np
import safetensors.numpy

from jaxcam.networks.vgg import DEPTHS, caffe, torchvision
from tests.pretrained.torch_writer import write_torch


@functools.cache
def weights(depth=16, classes=5, width=4, side=2):
    """A VGG as deep as the published ones and a few channels wide, in jaxcam's names: what every file here holds."""
    rng = np.random.default_rng(depth)
    shapes = {}
    channels = 3
    for b, length in enumerate(DEPTHS[depth], start=1):
        for c in range(1, length + 1):
            shapes[f"block{b}_conv{c}"] = (3, 3, channels, width)
            channels = width
    shapes |= {"fc1": (side * side * width, 7), "fc2": (7, 6), "predictions": (6, classes)}
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}/kernel"] = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
        arrays[f"{name}/bias"] = rng.normal(0, 0.3, shape[-1:]).astype(np.float32)
    return arrays


def names(arrays):
    return list(dict.fromkeys(name.partition("/")[0] for name in arrays))


def keras_release(arrays):
    return {f"{name}/{name}_{letter}_1:0": arrays[f"{name}/{part}"]
            for name in names(arrays) for letter, part in (("W", "kernel"), ("b", "bias"))}  # fmt: skip


def keras_save(arrays):
    return {f"model_weights/{name}/{name}/{part}": arrays[f"{name}/{part}"]
            for name in names(arrays) for part in ("kernel", "bias")}  # fmt: skip


def keras_numbered(arrays, first=0):
    """The names that Keras gives to layers without one, from a counter that has counted other models' layers."""
    found, counts = {}, {"conv2d": first, "dense": first}
    for name in names(arrays):
        kind = "conv2d" if "conv" in name else "dense"
        found[name] = kind if counts[kind] == 0 else f"{kind}_{counts[kind]}"
        counts[kind] += 1
    return found


def keras_save_unnamed(arrays):
    number = keras_numbered(arrays, first=8)
    return {f"model_weights/{number[name]}/{number[name]}/{part}": arrays[f"{name}/{part}"]
            for name in names(arrays) for part in ("kernel", "bias")} | {
        "optimizer_weights/adam/iteration": np.int64(3)}  # fmt: skip


def keras_weights(arrays):
    number = keras_numbered(arrays)
    return {f"layers/{number[name]}/vars/{i}": arrays[f"{name}/{part}"]
            for name in names(arrays) for i, part in enumerate(("kernel", "bias"))} | {
        "layers/dropout/seed_generator/vars/0": np.zeros(2, np.uint32),
        "optimizer/vars/0": np.int64(3)}  # fmt: skip


def chw(kernel, out_first):
    """fc1's kernel with its rows in the order C, H, W, one at a time."""
    rows = [kernel[(h * 2 + w) * 4 + c] for c in range(4) for h in range(2) for w in range(2)]
    return np.stack(rows, 1 if out_first else 0)


def features(arrays):
    found, at = {}, 0
    for name in [name for name in names(arrays) if "conv" in name]:
        at += name.endswith("conv1") and name != "block1_conv1"  # a pooling before
        found[f"features.{at}.weight"] = arrays[f"{name}/kernel"].transpose(3, 2, 0, 1)
        found[f"features.{at}.bias"] = arrays[f"{name}/bias"]
        at += 2
    return found


def torch_names(arrays, *, reorder=True):
    fc1 = chw(arrays["fc1/kernel"], True) if reorder else arrays["fc1/kernel"].T
    found = features(arrays) | {"classifier.0.weight": fc1, "classifier.0.bias": arrays["fc1/bias"]}
    for index, name in ((3, "fc2"), (6, "predictions")):
        found |= {f"classifier.{index}.weight": arrays[f"{name}/kernel"].T,
                  f"classifier.{index}.bias": arrays[f"{name}/bias"]}  # fmt: skip
    return found


def timm_names(arrays):
    return features(arrays) | {
        "pre_logits.fc1.weight": chw(arrays["fc1/kernel"], True).reshape(7, 4, 2, 2),
        "pre_logits.fc1.bias": arrays["fc1/bias"],
        "pre_logits.fc2.weight": arrays["fc2/kernel"].T.reshape(6, 7, 1, 1),
        "pre_logits.fc2.bias": arrays["fc2/bias"],
        "head.fc.weight": arrays["predictions/kernel"].T,
        "head.fc.bias": arrays["predictions/bias"],
    }


def flaxmodels_names(arrays):
    dense = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
    found = {}
    for name in names(arrays):
        new = dense.get(name) or name.replace("block", "conv").replace("_conv", "_")
        kernel = arrays[f"{name}/kernel"]
        found |= {
            f"{new}/weight": chw(kernel, False) if name == "fc1" else kernel,
            f"{new}/bias": arrays[f"{name}/bias"],
        }
    return found


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_safetensors(path, arrays):
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def write_npz(path, arrays):
    with open(path, "wb") as file:  # savez would add .npz to the name
        np.savez(file, **arrays)


def write_keras(path, arrays):
    content = io.BytesIO()
    write_h5(content, arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", content.getvalue())


FILES = {
    "keras release": (write_h5, keras_release, caffe),
    "keras save": (write_h5, keras_save, caffe),
    "keras save, unnamed": (write_h5, keras_save_unnamed, caffe),
    "keras save_weights": (write_h5, keras_weights, caffe),
    "keras archive": (write_keras, keras_weights, caffe),
    "torchvision safetensors": (write_safetensors, torch_names, torchvision),
    "torchvision zip": (write_torch, torch_names, torchvision),
    "torchvision legacy": (functools.partial(write_torch, legacy=True), torch_names, torchvision),
    "timm": (write_safetensors, timm_names, torchvision),
    "flaxmodels": (write_h5, flaxmodels_names, torchvision),
    "jaxcam npz": (write_npz, dict, None),
    "jaxcam safetensors": (write_safetensors, dict, None),
}
