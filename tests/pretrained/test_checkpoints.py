"""Files of weights give the arrays that were put in: state dicts in PyTorch's formats, and types of numbers."""

import ml_dtypes
import numpy as np
import pytest

from jaxcam.pretrained import checkpoints
from tests.pretrained.torch_writer import (
    ORDERED,
    REBUILD,
    Build,
    Call,
    Global,
    storage,
    tensor,
    write_legacy,
    write_zip,
)
from tests.pretrained.weight_files import torch_names, weights, write_safetensors


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


def test_a_safetensors_file_whose_length_begins_as_a_pickle_does(tmp_path):
    """The file begins with its header's length, whose first byte may be the one that PyTorch's pickles begin with."""
    for width in range(200):
        write_safetensors(tmp_path / "w", {"a" * (20 + width): np.ones(3, np.float32)})
        if (tmp_path / "w").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "w").read_bytes()[0] == 0x80
    assert list(checkpoints.read(tmp_path / "w")) == ["a" * (20 + width)]
