"""Each benchmark that runs PyTorch beside jaxcam runs, on a small size."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.peers

NAMES = [
    "grad_cam_is_level_with_the_peers",
    "maps_per_second",
    "networks_beside_the_peers",
    "one_backward_pass_reaches_five_layers",
    "smoothing_is_ahead_of_torch_cam",
    "ten_classes_share_their_features",
]


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks(name):
    env = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-m", "benchmarks", name, "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if "cannot be imported" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["benchmark"] == name and all(found["ratios"].values())
    differences = found.get("difference", {})
    differences = differences if isinstance(differences, dict) else {"": differences}
    assert max(differences.values(), default=0) < 1e-4
