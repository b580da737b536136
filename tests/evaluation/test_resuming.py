"""An evaluation as a folder: stopped and resumed, grown by methods and metrics, and refused to another run."""

import errno
import functools
import json

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam.evaluation import _store
from tests.evaluation.specimen import METHODS, close, example, features, head

CHEAP = ["adcc", "pointing"]


class Stop(BaseException):
    pass


def stopped(examples, after):
    yield from examples[:after]
    raise Stop


@pytest.mark.long
def test_a_run_that_is_stopped_goes_on(tiny, examples, whole, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, methods=METHODS, metrics=CHEAP, target="label", out=tmp_path)
    for after in (1, 3):
        with pytest.raises(Stop):
            run(stopped(examples, after))
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "images").iterdir()}
    assert len(written) == 3
    found = run(examples)
    for name, record in found.images.items():
        for method, row in record["rows"].items():
            close(row, {column: whole.images[name]["rows"][method][column] for column in row})
    assert {file: file.stat().st_mtime_ns for file in written} == written
    # All that is there is enough; nothing is computed.
    assert run(examples) == found
    # Methods are added to it, and those that are there stay.
    more = jaxcam.evaluate(
        tiny, examples, {**METHODS, "LayerCAM": jaxcam.layer_cam}, CHEAP, target="label", out=tmp_path
    )
    assert "LayerCAM" in more.methods
    for name, record in found.images.items():
        rows = more.images[name]["rows"]
        assert {row: rows[row] for row in record["rows"]} == record["rows"]
    assert run(examples) == found


def test_a_folder_of_another_run(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, ["pointing"], out=tmp_path)
    run()
    other = jaxcam.Cut((tiny.params[0], tiny.params[1] * 2, tiny.params[2]), features, head, "first")
    for given, message in (
        ({"cut": other}, "other params"),
        ({"target": "label"}, "target .*predicted.*, not .*label"),
        ({"key": jax.random.key(1)}, "key"),
        ({"methods": {"Grad-CAM": jaxcam.hires_cam}}, "another method 'Grad-CAM'"),
        ({"examples": [example(3, name="image 0")]}, "another image, mask or label of 'image 0'"),
    ):
        call = {"cut": tiny, "examples": examples[:1], "methods": METHODS, "metrics": ["pointing"], **given}
        with pytest.raises(ValueError, match=message):
            jaxcam.evaluate(**call, out=tmp_path)
    assert run().images
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="no run.json"):
        run()


def test_a_full_disk_loses_nothing(tiny, examples, tmp_path, monkeypatch):
    replace, left = _store.replace, [4]

    def full(path, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        replace(path, content)

    monkeypatch.setattr(_store, "replace", full)
    run = functools.partial(jaxcam.evaluate, tiny, examples, METHODS, ["pointing"], out=tmp_path)
    with pytest.raises(OSError, match="No space left on device; 3 images are finished, and the same call goes on"):
        run()
    monkeypatch.undo()
    assert len(list((tmp_path / "images").iterdir())) == 3
    assert len(run().images) == 5


@pytest.mark.long
def test_metrics_are_added_to_a_folder(tiny, examples, whole, tmp_path):
    """What is there is taken as it is and not computed again, also where methods are added at the same time."""
    run = functools.partial(jaxcam.evaluate, tiny, examples[:2], target="label", out=tmp_path)
    run(METHODS, ["adcc"])
    for file in (tmp_path / "images").iterdir():
        record = json.loads(file.read_text())
        record["rows"]["Grad-CAM"]["adcc"]["coherency"] = 0.125  # as nothing else would
        file.write_text(json.dumps(record))
    more = run(METHODS, ["adcc", "found"])
    for name, record in more.images.items():
        for method, row in record["rows"].items():
            wanted = {column: whole.images[name]["rows"][method][column] for column in row}
            close(row, wanted | {"coherency": 0.125} if method == "Grad-CAM" else wanted)
    assert set(run(METHODS, ["found"]).images["image 0"]["rows"]["random"]) == {"zero", "found", "spill"}
    both = run({**METHODS, "LayerCAM": jaxcam.layer_cam}, ["adcc", "found", "pointing"]).images["image 0"]["rows"]
    assert both["Grad-CAM"]["coherency"] == 0.125
    close(
        both["HiResCAM"], {column: whole.images["image 0"]["rows"]["HiResCAM"][column] for column in both["HiResCAM"]}
    )
    both = run({**METHODS, "LayerCAM": jaxcam.layer_cam}, ["found", "pointing"]).images["image 0"]["rows"]
    assert both["LayerCAM"].keys() == both["random"].keys() == {"zero", "found", "spill", "pointing"}
    assert list(json.loads((tmp_path / "run.json").read_text())["metrics"]) == ["adcc", "found", "pointing"]
    again = run(METHODS, ["adcc", "found", "pointing"])  # nothing is computed
    assert again.images["image 1"]["rows"]["Grad-CAM"]["coherency"] == 0.125
    # What an image has not is not looked for again.
    blind = [examples[0]._replace(mask=None, boxes=None)]
    with pytest.raises(ValueError, match="another image, mask or label of 'image 0'"):
        jaxcam.evaluate(tiny, blind, METHODS, ["pointing"], target="label", out=tmp_path)


def test_one_name_for_two_metrics(tiny, examples, tmp_path):
    def own(cut, case, saliency, scale=1.0):
        return {"own": scale * saliency.max()}

    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, target="label")
    run([own], out=tmp_path)
    first = own

    def own(cut, case, saliency):
        return {"own": saliency.min()}

    with pytest.raises(ValueError, match="another metric 'own'"):
        run([own], out=tmp_path)
    with pytest.raises(ValueError, match="two metrics are called 'own'"):
        run([first, own])

    def mine(cut, case, saliency):
        return {"own": saliency.min()}

    with pytest.raises(ValueError, match="two metrics give the column 'own'"):
        run([first, mine], out=tmp_path)
    found = run([first, functools.partial(first, scale=2.0)]).images["image 0"]["rows"]["random"]
    assert found["own, scale 2.0"] == 2 * found["own"]


def test_a_second_run_in_a_folder_is_refused_while_the_first_goes_on(tiny, examples, tmp_path):
    """It would compute the same records. Nothing of the first one is lost, and its run stays the folder's."""
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, ["pointing"], out=tmp_path)
    refused = []

    def load(given):
        with pytest.raises(ValueError, match="in use by another run, process .*: wait for its end") as error:
            run(key=jax.random.key(1))
        refused.append(error)
        return given

    first = run(load=load)
    assert refused and first.images and run(load=load) == first
    with pytest.raises(ValueError, match="holds another run, with key"):
        run(load=load, key=jax.random.key(1))


def test_a_metric_that_failed_does_not_take_its_name(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, out=tmp_path)
    run(["pointing"])

    def own(cut, case, saliency):
        return {"own": saliency.meen()}

    with pytest.raises(AttributeError, match="meen"):
        run(["pointing", own])

    def own(cut, case, saliency):
        return {"own": saliency.mean()}

    assert "own" in run(["pointing", own]).images["image 0"]["rows"]["random"]


def test_folders_of_others_and_torn_files(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:2], METHODS, ["pointing"])
    batch = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny, [each.image for each in examples[:2]])
    run(out=tmp_path / "evaluation")
    with pytest.raises(ValueError, match="holds an evaluation"):
        batch(out=tmp_path / "evaluation")
    batch(out=tmp_path / "maps")
    with pytest.raises(ValueError, match="holds maps of explain_batch"):
        run(out=tmp_path / "maps")
    file = tmp_path / "evaluation" / "images" / "image 0.json"
    whole = file.read_text()
    for torn in ("", "{", "{}", "null", "[]"):
        file.write_text(torn)
        with pytest.raises(ValueError, match=r"image 0\.json is torn"):
            run(out=tmp_path / "evaluation")
    file.write_text(whole)
    (tmp_path / "evaluation" / "run.json").write_text('{"model": [[12, 12, 3], "float32", ""]}')
    with pytest.raises(ValueError, match="does not describe an evaluation of this version"):
        run(out=tmp_path / "evaluation")
    # A call that finished nothing says nothing of the folder's run.
    broken = {"Smooth": functools.partial(jaxcam.grad_cam, n_samples=-1)}
    with pytest.raises(ValueError, match="for n_samples, got -1"):
        jaxcam.evaluate(tiny, examples[:1], broken, ["pointing"], out=tmp_path / "new")
    mended = {"Smooth": functools.partial(jaxcam.grad_cam, n_samples=1)}
    assert jaxcam.evaluate(tiny, examples[:1], mended, ["pointing"], out=tmp_path / "new").images


def test_rows_that_an_earlier_run_wrote_stay(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], metrics=["pointing"], out=tmp_path)
    run(methods={"LayerCAM": jaxcam.layer_cam})
    run(methods=METHODS)
    rows = json.loads((tmp_path / "images" / "image 0.json").read_text())["rows"]
    assert {"LayerCAM", *METHODS} <= set(rows)


def test_a_folder_with_the_earlier_name_of_a_control(tiny, examples, tmp_path):
    """Its row has today's name; nothing is computed again, also if the folder grows; no method can have that name."""
    run = functools.partial(jaxcam.evaluate, tiny, examples[:2], METHODS, out=tmp_path)
    metrics = [functools.partial(jaxcam.measures.pointing, tolerance=3), "energy"]
    first = run(metrics)
    for file in (tmp_path / "run.json", *(tmp_path / "images").iterdir()):
        described = file.read_text().replace("center Gaussian", "centre Gaussian")
        file.write_text(described.replace("controls.center_gaussian", "controls.centre_gaussian"))
    written = {file: file.read_text() for file in (tmp_path / "images").iterdir()}
    assert run(metrics) == first and first.methods[4] == "center Gaussian"
    assert {file: file.read_text() for file in written} == written
    grown = run([*metrics, "drop"])
    for name, record in first.images.items():
        row = grown.images[name]["rows"]["center Gaussian"]
        assert {column: row[column] for column in record["rows"]["center Gaussian"]} == record["rows"][
            "center Gaussian"
        ]
        assert "average_drop" in row
    assert "centre Gaussian" not in grown.methods
    with pytest.raises(ValueError, match="'centre Gaussian' is the name of a control"):
        jaxcam.evaluate(tiny, examples, {"centre Gaussian": jaxcam.grad_cam})


def test_a_folder_has_columns_by_their_text(tiny, examples, tmp_path):
    near = functools.partial(jaxcam.measures.pointing, tolerance=3)
    jaxcam.evaluate(tiny, examples[:1], METHODS, [near], out=tmp_path, target="label")
    rows = json.loads((tmp_path / "images" / "image 0.json").read_text())["rows"]
    assert list(rows["random"]["pointing, tolerance 3"]) == ["pointing, tolerance 3"]
    assert json.loads((tmp_path / "run.json").read_text())["metrics"]["pointing, tolerance 3"]["tolerance"] == 3


def test_an_example_is_another_with_other_inputs_or_another_target(examples):
    plain = examples[0]
    others = [
        plain,
        plain._replace(inputs=[np.zeros(3, np.float32)]),
        plain._replace(inputs=[np.ones(3, np.float32)]),
        plain._replace(inputs={"question": np.ones(3, np.float32)}),
        plain._replace(target=np.arange(3)),
        plain._replace(label=1 - plain.label),
    ]
    assert len(set(map(_store.example_digest, others))) == len(others)
