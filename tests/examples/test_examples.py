"""Every example and every benchmark runs, on a small size."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from examples import pets_table

pytest.importorskip("mlxtend")
pytest.importorskip("skimage")


def run(*arguments):
    # As a user runs them: without the tests' own flags, which compile fast code that is slow.
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_inside_jit():
    assert run("examples.inside_jit").count("map (64, 64)") == 3


@pytest.mark.long
def test_classes_and_batches():
    assert "(10, 16, 16)" in run("examples.classes_and_batches")


@pytest.mark.long
def test_a_map_in_a_loss_goes_down():
    words = run("examples.map_in_a_loss", "--steps", "8").split()
    assert float(words[words.index("after") - 1]) < float(words[words.index("before,") - 1])


@pytest.mark.long
def test_adversarial(tmp_path):
    printed = run("examples.adversarial", "--count", "12", "--steps", "20", "--json", tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["median probability of the absent class"] > 0.99 and kept["classified rightly"] >= 10
    [rows] = kept["rows"].values()
    assert printed.count("\n| ") == 1 + len(rows) and "| mean activation | " in printed
    # A control that does not look at the image does not change.
    assert rows["center Gaussian"]["energy"]["after"]["difference"] == 0


@pytest.mark.long
def test_adversarial_photographs(assets, tmp_path):
    call = ["--data", "pets", "--count", "2", "--steps", "4", "--json", tmp_path / "kept.json"]
    printed = run("examples.adversarial", *call)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["images"] == 2 and set(kept["rows"]) == {"head", "blocks/11/expand"}
    # At the last layer the head is a mean and a linear layer, where these two are equal.
    rows = kept["rows"]["head"]
    assert rows["Grad-CAM"]["energy"]["after"]["mean"] == pytest.approx(rows["HiResCAM"]["energy"]["after"]["mean"])
    assert "on 0.0% of them" in printed


@pytest.mark.long
def test_bias(tmp_path):
    printed = run("examples.bias.canvases", "--images", "128", "--test", "40", "--epochs", "2", "--out", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["accuracies.json", "mean_maps.png"]
    assert "| square | 3 | " in printed and "right reasons" in printed


@pytest.mark.long
def test_bias_of_photographs(assets, tmp_path):
    words = ["--limit", "12", "--steps", "3", "--out", tmp_path, "--json", tmp_path / "kept.json"]
    printed = run("examples.bias.pets", *words)
    assert "| square | Bengal | " in printed and "| animal | Abyssinian | " in printed
    rows = json.loads((tmp_path / "kept.json").read_text())["rows"]
    assert set(rows) == {"biased", "balanced", "right reasons"} and rows["biased"]["balanced set"]["images"] >= 11
    # What is there is not trained again.
    (network,) = tmp_path.glob("balanced_0.npz")
    written = network.stat().st_mtime_ns
    assert run("examples.bias.pets", *words) == printed and network.stat().st_mtime_ns == written


@pytest.mark.long
def test_bias_of_actions(assets, tmp_path):
    words = ["--limit", "40", "--steps", "2", "--out", tmp_path, "--json", tmp_path / "kept.json"]
    printed = run("examples.bias.actions", *words)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert set(kept["rows"]) == {"biased", "balanced", "masked", "right reasons"} and kept["probe IoU"] > 0.4
    assert "| actor | all actions | 38 | " in printed and "| actor | new place, right | " in printed


def test_a_share_of_each_class():
    from examples.bias import actions, tuning

    labels = np.repeat([0, 1, 2], [10, 5, 2])
    chosen = actions.split_by_class(labels, 0.4, 0)
    assert [int(chosen[labels == label].sum()) for label in range(3)] == [4, 2, 1]
    mask = np.zeros([1, 14, 14], bool)
    mask[0, 13, 0] = True
    assert np.argwhere(tuning.coarse(mask)).tolist() == [[0, 6, 0]]


@pytest.mark.long
def test_neurons_in_words():
    printed = run("examples.neurons_in_words", "--canvases", "60", "--test", "4")
    assert "block3_conv2: " in printed and printed.count("for class ") == 3 and "random channels" in printed


@pytest.mark.long
def test_neurons_of_photographs(assets, tmp_path):
    sizes = ["--count", "15", "--pets", "15", "--least-photographs", "5", "--test", "2"]
    words = [*sizes, "--layers", "head", "--json", tmp_path / "kept.json"]
    printed = run("examples.neurons_of_photographs", *words)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["photographs"] == 60 and {"cat", "dog", "road", "person"} <= set(kept["channels"]["head"])
    # CAM's weights: the photographs of a class have the same words there.
    first, second = (line for line in printed.splitlines() if line.startswith("for class"))
    assert (first == second) == (first.split(":")[0] == second.split(":")[0])
    random, named, _ = (estimate["mean"] for estimate in kept["checks"]["losses"])
    assert named > random


@pytest.mark.long
def test_filters_and_neurons(tmp_path):
    run("examples.filters_and_neurons", "--out", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["filters.png", "neurons.png"]


@pytest.mark.long
def test_activations(tmp_path):
    printed = run("examples.activations", "--out", tmp_path, "--activations", "relu", "silu").splitlines()
    assert "locally affine" in printed[1] and "0.0e+00" in printed[1].split()[-1]
    assert "logistic of" in printed[2] and float(printed[2].split()[-1]) > 0.1
    assert (tmp_path / "activations.png").exists()


@pytest.mark.long
def test_family(tmp_path):
    assert "closed form is exact" in run("examples.family", "--out", tmp_path, "--only", "Grad-CAM", "Guided backprop")
    assert (tmp_path / "family.png").exists()


@pytest.mark.long
def test_real_photographs(tmp_path, assets):
    printed = run("examples.real_photographs", "--out", tmp_path, "--limit", "15")
    assert float(printed.splitlines()[0].split()[-1]) >= 0.9
    assert (tmp_path / "real_photographs.png").exists()


@pytest.mark.long
def test_pets_table(tmp_path, assets):
    printed = run("examples.pets_table", "--limit", "3", "--json", tmp_path / "pets.json")
    assert "| CAM | " in printed and "(0.960)" in printed
    found = json.loads((tmp_path / "pets.json").read_text())
    assert [file.name for file in tmp_path.iterdir()] == ["pets.json"]
    rows = found["rows"]
    assert found["photographs"] == 3 and len(rows) == 7
    assert rows["CAM"] == pytest.approx(rows["Grad-CAM"], abs=1e-3)
    # The animal is about a third of a photograph: what noise, which knows nothing, gets.
    assert 0.2 < rows["random"]["energy"] < 0.45


def test_measures_of_the_pets_table():
    """Which of a trimap's values are what; the measures themselves are tested in test_localisation.py."""
    trimap = jnp.array([[2, 2, 3, 2], [2, 3, 1, 1], [3, 1, 1, 3]])
    saliency = jnp.array([[0, 1, 5, 0], [6, 0, 9, 4], [8, 2, 0, 0]], jnp.float32)
    by_hand = [1.0, 15 / 22, 3 / 5]  # 9 + 4 + 2 of these and 1 + 6; the four largest are 9 6 4 2
    np.testing.assert_allclose(pets_table.measures(saliency, trimap), by_hand, rtol=1e-6)
    assert pets_table.measures(saliency.at[2, 0].set(10), trimap)[0] == 0
    assert pets_table.measures(jnp.zeros(trimap.shape), trimap)[:2].tolist() == [0, 0]


@pytest.mark.long
@pytest.mark.parametrize("network", ["vgg", "hybrid"])
def test_training(network, tmp_path):
    """It runs and writes what the package reads; that it learns is what the embedded weights show."""
    size = ["--canvases", "128", "--epochs", "1", "--test", "20"]
    run("examples.digits.train", "--out", tmp_path, "--network", network, *size)
    names = ["canvas0.png", "canvas1.png", "canvas2.png", "canvases.json", "scores.json", "weights.npz"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


@pytest.mark.long
def test_evaluation(tmp_path):
    """On canvases; stopped and gone on with is in test_evaluation.py. The pets take the same way with files."""
    call = ["digits", "--out", tmp_path / "found", "--limit", "4", "--samples", "1", "--metrics", "drop,found"]
    printed = run("examples.evaluation", *call, "--no-score-cam", "--json", tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["counted"] + kept["apart"] == 4
    assert "| Grad-CAM++, exact | " in printed
    exact, closed = (kept["estimates"][f"Grad-CAM++, {form}"] for form in ("exact", "closed form"))
    assert exact == closed  # on a relu network


def test_benchmarks_are_listed():
    assert "at most 1.15 times" in run("benchmarks")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a_clip_over_its_forward_pass", marks=pytest.mark.long),
        pytest.param("a_dense_layer_needs_no_jacobian", marks=pytest.mark.long),
        pytest.param("a_map_in_the_loss_costs_three_steps", marks=pytest.mark.long),
        pytest.param("copies_found", marks=pytest.mark.long),
        pytest.param("cut_is_free", marks=pytest.mark.long),
        pytest.param("evaluation_costs_its_forward_passes", marks=pytest.mark.long),
        pytest.param("exact_on_smooth_heads", marks=pytest.mark.long),
        pytest.param("exact_where_affine_is_free", marks=pytest.mark.long),
        pytest.param("memory_does_not_grow_with_samples", marks=pytest.mark.long),
        pytest.param("questions_and_words_share_their_image", marks=pytest.mark.long),
        pytest.param("smoothing_costs_its_forward_passes", marks=pytest.mark.long),
    ],
)
def test_benchmarks(name):
    found = json.loads(run("benchmarks", name, "--small", "--json"))
    assert found["benchmark"] == name and found["machine"]["jax"] and all(found["ratios"].values())


def test_a_benchmark_that_is_not_there():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no benchmark nope: choose all, or of a_clip_over_its_forward_pass" in done.stderr


@pytest.mark.long
def test_sampled_locations(tmp_path):
    printed = run("examples.sampled_locations", "--out", tmp_path, "--draws", "2", "32", "--keys", "4")
    assert "gelu: 4,096 directions" in printed and (tmp_path / "sampled_locations.png").stat().st_size > 10_000


@pytest.mark.long
def test_weak_masks(assets, tmp_path):
    rows = ["Grad-CAM, 7 x 7", "LayerCAM, 14 x 14", "center Gaussian", "true masks"]
    words = ["--steps", "2", "--batch", "4", "--train", "6", "--test", "4", "--out", tmp_path, "--rows", *rows]
    printed = run("examples.weak_masks", *words)
    table = {cells[1].strip(): cells for cells in (line.split("|") for line in printed.splitlines()) if len(cells) == 7}
    assert set(rows) < set(table) and float(table["true masks"][4]) == float(table["true masks"][5]) == 1
    assert 0.5 < float(table["LayerCAM, 14 x 14"][4]) < 1
    # What is there is not trained again.
    (row,) = tmp_path.glob("LayerCAM*.json")
    written = row.stat().st_mtime_ns
    assert run("examples.weak_masks", *words) == printed and row.stat().st_mtime_ns == written


def test_the_losses_of_weak_masks():
    from examples import weak_masks

    rng = np.random.default_rng(0)
    logits, image = rng.normal(size=(64, 64, 2)), rng.uniform(size=(14, 15, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    pooled = p.reshape(32, 2, 32, 2, 2).mean((1, 3)).reshape(-1, 2)
    expected = 0.0
    for label, decay in ((1, 0.996), (0, 0.999)):
        ranked = sorted(pooled[:, label], reverse=True)
        weights = [decay ** (i * 41**2 / 32**2) for i in range(len(ranked))]
        expected -= np.log(np.dot(weights, ranked) / sum(weights)) / 2
    np.testing.assert_allclose(weak_masks.expand_loss(jnp.float32(p)), expected, rtol=1e-4)
    p, expected = p[:14, :15], 0.0
    for row, column in np.ndindex(14, 15):
        near = [((row - i) % 14, (column - j) % 15) for i in (-4, -2, 0, 2, 4) for j in (-4, -2, 0, 2, 4)]
        weights = [np.exp(-((image[row, column] - image[other]) ** 2).sum() / (2 * 0.1**2)) for other in near]
        smooth = np.average([p[other] for other in near], axis=0, weights=weights)
        expected += (smooth * np.log(smooth / p[row, column])).sum() / (14 * 15)
    found = weak_masks.constrain_loss(jnp.float32(np.log(p)), jnp.float32(image))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.long
def test_places_tables(tmp_path):
    words = ["--scenes", "3", "--clips", "2", "--only", "Grad-CAM", "HiResCAM", "--json", tmp_path / "kept.json"]
    printed = run("examples.places.tables", *words)
    kept = json.loads((tmp_path / "kept.json").read_text())["tables"]
    assert list(kept) == ["Masks", "Boxes", "Clips"] and kept["Clips"]["samples"] == 2
    energy = {name: row["energy"]["mean"] for name, row in kept["Masks"]["rows"].items()}
    assert energy["HiResCAM"] > energy["all ones"] and energy["Grad-CAM"] > energy["random"]
    clips = kept["Clips"]["rows"]
    assert clips["Grad-CAM"]["win"]["mean"] == 0.5 and clips["all ones"]["drop"]["mean"] < 1e-4
    # A table that is there is not measured again.
    assert run("examples.places.tables", *words) == printed


@pytest.mark.long
def test_camvid(assets, tmp_path):
    size = ["--steps", "2", "--batch", "2", "--train", "8", "--test", "4", "--side", "48", "--out", tmp_path]
    words = [*size, "--only", "Grad-CAM", "--explain", "road", "--layer", "block3"]
    printed = run("examples.places.camvid", *words)
    ((_, *ious, mean, _),) = [row for row in (["", *row] for row in _all_rows(printed, 13)) if row[1][0].isdigit()]
    assert float(mean) == pytest.approx(np.mean([float(iou) for iou in ious]), abs=0.1)
    assert "road: no frame" in printed or "road at block3" in printed
    assert "step" not in run("examples.places.camvid", *words).split("test frames")[0]  # nothing is trained again


def _all_rows(printed, columns):
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines())
    return [row for row in cells if len(row) == columns]


@pytest.mark.long
def test_similarity(assets, tmp_path):
    words = ["--limit", "9", "--only", "Grad-CAM", "LayerCAM", "--json", tmp_path / "kept.json"]
    printed = run("examples.similarity", *words, "--figure", tmp_path / "alike.png")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert set(kept["table"]["rows"]) == {
        *("Grad-CAM", "LayerCAM", "mean activation", "center Gaussian", "all ones", "random", "another breed")
    }  # fmt: skip
    assert 0 <= kept["nearest"] <= 1 and "the most similar photograph has the same breed" in printed
    assert (tmp_path / "alike.png").stat().st_size > 10_000


def test_references_of_similarity():
    from examples import similarity

    same, other = similarity.references(np.array([0, 0, 0, 1, 1, 2, 2]))
    assert same.tolist() == [1, 2, 0, 4, 3, 6, 5] and other.tolist() == [3, 4, 3, 5, 6, 0, 1]
    with pytest.raises(ValueError, match="at least two photographs of each of two breeds"):
        similarity.references(np.array([0, 0, 1]))


def test_scores_of_camvid():
    from examples.places import camvid

    found = camvid.ious(np.array([0, 0, 1, 1]), np.array([0, 1, 1, camvid.UNLABELED]))
    assert (found["sky"], found["building"], found["car"]) == (0.5, 0.5, 0)
    weights = camvid.class_weights(np.array([0, 0, 0, 0, 1, camvid.UNLABELED]))
    np.testing.assert_allclose(weights[:3], [0.625**0.5, 2.5**0.5, 0])
