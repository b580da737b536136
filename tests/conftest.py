import os
import pathlib
import sys
from importlib import metadata

# Compiling takes most of the tests' time: unoptimized, it takes half, and without fusion emitters, which later versions
# of XLA cannot leave out, six tenths of that.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    + (" --xla_cpu_use_fusion_emitters=false" if int(metadata.version("jaxlib").split(".")[1]) < 11 else ""),
)

import jax
import pytest

import jaxcam
from tests.runtime.without_ray import stand_in

MOST_MAPS = 20_000

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(config, items):
    """Marks the tests that `long.txt` lists as long."""
    text = (pathlib.Path(__file__).parent / "long.txt").read_text()
    listed = {line for line in text.splitlines() if line and not line.startswith("#")}
    known = set()
    for item in items:
        names = {item.nodeid, item.nodeid.partition("[")[0]} & listed
        known |= names
        if names:
            item.add_marker("long")
    # A process of pytest-xdist cannot say it clearly; .ci/run collects without one.
    is_whole = config.args == config.getini("testpaths") and "PYTEST_XDIST_WORKER" not in os.environ
    if is_whole and listed - known:
        raise pytest.UsageError(f"tests/long.txt lists {min(listed - known)}, which is no test")


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Forgets compiled programs between modules once they hold many memory maps.

    Each program holds a few. Linux admits 65,530 per process, and XLA ends the process at the next.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


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


@pytest.fixture
def no_ray(monkeypatch):
    """A stand-in for the module `ray`, with `Rows` for datasets."""
    ray = stand_in()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    return ray


@pytest.fixture(scope="module")
def cluster():
    import ray

    ray.init(log_to_driver=False)  # the cluster of RAY_ADDRESS, or one on this machine
    yield ray
    ray.shutdown()
