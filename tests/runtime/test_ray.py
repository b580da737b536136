"""Maps of Ray datasets: an explainer on NumPy batches, a store that a driver writes, and both on a Ray cluster."""

import functools
import itertools
import json
import sys

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam.runtime.ray import Explainer, explain_dataset
from tests.runtime.specimen import KEY, SMALL, by_hand, weighted
from tests.runtime.without_ray import FromRay, Rows, column

NAMES = [f"image {i}" for i in range(len(SMALL))]
LABELS = np.arange(len(SMALL)) % 2


def rows_of(images=SMALL):
    return [
        {"image": image, "name": name, "label": int(label), "number": i}
        for i, (image, name, label) in enumerate(zip(images, NAMES, LABELS, strict=True))
    ]


def test_an_explainer_on_batches_gives_the_maps_of_numpy_loops(tiny):
    explain = Explainer(lambda: tiny, weighted, KEY, targets="label", numbers="number", batch_size=2)
    for rows in (slice(0, 6), slice(6, 10)):
        numbers = np.arange(10)[rows][::-1]  # rows come in any order
        batch = {"image": SMALL[numbers], "label": LABELS[numbers], "number": numbers, "other": numbers}
        explained = explain(batch)
        assert list(explained) == [*batch, "map", "error"] and set(explained["error"]) == {""}
        for number, saliency in zip(numbers, explained["map"], strict=True):
            expected = by_hand(tiny, SMALL[number], LABELS[number], jax.random.fold_in(KEY, number))
            np.testing.assert_allclose(saliency, expected, atol=1e-5)


def test_rows_of_several_shapes_and_rows_that_fail_stay_where_they_are(tiny):
    images = [SMALL[0], SMALL[1, :4], SMALL[2] * np.nan, SMALL[3, ..., :2], SMALL[4]]
    explained = Explainer(lambda: tiny, jaxcam.grad_cam, target=1)({"image": column(images)})
    assert [saliency.shape for saliency in explained["map"]] == [(6, 5), (4, 5), (0, 0), (0, 0), (6, 5)]
    assert [bool(error) for error in explained["error"]] == [False, False, True, True, False]
    assert "NaN" in explained["error"][2]
    for i in (0, 1, 4):
        np.testing.assert_allclose(explained["map"][i], jaxcam.grad_cam(tiny, images[i], 1), atol=1e-6)


def test_a_loader_and_targets_that_fail_are_failures_of_their_rows(tiny):
    def load(i):
        if i == 1:
            raise OSError("the second is gone")
        return SMALL[i]

    batch = {"image": [0, 1, 2, 3], "label": [0, 1, 5, 1]}
    explained = Explainer(lambda: tiny, jaxcam.grad_cam, load=load, targets="label")(batch)
    assert list(explained["error"][[0, 1, 3]]) == ["", "the second is gone", ""]
    assert "5" in explained["error"][2]


def test_calls_that_cannot_be_meant(tiny):
    with pytest.raises(TypeError, match="expected a function without arguments that returns the cut, .* got a Cut"):
        Explainer(tiny, jaxcam.grad_cam)
    with pytest.raises(TypeError, match="int is not a Cut"):
        Explainer(lambda: 3, jaxcam.grad_cam)
    with pytest.raises(ValueError, match="expected numbers=, a column of integers, with a key"):
        Explainer(lambda: tiny, weighted, KEY)
    with pytest.raises(TypeError, match="target=, one for all images, or targets=, a column, got both"):
        Explainer(lambda: tiny, jaxcam.grad_cam, target=1, targets="label")
    explain = Explainer(lambda: tiny, jaxcam.grad_cam, image="pixels")
    with pytest.raises(ValueError, match="no column 'pixels': expected one of 'image', 'name'"):
        explain({"image": SMALL, "name": NAMES})
    with pytest.raises(ValueError, match="without a column 'map'"):
        explain({"pixels": SMALL, "map": SMALL})


def test_without_ray_there_is_one_line(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"^a cluster needs Ray: pip install 'jaxcam-saliency\[ray\]'$"):
        explain_dataset(None, lambda: tiny, jaxcam.grad_cam)


@pytest.fixture
def stores():
    """What the stand-in for Ray does not replace."""
    pytest.importorskip("zarr", reason="the extra zarr is not installed")


def test_a_killed_run_goes_on_and_each_map_is_written_once(no_ray, stores, tiny, tmp_path):
    out, calls = tmp_path / "maps.zarr", []

    def load(element):
        calls.append(element.sum())
        if np.isnan(element).any():
            raise OSError("torn")
        return element

    images = SMALL.copy()
    images[7, 0, 0, 0] = np.nan
    call = functools.partial(explain_dataset, make_cut=lambda: tiny, method=jaxcam.grad_cam, load=load, out=out,
                             batch_size=3)  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        call(Rows(rows_of(images), killed_after=2))
    assert sorted(jaxcam.runtime.open_maps(out)) == NAMES[:6]
    calls.clear()
    explained = call(Rows(rows_of(images)), log=tmp_path / "log.jsonl")
    assert explained.failed == {"image 7": "torn"} and sorted(explained.maps) == [*NAMES[:7], *NAMES[8:]]
    assert len(calls) == 4, "those without a map"
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (record["earlier"], record["finished"], record["failed"]) == (6, 3, 1)
    written = [json.loads(file.read_text())["names"] for file in (out / "index").glob("*.json")]
    assert sorted(itertools.chain(*written)) == sorted(explained.maps), "each is written once"
    for name, saliency in explained.maps.items():
        np.testing.assert_allclose(saliency, jaxcam.grad_cam(tiny, SMALL[NAMES.index(name)]), atol=1e-6)


def test_a_store_is_that_of_one_process(no_ray, stores, tiny, tmp_path):
    out = tmp_path / "maps.zarr"
    jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, names=NAMES, out=out, share=(0, 2))
    dataset = functools.partial(explain_dataset, Rows(rows_of()), lambda: tiny, out=out, numbers="number")
    explained = dataset(weighted, KEY)
    assert sorted(explained.maps) == NAMES and len(list((out / "index").glob("*.json"))) == 2
    expected = jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, names=NAMES).maps
    for name in NAMES:
        np.testing.assert_allclose(explained.maps[name], expected[name], atol=1e-6)
    again = jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, names=NAMES, out=out)
    assert sorted(again.maps) == NAMES and len(list((out / "index").glob("*.json"))) == 2
    with pytest.raises(ValueError, match="holds another run, with method"):
        dataset(functools.partial(weighted, std=0.2), KEY)
    with pytest.raises(ValueError, match="holds another run, with other images"):
        explain_dataset(Rows(rows_of(SMALL[::-1])), lambda: tiny, weighted, KEY, out=out, numbers="number")


def test_datasets_that_are_refused(no_ray, stores, tiny, tmp_path):
    def explain(rows, method=jaxcam.grad_cam, out="maps.zarr", **options):
        return explain_dataset(Rows(rows), lambda: tiny, method, out=tmp_path / out, **options)

    for options in ({"image": "pixels"}, {"targets": "pixels"}, {"name": "pixels"}):
        with pytest.raises(ValueError, match="no column 'pixels': expected one of 'image', 'name', 'label', 'number'"):
            explain(rows_of(), **options)
    with pytest.raises(ValueError, match="two rows are called 'image 1'"):
        explain([*rows_of()[:2], rows_of()[1]])
    with pytest.raises(ValueError, match="the dataset has no rows"):
        explain([])
    with pytest.raises(ValueError, match="expected out='NAME.zarr' for a dataset"):
        explain(rows_of(), out="maps")
    with pytest.raises(ValueError, match="no image can be explained: .*uint8"):
        explain(rows_of(SMALL.astype(np.uint8)), out="others.zarr")
    torn = Rows(rows_of(), killed_after=0, error=FromRay("Traceback:\n  a line\nValueError: the weights are gone\n"))
    with pytest.raises(ValueError, match="^Ray gave up: ValueError: the weights are gone$"):
        explain_dataset(torn, lambda: tiny, jaxcam.grad_cam, out=tmp_path / "others.zarr")
    with pytest.raises(ValueError, match="no name for a file"):
        explain([{**rows_of()[0], "name": "a/b"}], out="others.zarr")
    with pytest.raises(ValueError, match="give out='NAME.zarr'"):
        explain_dataset(Rows(rows_of()), lambda: tiny, jaxcam.grad_cam, stored="uint8")


@pytest.mark.ray
def test_on_a_cluster_as_in_one_process(cluster, tiny):
    dataset = cluster.data.from_items(rows_of(), override_num_blocks=4)
    explained = explain_dataset(
        dataset, lambda: tiny, weighted, KEY, numbers="number", batch_size=3, concurrency=(1, 2)
    )
    rows = {row["name"]: row for row in explained.take_all()}
    expected = jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, names=NAMES).maps
    assert sorted(rows) == NAMES
    for name, row in rows.items():
        assert row["error"] == "" and row["label"] == LABELS[NAMES.index(name)]
        np.testing.assert_allclose(row["map"], expected[name], atol=1e-6)


@pytest.mark.ray
def test_on_a_cluster_images_of_several_shapes_and_a_broken_one(cluster, tiny):
    images = [image[: 4 + i % 2] for i, image in enumerate(SMALL)]
    images[3] = images[3] * np.nan
    dataset = cluster.data.from_items(rows_of(images), override_num_blocks=4)
    explained = explain_dataset(dataset, lambda: tiny, jaxcam.grad_cam, batch_size=2)
    rows = {row["name"]: row for row in explained.take_all()}
    assert sorted(rows) == NAMES
    for i, name in enumerate(NAMES):
        if i == 3:
            assert rows[name]["map"].shape == (0, 0) and "NaN" in rows[name]["error"]
            continue
        np.testing.assert_allclose(rows[name]["map"], jaxcam.grad_cam(tiny, images[i]), atol=1e-6)


@pytest.mark.ray
def test_on_a_cluster_into_a_store(cluster, tiny, tmp_path):
    images = [image[: 4 + i % 2] for i, image in enumerate(SMALL)]
    images[3] = images[3] * np.nan
    dataset = cluster.data.from_items(rows_of(images), override_num_blocks=4)
    out = tmp_path / "maps.zarr"
    for _ in range(2):
        explained = explain_dataset(dataset, lambda: tiny, jaxcam.grad_cam, targets="label", out=out, concurrency=2)
        assert sorted(explained.maps) == [*NAMES[:3], *NAMES[4:]] and list(explained.failed) == ["image 3"]
    for name, saliency in explained.maps.items():
        i = NAMES.index(name)
        np.testing.assert_allclose(saliency, jaxcam.grad_cam(tiny, images[i], int(LABELS[i])), atol=1e-6)
    written = [json.loads(file.read_text())["names"] for file in (out / "index").glob("*.json")]
    assert sorted(itertools.chain(*written)) == sorted(explained.maps)


@pytest.mark.ray
def test_on_a_cluster_errors_are_those_of_the_call(cluster, tiny, tmp_path):
    dataset = cluster.data.from_items(rows_of(), override_num_blocks=2)
    with pytest.raises(ValueError, match="no column 'pixels'"):
        explain_dataset(dataset, lambda: tiny, jaxcam.grad_cam, image="pixels")

    def broken():
        raise ValueError("the weights are gone")

    with pytest.raises(ValueError, match="^Ray gave up: ValueError: the weights are gone$"):
        explain_dataset(dataset, broken, jaxcam.grad_cam, out=tmp_path / "maps.zarr")
