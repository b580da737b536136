"""The other libraries, found or skipped with the reason."""

import importlib.util
import os
import pathlib
import sys

import pytest


def torchvision():
    """torchvision, also beside a CPU build of PyTorch, where its compiled operators do not load."""
    pytest.importorskip("torch")
    try:
        return pytest.importorskip("torchvision")
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    file = pathlib.Path(os.environ.get("JAXCAM_PEERS", "../shared/peers")) / "torchvision_cpu_shim.py"
    if not file.exists():
        pytest.skip(f"torchvision's operators do not load, and what lets it import is not at {file}: set JAXCAM_PEERS")
    spec = importlib.util.spec_from_file_location("torchvision_cpu_shim", file)
    shim = importlib.util.module_from_spec(spec)
    sys.modules["torchvision_cpu_shim"] = shim  # it owns the operators: kept for as long as the process
    spec.loader.exec_module(shim)
    import torchvision

    return torchvision


def pytorch_grad_cam():
    torchvision()
    return pytest.importorskip("pytorch_grad_cam")


def tensorflow_python():
    """An interpreter that has TensorFlow: JAXCAM_TENSORFLOW_PYTHON, or else this one."""
    return os.environ.get("JAXCAM_TENSORFLOW_PYTHON", sys.executable)
