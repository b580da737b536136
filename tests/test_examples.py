"""Every example and every benchmark runs, on a small size."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("mlxtend")
pytest.importorskip("skimage")


def run(*arguments):
    # As a user runs them: without the tests' own flags, which compile fast code that is slow.
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_inside_jit():
    assert run("examples.inside_jit").count("map (64, 64)") == 3


def test_classes_and_batches():
    assert "(10, 16, 16)" in run("examples.classes_and_batches")


def test_a_map_in_a_loss_goes_down():
    words = run("examples.map_in_a_loss", "--steps", "8").split()
    assert float(words[words.index("after") - 1]) < float(words[words.index("before,") - 1])


def test_filters_and_neurons(tmp_path):
    run("examples.filters_and_neurons", "--out", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["filters.png", "neurons.png"]


def test_activations(tmp_path):
    printed = run("examples.activations", "--out", tmp_path, "--activations", "relu", "silu").splitlines()
    assert "locally affine" in printed[1] and "0.0e+00" in printed[1].split()[-1]
    assert "logistic of" in printed[2] and float(printed[2].split()[-1]) > 0.1
    assert (tmp_path / "activations.png").exists()


def test_real_photographs(tmp_path, assets):
    printed = run("examples.real_photographs", "--out", tmp_path, "--limit", "15")
    assert float(printed.splitlines()[0].split()[-1]) >= 0.9
    assert (tmp_path / "real_photographs.png").exists()


def test_training(tmp_path):
    """It runs and writes what the package reads; that it learns is what the embedded weights show."""
    run("examples.digits.train", "--out", tmp_path, "--canvases", "128", "--epochs", "1", "--test", "20")
    names = ["canvas0.png", "canvas1.png", "canvas2.png", "canvases.json", "scores.json", "weights.npz"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_benchmarks_are_listed():
    assert "at most 1.15 times" in run("benchmarks")


@pytest.mark.parametrize(
    "name",
    [
        "a_dense_layer_needs_no_jacobian",
        "copies_found",
        "exact_on_smooth_heads",
        "exact_where_affine_is_free",
        "smoothing_costs_its_forward_passes",
    ],
)
def test_benchmarks(name):
    found = json.loads(run("benchmarks", name, "--small", "--json"))
    assert found["benchmark"] == name and found["machine"]["jax"] and all(found["ratios"].values())


def test_a_benchmark_that_is_not_there():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "nope"], capture_output=True, text=True, check=False)
    assert (
        done.returncode == 2 and "no benchmark nope: choose all, or of a_dense_layer_needs_no_jacobian" in done.stderr
    )
