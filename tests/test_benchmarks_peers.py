"""Each benchmark that runs PyTorch beside jaxcam runs, on a small size."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.peers

NEEDED = {
    "grad_cam_is_level_with_the_peers": ("torchcam", "pytorch_grad_cam"),
    "maps_per_second": (),
    "one_backward_pass_reaches_five_layers": ("torchcam",),
    "smoothing_is_ahead_of_torch_cam": ("torchcam",),
    "ten_classes_share_their_features": ("torchcam",),
}


@pytest.mark.parametrize("name", NEEDED)
def test_benchmarks(name):
    for package in NEEDED[name]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    env = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-m", "benchmarks", name, "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["benchmark"] == name and all(found["ratios"].values())
    assert found["machine"].get("torch") or not NEEDED[name]
    differences = found.get("difference", {})
    differences = differences if isinstance(differences, dict) else {"": differences}
    assert max(differences.values(), default=0) < 1e-4
