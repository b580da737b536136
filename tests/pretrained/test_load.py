"""Files of weights: every layout written here by hand, read back, and compared with the arrays that were put in."""

import functools
import io
import os
import pathlib
import struct
import subprocess
import sys
import zipfile
from typing import NamedTuple

import h5py
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import jaxcam
from jaxcam import pretrained
from jaxcam.networks.vgg import DEPTHS, caffe, torchvision
from jaxcam.pretrained import checkpoints, layouts


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


# PyTorch's files without PyTorch: pickles are put together instruction by instruction.


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: object
    arguments: tuple


class Persistent(NamedTuple):
    identity: tuple


class Build(NamedTuple):
    target: object
    state: object


def encode(value) -> bytes:
    match value:
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return encode(function) + encode(arguments) + b"R"
        case Persistent(identity):
            return encode(identity) + b"Q"
        case Build(target, state):
            return encode(target) + encode(state) + b"b"
        case bool():
            return b"\x88" if value else b"\x89"
        case None:
            return b"N"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case dict():
            return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value))


def pickled(value):
    return b"\x80\x02" + encode(value) + b"."


ORDERED = Call(Global("collections", "OrderedDict"), ())
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
KINDS = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "float64": "Double", "int64": "Long"}


def storage(key, array, *extra):
    kind = Global("torch", f"{KINDS[array.dtype.name]}Storage")
    return Persistent(("storage", kind, str(key), "cpu", array.size, *extra))


def tensor(key, array, *extra):
    strides = tuple(step // array.itemsize for step in array.strides)
    return Call(REBUILD, (storage(key, array, *extra), 0, array.shape, strides, False, ORDERED))


def write_zip(path, content, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(content))
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)


def write_legacy(path, content, storages):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as file:
        file.write(pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + pickled(system) + pickled(content))
        file.write(pickled([str(key) for key in storages]))
        for data in storages.values():
            file.write(struct.pack("<q", len(data) // 4) + data)


def write_torch(path, arrays, *, legacy=False, wrap=lambda tensors: tensors, prefix=""):
    arrays = {f"{prefix}{name}": np.ascontiguousarray(array) for name, array in arrays.items()}
    extra = (None,) if legacy else ()
    tensors = {name: tensor(i, array, *extra) for i, (name, array) in enumerate(arrays.items())}
    storages = {i: array.tobytes() for i, array in enumerate(arrays.values())}
    (write_legacy if legacy else write_zip)(path, wrap(tensors), storages)


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


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("layout", FILES)
def test_every_layout_gives_the_arrays_that_were_put_in(tmp_path, layout, depth):
    write, rename, preprocess = FILES[layout]
    path = tmp_path / "weights.bin"  # the name says nothing
    write(path, rename(weights(depth)))
    found = layouts.vgg(checkpoints.read(path))
    assert found.arrays.keys() == weights(depth).keys()
    for name, array in weights(depth).items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    assert found.options == {
        "blocks": tuple((4,) * length for length in DEPTHS[depth]), "dense": (7, 6), "classes": 5,
        "image_shape": (64, 64, 3), "top": "dense", "preprocess": preprocess,
    }  # fmt: skip


def direct(preprocess, **options):
    build = functools.partial(
        jaxcam.vgg16, dense=(7, 6), classes=5, image_shape=(64, 64, 3), preprocess=preprocess,
        blocks=[(4,) * length for length in DEPTHS[16]], **options,
    )  # fmt: skip
    return pretrained.from_arrays(build, weights())


IMAGE = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)


@pytest.mark.parametrize("layout", ["keras save_weights", "torchvision legacy", "timm", "flaxmodels"])
def test_a_loaded_network_gives_the_same_logits(tmp_path, layout):
    write, rename, preprocess = FILES[layout]
    write(tmp_path / "w", rename(weights()))
    model = jaxcam.vgg16(weights=tmp_path / "w")
    np.testing.assert_array_equal(model(IMAGE), direct(preprocess)(IMAGE))
    assert model.class_names is None


def test_options_take_the_place_of_what_the_file_says(tmp_path):
    write_safetensors(tmp_path / "w", torch_names(weights()))
    model = pretrained.load(tmp_path / "w", activation=jax.nn.gelu, preprocess=caffe, class_names=list("abcde"))
    np.testing.assert_array_equal(model(IMAGE), direct(caffe, activation=jax.nn.gelu)(IMAGE))
    assert model.class_names == tuple("abcde")
    wide = pretrained.load(tmp_path / "w", image_shape=(32, 128, 3))
    assert jaxcam.layers(wide)["block5_pool"] == (1, 4, 4)
    with pytest.raises(ValueError, match="w: class_names has 2 names: there are 5 classes"):
        pretrained.load(tmp_path / "w", class_names=["cat", "dog"])
    with pytest.raises(ValueError, match=r"w: predictions/.* has shape .*5.*: this model wants .*10"):
        jaxcam.vgg16(weights=tmp_path / "w", classes=10)


def test_the_rows_of_fc1_are_not_those_of_a_plain_transpose(tmp_path):
    """The trap: both have the same shape and load without a word, and one has the wrong logits."""
    write_safetensors(tmp_path / "right", torch_names(weights()))
    write_safetensors(tmp_path / "transposed", torch_names(weights(), reorder=False))
    right, transposed = (pretrained.load(tmp_path / name)(IMAGE) for name in ("right", "transposed"))
    assert np.abs(right - transposed).max() > 1e-2 * np.abs(right).max()


def test_an_image_that_is_not_square_is_told_by_timms_kernel(tmp_path):
    arrays = timm_names(weights())
    arrays["pre_logits.fc1.weight"] = arrays["pre_logits.fc1.weight"].reshape(7, 4, 1, 4)
    assert layouts.vgg(arrays).options["image_shape"] == (32, 128, 3)


@pytest.mark.parametrize("top", ["dense", "average"])
def test_jaxcams_own_networks_go_out_and_come_back(tmp_path, top):
    build = functools.partial(jaxcam.vgg_digits, top=top)
    rng = np.random.default_rng(5)
    shapes = jax.tree.flatten_with_path(nnx.state(nnx.eval_shape(build)))[0]
    arrays = {"/".join(key.key for key in path[:2]): rng.random(leaf.shape, np.float32) for path, leaf in shapes}
    np.savez(tmp_path / "w.npz", **arrays)
    model, again = pretrained.from_arrays(build, arrays), pretrained.load(tmp_path / "w.npz")
    assert again.layers == model.layers
    np.testing.assert_array_equal(again(IMAGE), model(IMAGE))


def test_torchvision_preprocessing_is_mean_and_standard_deviation():
    found = torchvision(jnp.array([[[1.0, 0.5, 0.0]]]))
    np.testing.assert_allclose(found[0, 0], [0.515 / 0.229, 0.044 / 0.224, -0.406 / 0.225], rtol=1e-5)


# What a state dict may look like.


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nested", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_a_state_dict_among_other_things(tmp_path, nested, prefix, legacy):
    step = np.arange(4, dtype=np.float32)

    def wrap(tensors):
        metadata = {"_metadata": Call(Global("collections", "OrderedDict"), ([("a", 1)],))}
        pairs = [list(pair) for pair in tensors.items()]  # as Python 2 wrote it
        state = Build(Call(Global("collections", "OrderedDict"), (pairs,)), metadata)
        extra = (None,) if legacy else ()
        return {"epoch": 3, "optimizer": {"state": {0: {"step": tensor("step", step, *extra)}}}, nested: state}

    arrays = {f"{prefix}{name}": array for name, array in torch_names(weights()).items()}
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    extra = (None,) if legacy else ()
    content = wrap({name: tensor(i, array, *extra) for i, (name, array) in enumerate(tensors.items())})
    storages = {"step": step.tobytes()} | {i: array.tobytes() for i, array in enumerate(tensors.values())}
    (write_legacy if legacy else write_zip)(tmp_path / "w", content, storages)
    found = checkpoints.read(tmp_path / "w")
    assert found.keys() == torch_names(weights()).keys()
    np.testing.assert_array_equal(found["classifier.6.weight"], torch_names(weights())["classifier.6.weight"])


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_strides_offsets_and_shared_storages(tmp_path, write):
    values = np.arange(24, dtype=np.float32)
    extra = (None,) if write is write_legacy else ()

    def view(offset, size, stride, call=REBUILD):
        arguments = (storage("k", values, *extra), offset, size, stride)
        return Call(call, arguments + ((False, ORDERED) if call is REBUILD else ()))

    old = Global("torch._utils", "_rebuild_tensor")
    parameter = Global("torch._utils", "_rebuild_parameter")
    content = {
        "transposed": view(0, (4, 6), (1, 4)),
        "part": view(7, (2, 3), (6, 1), old),
        "scalar": view(5, (), ()),
        "repeated": view(2, (3, 2), (0, 1)),
        "none": view(24, (0, 2), (2, 1)),
        "parameter": Call(parameter, (view(1, (2,), (3,)), True, ORDERED)),
    }
    write(tmp_path / "w", content, {"k": values.tobytes()})
    found = checkpoints.read(tmp_path / "w")
    np.testing.assert_array_equal(found["transposed"], values.reshape(6, 4).T)
    np.testing.assert_array_equal(found["part"], values.reshape(4, 6)[1:3, 1:4])
    np.testing.assert_array_equal(found["scalar"], 5)
    np.testing.assert_array_equal(found["repeated"], [[2, 3]] * 3)
    np.testing.assert_array_equal(found["none"], np.zeros((0, 2)))
    np.testing.assert_array_equal(found["parameter"], [1, 4])


def test_a_view_of_the_oldest_files_begins_where_it_says(tmp_path):
    values = np.arange(8, dtype=np.float32)
    piece = Call(Global("torch._utils", "_rebuild_tensor"), (storage("k", values, ("v", 3, 4)), 1, (2,), (1,)))
    write_legacy(tmp_path / "w", {"a": piece}, {"k": values.tobytes()})
    np.testing.assert_array_equal(checkpoints.read(tmp_path / "w")["a"], [4, 5])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32(tmp_path, dtype):
    array = np.linspace(-3, 3, 7).astype(dtype)
    wanted = array.astype(np.float32)
    write_safetensors(tmp_path / "s", {"a": array})
    write_zip(tmp_path / "z", {"a": tensor(0, array)}, {0: array.tobytes()})
    for name in ("s", "z"):
        found = checkpoints.read(tmp_path / name)["a"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_other_numbers_stay_what_they_are(tmp_path, dtype):
    array = np.array([3, -(2**40)], dtype)
    write_zip(tmp_path / "z", {"a": tensor(0, array)}, {0: array.tobytes()})
    found = checkpoints.read(tmp_path / "z")["a"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


# What is refused, in one line.


def refusal(call, *arguments, **options) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def attacks():
    run = Call(Global("os", "system"), ("touch ran",))
    ordered, float32 = Global("collections", "OrderedDict"), np.zeros(2, np.float32)
    kind = Global("torch", "FloatStorage")
    piece = tensor("k", float32)
    rebuild = piece.function
    inner = piece.arguments[0]
    yield "os.system", run, "it wants to run 'os.system'"
    yield "inside", {"a": piece, "b": run}, "it wants to run 'os.system'"
    yield "eval", {"a": Call(Global("builtins", "eval"), ("1",))}, "it wants to run 'builtins.eval'"
    yield "load", {"a": Call(Global("torch", "load"), ("x",))}, "it wants to run 'torch.load'"
    yield "dotted", {"a": Global("torch._utils", "_rebuild_tensor_v2.__globals__")}, "it wants to run"
    yield "call a storage", {"a": Call(kind, (3,))}, "'torch.FloatStorage' in a way"
    yield "call a tensor", {"a": Call(piece, ())}, "'_Tensor' in a way"
    yield "call text", {"a": Call("os.system", ("touch ran",))}, "'str' in a way"
    yield "build a class", Build(ordered, {"__init__": 1}), "a _Global where a dict is wanted"
    yield "build a tensor", {"a": Build(piece, {"shape": 1})}, "a _Tensor where a dict is wanted"
    yield "module", {"a": Persistent(("module", ordered, "f", "x", 1))}, "not a storage of numbers"
    yield "no storage", {"a": Call(rebuild, ("k", 0, (2,), (1,), False, ORDERED))}, "in a way that PyTorch's own"
    for name, offset, size, stride, message in [
        ("too many", 0, (3,), (1,), "reaches to value 2 of a storage of 2"),
        ("too far", 1, (2,), (1,), "reaches to value 2"),
        ("strides", 0, (2,), (2**62,), "reaches to value"),
        ("huge", 0, (2**40, 2**40), (0, 0), "is larger than the file"),
        ("backwards", 0, (2,), (-1,), "a tensor with -1 for a size, a stride or an offset"),
        ("before", -1, (2,), (1,), "a tensor with -1 for"),
        ("text", 0, ("2",), (1,), "a tensor with '2' for"),
        ("lengths", 0, (2, 1), (1,), "in a way that PyTorch's own files do not"),
    ]:
        yield name, {"a": Call(rebuild, (inner, offset, size, stride, False, ORDERED))}, message
    many = Persistent(("storage", kind, "k", "cpu", 2**60))
    yield "huge storage", {"a": Call(rebuild, (many, 0, (2,), (1,), False, ORDERED))}, "storage k"
    yield "keys", {(1, 2): piece}, "a tuple for a name"
    yield "no state dict", [piece], "it holds a list: a state dict is wanted"
    yield "no tensors", {"net": {"a": piece}}, "no tensors among 'net': a state dict is wanted, alone or under"


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(("content", "message"), [pytest.param(*a[1:], id=a[0]) for a in attacks()])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, monkeypatch, content, message, write):
    monkeypatch.chdir(tmp_path)
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    write(pathlib.Path("w.pth"), content, {"k": np.zeros(2, np.float32).tobytes()})
    found = refusal(checkpoints.read, "w.pth")
    assert found.startswith("w.pth: cannot be read as ")
    assert message in found
    assert not ran
    assert os.listdir() == ["w.pth"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n(X\x01\x00\x00\x00ato.", "it wants to run 'os.system'"),
        (b"(X\x01\x00\x00\x00aios\nsystem\n.", "it wants the pickle instruction INST"),
        (b"\x8c\x02os\x8c\x06system\x93.", "it wants to run 'os.system'"),
        (b"}r\xff\xff\xff\x7fh\x01.", "1"),  # a memo of two thousand million places, and one that is not there
        (b"X\xff\xff\xff\x7fab.", "expected 2147483647 bytes"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.", "expected 9223372036854775807 bytes"),
        (b"u.", "pop from empty list"),
        (b"}", "pickle exhausted before seeing STOP"),
        (b"", "pickle exhausted before seeing STOP"),
        (b"\xff", "unknown"),
    ],
)
def test_a_pickle_program_that_is_no_state_dict(tmp_path, program, message):
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    assert message in refusal(checkpoints.read, tmp_path / "w")
    with open(tmp_path / "w", "wb") as file:
        file.write(b"\x80\x02" + program)
    assert message in refusal(checkpoints.read, tmp_path / "w")


def test_a_small_zip_that_unpacks_to_a_huge_one_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    assert "archive/data.pkl is compressed, which PyTorch does not do" in refusal(checkpoints.read, tmp_path / "w")


def test_hdf5_that_reads_other_files_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "w", "w") as file:
        file.create_dataset("a", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
    assert "w: cannot be read as HDF5: a takes its values from another file" in refusal(
        checkpoints.read, tmp_path / "w"
    )


def test_hdf5_with_a_name_that_is_not_text_is_refused(tmp_path):
    write_h5(tmp_path / "w", {b"fc\xff": np.ones(3)})
    assert "cannot be read as HDF5: b'fc\\xff' is not text" in refusal(checkpoints.read, tmp_path / "w")


BROKEN = {
    "safetensors": (write_safetensors, "cannot be read as safetensors: "),
    "h5": (write_h5, "cannot be read as HDF5: .*truncated file"),
    "npz": (write_npz, "cannot be read as zip: the archive is cut short"),
    "zip": (write_torch, "cannot be read as zip: the archive is cut short"),
    "legacy": (functools.partial(write_torch, legacy=True), "cannot be read as PyTorch: "),
}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_cut_short(tmp_path, kind, share):
    write, message = BROKEN[kind]
    path = tmp_path / f"w.{kind}"
    write(path, torch_names(weights()))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    for read in (checkpoints.read, pretrained.load):
        with pytest.raises(ValueError, match=f"^{path}: {message}"):
            read(path)


def test_what_is_not_a_file_of_weights(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("weights of mine")
    (tmp_path / "page").write_text("<html>404</html>")
    assert "empty: not a file of weights: it is empty; formats known: safetensors" in refusal(
        pretrained.load, tmp_path / "empty"
    )
    assert "text: not a file of weights: it begins with b'weights '" in refusal(pretrained.load, tmp_path / "text")
    assert "page: not a file of weights" in refusal(pretrained.load, str(tmp_path / "page"))
    with pytest.raises(IsADirectoryError):
        pretrained.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pretrained.load(tmp_path / "nowhere")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "neither model.weights.h5, nor data.pkl, nor .npy alone" in refusal(pretrained.load, tmp_path / "zip")
    write_h5(tmp_path / "h5", {})
    assert "h5: a HDF5 file without arrays" in refusal(pretrained.load, tmp_path / "h5")


def test_a_pickle_in_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{}], dtype=object))
    assert "allow_pickle=False" in refusal(checkpoints.read, tmp_path / "w.npz")


def changed(arrays, changes):
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


def misfits():
    torch, keras = torch_names(weights()), keras_weights(weights())
    nothing = {name: None for name in torch if name.startswith("classifier")}
    norm = {"features.1.running_mean": np.ones(4)}
    yield torch, norm, r"batch normalization \(features.1.running_mean\): jaxcam.VGG has none"
    yield keras, {"layers/batch_normalization/vars/0": np.ones(4)}, "batch normalization"
    yield torch, nothing, "the convolutions only, without fc1, fc2 and predictions: jaxcam.pretrained.from_arrays takes"
    yield (
        {},
        {"layer1.0.conv1.weight": np.ones(3), "fc.bias": np.ones(3)},
        (r"not a layout of VGG's weights that is known: it has fc.bias, layer1.0.conv1.weight; known are torch"),
    )
    yield torch, {"extra": np.ones(1)}, "not a layout of VGG's weights that is known: it has extra; known are"
    yield torch, {"features.28.weight": None, "features.28.bias": None}, "12 convolutions, features.0, .*: no VGG has"
    yield keras, {"layers/conv2d_12/vars/0": None, "layers/conv2d_12/vars/1": None}, "12 convolutions, conv2d, "
    yield (
        torch,
        {"classifier.6.weight": None, "classifier.6.bias": None},
        ("2 dense layers, classifier.0, classifier.3: a VGG has 3"),
    )
    own = {"predictions/kernel": None, "predictions/bias": None}
    yield weights(), own, "dense layers fc1, fc2: fc1, fc2, ... and predictions are wanted"
    yield keras_save(weights()), {"fc1/fc1/kernel": np.ones(3)}, "fc1 has two of kernel, one of them model_weights/fc1"
    yield torch, {"features.0.bias": None}, "features.0 has a kernel only: a kernel and a bias are wanted"
    yield torch, {"features.0.weight": np.ones((4, 27))}, r"features.0 has a kernel of shape \(4, 27\)"
    yield torch, {"features.2.weight": np.ones((4, 9, 3, 3))}, r"block1_conv2/kernel has shape \(3, 3, 9, 4\)"
    yield torch, {"classifier.0.weight": np.ones((7, 20))}, "classifier.0 has 20 rows: height x height x 4"
    yield torch, {"classifier.3.weight": np.ones((6, 8))}, r"fc2/kernel has shape \(8, 6\): this model wants \(7, 6\)"
    yield torch, {"classifier.3.weight": np.ones((6, 7, 1, 1))}, r"classifier.3 has a kernel of shape \(6, 7, 1, 1\)"
    yield torch, {"classifier.3.bias": np.full(6, np.nan)}, "fc2/bias has values that are not finite"
    yield keras, {"layers/dense/vars/0": np.full((16, 7), np.inf)}, "fc1/kernel has values that are not finite"


@pytest.mark.parametrize(("arrays", "changes", "message"), list(misfits()))
def test_a_file_that_is_not_of_a_vgg_that_jaxcam_has(tmp_path, arrays, changes, message):
    write_h5(tmp_path / "w.h5", changed(arrays, changes))
    refusal(pretrained.load, tmp_path / "w.h5")
    with pytest.raises(ValueError, match=f"w.h5: .*{message}"):
        pretrained.load(tmp_path / "w.h5")


def test_another_depth_than_the_function_has(tmp_path, digits):
    write_safetensors(tmp_path / "w", torch_names(weights(19)))
    assert refusal(jaxcam.vgg16, weights=tmp_path / "w").endswith("w: holds VGG-19: use jaxcam.vgg19")
    np.savez(tmp_path / "d.npz", **pretrained.to_arrays(digits))
    found = refusal(jaxcam.vgg11, weights=str(tmp_path / "d.npz"))
    assert found.endswith("d.npz: holds a network of 6 convolutions: use jaxcam.pretrained.load")


# The Hugging Face Hub, from a cache that the test fills.

HUB = """
import jaxcam
try:
    model = jaxcam.vgg16(weights="imagenet")
    print(model.class_names[282], model.preprocess.__name__, len(model.class_names))
    print(jaxcam.pretrained.to_arrays(model)["fc1/kernel"].tobytes().hex())
except OSError as error:
    print(type(error).__name__, error)
"""


def hub(cache):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.splitlines()


@pytest.mark.long
def test_imagenet_weights_come_from_the_hubs_cache(tmp_path):
    repository, commit = tmp_path / "models--timm--vgg16.tv_in1k", "0123456789" * 4
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    write_safetensors(snapshot / "model.safetensors", timm_names(weights(classes=1000)))
    described, fc1 = hub(tmp_path)
    assert described == "tiger cat torchvision 1000"
    assert bytes.fromhex(fc1) == weights(classes=1000)["fc1/kernel"].tobytes()


@pytest.mark.long
def test_without_network_and_cache_it_says_how_to_give_a_file(tmp_path):
    (line,) = hub(tmp_path)
    assert line.startswith("OSError the weights timm/vgg16.tv_in1k are not in the Hugging Face cache and cannot be")
    assert "give a file instead of 'imagenet'" in line


# The names of classes.


def test_names_of_classes():
    names = pretrained.imagenet_classes()
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    find = pretrained.find_class
    assert (find("TABBY", names), find("281", names), find(" tabby ", names)) == (281, 281, 281)
    assert refusal(find, "cardigan", names) == "'cardigan' is the name of classes 264 and 474: give the number"
    assert refusal(find, "tigre cat", names).startswith("no class 'tigre cat': did you mean 'tiger cat', ")
    assert "'great white shark'" in refusal(find, "white shark", names)
    assert refusal(find, "1000", names) == "no class 1000: there are 1000, from 0"
    assert "choose a number in 0..999 or a name: 'tench', 'goldfish'" in refusal(find, "zzzz", names)
    assert "choose a number in 0..2 or a name: 'a', 'b', 'c'" in refusal(find, "", ("a", "b", "c"))


def test_a_file_of_class_names(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("Katze\nHündin \n", encoding="utf-8")
    assert pretrained.class_names(path) == ("Katze", "Hündin")
    path.write_text("cat\n\ndog\n")
    assert refusal(pretrained.class_names, path).endswith("classes.txt: line 2 is empty: a class name is wanted")
    path.write_text("")
    assert refusal(pretrained.class_names, path).endswith("classes.txt: empty: class names are wanted, one a line")
    path.write_bytes(b"\xff\xfe")
    assert "not a text file of class names" in refusal(pretrained.class_names, path)
    with pytest.raises(FileNotFoundError):
        pretrained.class_names(tmp_path / "nowhere")


def test_the_digits_have_names(digits):
    assert digits.class_names == tuple("0123456789")
    with pytest.raises(ValueError, match="class_names has 1 names: there are 10 classes"):
        jaxcam.vgg_digits(class_names=["cat"])
