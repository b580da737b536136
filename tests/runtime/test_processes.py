"""Processes of jax.distributed, two devices each: the maps and tables of one process; a job that is started again."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.runtime import processes

SCRIPT = pathlib.Path(processes.__file__)
ROOT = SCRIPT.parents[2]


def run_job(folder, count):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
        "PYTHONPATH": str(ROOT),
    }
    started = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(i), str(count), str(port), str(folder)], env=environment,
                         stderr=subprocess.PIPE, text=True)
        for i in range(count)
    ]  # fmt: skip
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]


@pytest.mark.long
def test_two_processes_and_a_job_that_goes_on_as_one(tmp_path):
    expected_maps = processes.explained(None).maps
    expected = processes.evaluated(None)
    run_job(tmp_path, 2)
    for number in range(2):
        table, *names = json.loads((tmp_path / f"2-{number}.json").read_text())
        assert table == str(expected) and names == list(expected.images), "every process has the whole evaluation"
    files = {file.stem: file for file in (tmp_path / "maps").glob("*.npy")}
    assert files.keys() == expected_maps.keys() and not (tmp_path / "maps" / ".locks").exists()
    for name, file in files.items():
        np.testing.assert_allclose(np.load(file), expected_maps[name], atol=1e-6)
    before = {file: file.stat().st_mtime_ns for file in files.values()}
    for name in ("03", "04", "10"):  # as if a process had been killed
        files[name].unlink()
        (tmp_path / "figures" / "images" / f"image {int(name)}.json").unlink()
    (tmp_path / "maps" / ".locks").mkdir()
    (tmp_path / "maps" / ".locks" / "1-of-2.json").write_text(json.dumps({"host": os.uname().nodename, "process": 1}))
    again = processes.explained(tmp_path / "maps")
    assert str(processes.evaluated(tmp_path / "figures")) == str(expected)
    for name, file in again.maps.items():
        np.testing.assert_allclose(np.load(file), expected_maps[name], atol=1e-6)
        assert name in ("03", "04", "10") or file.stat().st_mtime_ns == before[file], "nothing is done twice"
