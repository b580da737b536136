import os
import pathlib

# Compiling takes most of the tests' time: unoptimised, it takes half.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0")

import jax
import pytest

import jaxcam

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def digits():
    return jaxcam.digits()


@pytest.fixture(scope="session")
def cut(digits):
    return jaxcam.cut(digits, "block3_conv2")


@pytest.fixture(scope="session")
def image():
    return jaxcam.pretrained.digits_canvas(1)[0]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def assets():
    folder = pathlib.Path(os.environ.get("JAXCAM_ASSETS", "../shared/assets"))
    if not (folder / "vgg16_imagenet_conv.npz").exists():
        pytest.skip(f"the real weights and photographs are not in {folder}: set JAXCAM_ASSETS")
    return folder
