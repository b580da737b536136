"""The experiment of the Grad-CAM++ poster: its parts against loops, and a run at small size."""

import argparse
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam

pytest.importorskip("mlxtend")
pytest.importorskip("skimage")

from examples.distillation import learning, networks, pools
from examples.distillation.table import paired, seeds_to_tell, table
from tests.examples.test_examples import run

SHAPE = (16, 16, 3)
SIZE = ["--train", "12", "--test", "10", "--batch", "4", "--steps", "2", "--teacher-steps", "1", "--seeds", "1"]


def random_pool(count):
    rng = np.random.default_rng(0)
    present = (rng.random((count, 10)) < 0.3).astype(np.float32)
    targets = rng.integers(0, 10, count)
    present[np.arange(count), targets] = 1
    return pools.Pool(rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8), targets, present)


@pytest.mark.long
@pytest.mark.parametrize("name, side", [("wrn-10-1", 4), ("cnn-8", 4), ("vgg-8", 4)])
def test_a_network_comes_apart_at_its_layer(name, side):
    model = networks.build(name, image_shape=SHAPE, seed=0)
    cut = jaxcam.cut(model, networks.layer_of(name))
    image = jax.random.uniform(jax.random.key(0), SHAPE)
    A = cut.features(cut.params, image)
    assert A.shape[:2] == (side, side) and A.min() >= 0 and jaxcam.grad_cam_pp(cut, image, 3).shape == (side, side)
    np.testing.assert_allclose(cut.head(cut.params, A, image), model(image[None])[0], rtol=1e-5, atol=1e-5)


def test_the_size_of_a_wide_residual_network():
    """WRN-16-2 has 0.7 million parameters: convolutions, a scale and an offset for each norm, one linear layer."""
    model = nnx.eval_shape(lambda: networks.build("wrn-16-2", image_shape=(32, 32, 3), seed=0))
    count, channels = 9 * 3 * 16, 16
    for width in (32, 64, 128):
        count += 2 * channels + 9 * channels * width + 2 * width + 9 * width**2 + channels * width
        count += 2 * (2 * width + 9 * width**2)
        channels = width
    count += 2 * 128 + 128 * 10 + 10
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == count
    assert round(count / 1e6, 1) == 0.7


def test_names_of_networks():
    for name in ("resnet", "wrn-16", "wrn-12-1"):
        with pytest.raises(ValueError, match="expected a"):
            networks.build(name, image_shape=SHAPE, seed=0)


def test_mean_average_precision_is_that_of_a_loop(monkeypatch):
    """The mean over classes of the precisions at each present example, from the most probable one down."""
    pool = random_pool(40)
    logits = np.random.default_rng(1).normal(size=(40, 10)).astype(np.float32)
    monkeypatch.setattr(learning.training, "in_batches", lambda model, images, size: logits)
    expected = []
    for label in range(10):
        right, precisions = 0, []
        for rank, row in enumerate(sorted(range(40), key=lambda i: -logits[i, label]), start=1):
            if pool.present[row, label]:
                right += 1
                precisions.append(right / rank)
        expected.append(np.mean(precisions))
    found = learning.figures_of(None, pool, several=True)
    assert found == {"mean average precision": pytest.approx(100 * np.mean(expected))}
    wrong = sum(int(np.argmax(row)) != target for row, target in zip(logits, pool.targets, strict=True))
    assert learning.figures_of(None, pool, several=False) == {"error": pytest.approx(100 * wrong / 40)}


@pytest.mark.long
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", learning.ROWS)
def test_the_loss_of_a_row(name, several):
    """Cross-entropy + 0.01 squared distance of the maps + 16 times the divergence at temperature 4."""
    row, pool = learning.ROWS[name], random_pool(3)
    student, teacher = (networks.build("cnn-8", image_shape=SHAPE, seed=seed) for seed in (0, 1))
    answers = learning.taught(teacher, "last", pool)
    batch = {"image": pool.images, "target": pool.targets, "present": pool.present, **answers}
    cut, losses = jaxcam.cut(student, "last"), []
    logits = np.asarray(student(pool.images / np.float32(255)), float)

    def probabilities(x):
        return 1 / (1 + np.exp(-np.stack([x, -x], -1))) if several else np.exp(x) / np.exp(x).sum()

    for i in range(3):
        own, theirs = (probabilities(x) for x in (logits[i], answers["logits"][i].astype(float)))
        if several:
            loss = -np.where(pool.present[i] == 1, np.log(own[:, 0]), np.log(own[:, 1])).sum()
        else:
            loss = -np.log(own[pool.targets[i]])
        if row.maps:
            method = {"Grad-CAM": jaxcam.grad_cam, "Grad-CAM++": jaxcam.grad_cam_pp}[row.maps]
            saliency = method(cut, jnp.float32(pool.images[i]) / 255, int(pool.targets[i]))
            heavier = np.sum(answers["Grad-CAM++"] ** 2) / np.sum(answers["Grad-CAM"] ** 2) if row.as_heavy else 1
            loss += 0.01 * heavier * np.square(saliency - answers[row.maps][i]).sum()
        if row.distilled:
            own, theirs = (probabilities(x / 4) for x in (logits[i], answers["logits"][i].astype(float)))
            divergence = (theirs * np.log(theirs / own)).sum(-1)
            loss += 16 * divergence.sum()
        losses.append(loss)
    weight = learning.weight_of(row, answers)
    found = learning.loss_of(row, "last", several=several, weight=weight)(student, batch)
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-4)


@pytest.mark.long
@jax.numpy_dtype_promotion("standard")  # optax mixes types
def test_a_killed_training_goes_on_to_the_same_student(tmp_path, monkeypatch):
    monkeypatch.setattr(learning.training, "STEPS_BETWEEN_CHECKPOINTS", 4)
    pool, row = random_pool(20), learning.ROWS["KD, Grad-CAM++ loss"]
    answers = learning.taught(networks.build("cnn-8", image_shape=SHAPE, seed=1), "last", pool)
    options = argparse.Namespace(steps=10, batch=4, rate=3e-3, seed=5, several=False, checkpoints=tmp_path / "whole")
    train = functools.partial(learning.trained, row=row, layer="last", pool=pool, kept=answers)
    whole = train(networks.build("cnn-8", image_shape=SHAPE, seed=0), options=options)
    options.checkpoints = tmp_path / "killed"
    drawn = np.random.default_rng

    def killed_at_six(seed):
        if seed == [5, 6]:
            raise KeyboardInterrupt
        return drawn(seed)

    monkeypatch.setattr(np.random, "default_rng", killed_at_six)
    with pytest.raises(KeyboardInterrupt):
        train(networks.build("cnn-8", image_shape=SHAPE, seed=0), options=options)
    numbers = []
    monkeypatch.setattr(np.random, "default_rng", lambda seed: numbers.append(seed) or drawn(seed))
    again = train(networks.build("cnn-8", image_shape=SHAPE, seed=0), options=options)
    assert numbers == [[5, step] for step in range(4, 10)]
    for a, b in zip(*(jax.tree.leaves(nnx.state(model, nnx.Param)) for model in (whole, again)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_agreement_of_maps():
    maps, others = np.random.default_rng(0).random((2, 5, 4, 4))
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, others, strict=True)]
    assert learning.agreement(maps, others) == pytest.approx(np.mean(expected))
    assert learning.agreement(maps, 0 * maps) == 0


def test_seeds_and_differences():
    """That many seeds find the effect in four of five experiments, by simulation."""
    rng = np.random.default_rng(0)
    differences = rng.normal(0, 1, 20_000)
    count = seeds_to_tell(differences, 0.4)
    means = rng.normal(0.4, 1, (4000, count))
    assert np.mean(np.abs(means.mean(1)) > 1.96 / np.sqrt(count)) == pytest.approx(0.8, abs=0.03)
    assert seeds_to_tell(np.array([1.0, 1.0]), 0.1) == 2
    found = paired(np.array([3.0, 5.0, 4.0]), np.array([2.0, 4.0, 3.5]))
    assert found.mean == 4 and found.difference == pytest.approx(2.5 / 3) and found.difference_low < 0.6


def test_the_table():
    agreements = {f"agreement of {method}": [0.5, 0.7] for method in learning.MAPS}
    rows = {
        "KD, Grad-CAM++ loss": {"error": [5.0, 7.0], **agreements},
        "cross-entropy": {"error": [8.0, 9.0], **agreements},
        "KD": {"error": [6.0, 7.5], **agreements},
    }
    lines = [line.split(" | ") for line in table(rows, "error").splitlines()]
    assert [line[0] for line in lines[2:]] == ["| cross-entropy", "| KD", "| KD, Grad-CAM++ loss"]
    assert lines[4][1:3] == ["5.56", "6.00"] and lines[4][3].startswith("-2.50") and lines[4][4].startswith("-0.75")
    # The differences are -1 and -0.5, their standard deviation 0.354: (2.8 * 0.354 / 0.12)^2 = 68.1
    assert lines[4][5] == "69 for -0.12" and lines[4][6] == "0.60"


@pytest.mark.long
def test_pools():
    one, two = (pools.draw("several", "train", 12) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert one.present[np.arange(12), one.targets].all() and set(one.present.sum(1)) <= {1, 2, 3}
    canvases = pools.draw("canvases", "test", 3)
    assert canvases.images.shape == (3, 64, 64, 3) and canvases.images.dtype == np.uint8
    np.testing.assert_array_equal(canvases.present.argmax(1), canvases.targets)


def test_pools_of_photographs(assets):
    folder = assets / "cifar10"
    plain = pools.draw("cifar10", "test", 20, folder=folder)
    assert plain.images.shape == (20, 32, 32, 3) and sorted(plain.targets) == sorted([*range(10)] * 2)
    train = pools.draw("cifar10", "train", 20, copies=2, folder=folder)
    assert train.images.shape == (40, 32, 32, 3) and np.array_equal(train.targets[:20], train.targets[20:])
    assert not np.array_equal(train.images[:20], train.images[20:])
    small = pools.draw("cifar10", "test", 20, side=16, folder=folder)
    np.testing.assert_allclose(small.images[4, 3, 5], plain.images[4, 6:8, 10:12].mean((0, 1)), atol=0.51)
    with pytest.raises(ValueError, match="at least 2000 images of each class"):
        pools.draw("cifar10", "train", 20_000, folder=folder)


@pytest.mark.long
@pytest.mark.parametrize("data, measure", [("canvases", "error"), ("several", "mean average precision")])
def test_a_run(data, measure, tmp_path):
    networks_used = ["--student", "cnn-8", *(["--teacher", "cnn-16"] if data == "several" else [])]
    rows = ["cross-entropy", "KD, Grad-CAM++ loss"]
    words = [
        "--data",
        data,
        *SIZE,
        *networks_used,
        "--out",
        tmp_path,
        "--json",
        tmp_path / "kept.json",
        "--rows",
        *rows,
    ]
    printed = run("examples.distillation.run", *words)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert set(kept["rows"]) == set(rows) and all(len(row[measure]) >= 1 for row in kept["rows"].values())
    assert kept["teacher"]["parameters"] > kept["teacher"]["parameters of the student"]
    assert f"| {measure}, published | ours |" in printed
    assert not list((tmp_path / "checkpoints").glob("*_[01]"))
    # What is complete is not trained again.
    written = (tmp_path / "cross-entropy_0.json").stat().st_mtime_ns
    again = run("examples.distillation.run", *words).splitlines()
    assert again == [line for line in printed.splitlines() if not line.startswith("step ")]
    assert (tmp_path / "cross-entropy_0.json").stat().st_mtime_ns == written


@pytest.mark.long
def test_a_run_on_photographs(assets, tmp_path):
    small = ["--teacher", "wrn-10-1", "--train", "20", "--rows", "cross-entropy", "Grad-CAM loss"]
    printed = run("examples.distillation.run", "--data", "cifar10", *SIZE, *small, "--out", tmp_path)
    assert "| Grad-CAM loss | 6.86 | " in printed


def test_files_of_other_options_are_refused(tmp_path):
    from examples.distillation import run as script

    script.check_settings(script.parsed(["--out", str(tmp_path), "--steps", "5"]))
    script.check_settings(script.parsed(["--out", str(tmp_path), "--steps", "5", "--seeds", "9"]))
    with pytest.raises(SystemExit, match="expected steps 5, got 6"):
        script.check_settings(script.parsed(["--out", str(tmp_path), "--steps", "6"]))
    paper = script.parsed(["--data", "cifar10", "--paper", "--folder", str(tmp_path), "--out", str(tmp_path)])
    assert (paper.teacher, paper.student, paper.side, paper.train) == ("wrn-40-2", "wrn-16-2", 32, 50_000)
