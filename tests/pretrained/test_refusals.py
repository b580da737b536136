"""Files that want to run something, are damaged, or are not files of weights are refused in one line."""

import functools
import os
import pathlib
import zipfile

import h5py
import numpy as np
import pytest

from jaxcam import pretrained
from jaxcam.pretrained import checkpoints
from tests.pretrained.refusal import refusal
from tests.pretrained.torch_writer import (
    ORDERED,
    Build,
    Call,
    Global,
    Persistent,
    tensor,
    write_legacy,
    write_torch,
    write_zip,
)
from tests.pretrained.weight_files import torch_names, weights, write_h5, write_npz, write_safetensors


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
    yield "build a class", Build(ordered, {"__init__": 1}), "expected a dict, got a _Global"
    yield "build a tensor", {"a": Build(piece, {"shape": 1})}, "expected a dict, got a _Tensor"
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
    yield "no state dict", [piece], "expected a state dict, got a list"
    yield (
        "no tensors",
        {"net": {"a": piece}},
        "under one of state_dict, model_state_dict, model, got no tensors among 'net'",
    )


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
