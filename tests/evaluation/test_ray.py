"""An evaluation over Ray: with a stand-in for Ray in one process, and on a Ray cluster."""

import functools
import json
import sys

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam.evaluation.ray import evaluate_examples
from tests.evaluation.specimen import METHODS, close, example
from tests.runtime.without_ray import FromRay, Rows

CHEAP = ["adcc", "pointing"]


def same(found, expected):
    """Both have the same images in the same order, to rounding, and the same failures."""
    assert list(found.images) == list(expected.images) and found.failed == expected.failed
    assert (found.methods, found.reference) == (expected.methods, expected.reference)
    for name, record in expected.images.items():
        assert found.images[name]["target"] == record["target"]
        for method, row in record["rows"].items():
            close(found.images[name]["rows"][method], row)


def test_the_figures_are_those_of_one_process(no_ray, tiny, examples):
    broken = examples[1]._replace(image=examples[1].image * np.nan)
    given = [
        examples[0],
        broken,
        example(7, image=examples[2].image[:8], mask=None, boxes=np.array([[2, 3, 7, 9]])),
        examples[3],
    ]
    call = {"methods": METHODS, "metrics": CHEAP, "target": "label"}
    expected = jaxcam.evaluate(tiny, given, **call)
    assert list(expected.failed) == ["image 1"]
    no_ray.data.from_items = lambda rows, **options: Rows(rows[::-1])  # actors answer in any order
    same(evaluate_examples(lambda: tiny, iter(given), **call, batch_size=3), expected)


@pytest.mark.long
def test_targets_scores_and_loaders_go_to_the_actors(no_ray, tiny, examples):
    call = {"methods": {"Grad-CAM": jaxcam.grad_cam}, "metrics": ["drop"], "score": jaxcam.scores.logit}
    for given in (
        {"targets": [2, 0, 1, 1, 2]},
        {"target": 2},
        {"load": lambda number: examples[number]},
        {"key": jax.random.key(4)},
    ):
        elements = range(5) if "load" in given else examples
        expected = jaxcam.evaluate(tiny, elements, **call, **given)
        same(evaluate_examples(lambda: tiny, elements, **call, **given), expected)


@pytest.mark.long
def test_a_killed_run_goes_on_and_its_folder_is_that_of_evaluate(no_ray, tiny, examples, tmp_path):
    call = {"methods": METHODS, "metrics": CHEAP, "target": "label", "out": tmp_path / "found"}
    over_ray = functools.partial(evaluate_examples, lambda: tiny, batch_size=1, **call)
    no_ray.data.from_items = functools.partial(Rows, killed_after=2)
    with pytest.raises(KeyboardInterrupt):
        over_ray(examples)
    images = tmp_path / "found" / "images"
    written = {file: file.stat().st_mtime_ns for file in images.iterdir()}
    assert len(written) == 2
    computed = []

    def counted(rows, **options):
        computed.append(len(rows))
        return Rows(rows)

    no_ray.data.from_items = counted
    found = over_ray(examples, log=tmp_path / "log.jsonl")
    assert computed == [3] and {file: file.stat().st_mtime_ns for file in written} == written
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (record["earlier"], record["finished"], record["failed"]) == (2, 3, 0)
    same(found, jaxcam.evaluate(tiny, examples, **{**call, "out": None}))
    # One process finds nothing to compute, and adds a method, which Ray in turn takes as it is.
    assert jaxcam.evaluate(tiny, examples, **call) == found
    more = {**call, "methods": {**METHODS, "LayerCAM": jaxcam.layer_cam}}
    grown = jaxcam.evaluate(tiny, examples[:3], **more)
    again = evaluate_examples(lambda: tiny, examples, **more)
    assert computed == [3, 2] and {name: again.images[name] for name in grown.images} == grown.images
    with pytest.raises(ValueError, match="holds another run"):
        over_ray([example(9, name="image 0")])


def test_calls_that_cannot_be_meant(no_ray, tiny, examples, monkeypatch):
    call = functools.partial(evaluate_examples, lambda: tiny, methods=METHODS, metrics=["pointing"])
    with pytest.raises(TypeError, match="expected a function without arguments that returns the cut, got a Cut"):
        evaluate_examples(tiny, examples, METHODS)
    with pytest.raises(TypeError, match="int is not a Cut"):
        evaluate_examples(lambda: 3, examples, METHODS)
    with pytest.raises(ValueError, match="expected batch_size of at least 1, got 0"):
        call(examples, batch_size=0)
    with pytest.raises(ValueError, match="no examples"):
        call([])
    with pytest.raises(ValueError, match="two examples are called 'image 0'"):
        call([examples[0], examples[0]])
    with pytest.raises(ValueError, match="target is 'probable'"):
        call(examples, target="probable")

    def wrong(cut, image, target):
        raise TypeError("expected another call")

    with pytest.raises(TypeError, match="^expected another call$"):  # after the examples that show it
        evaluate_examples(lambda: tiny, examples, {"wrong": wrong}, ["pointing"])

    def too_large(cut, image, target):
        raise RuntimeError("RESOURCE_EXHAUSTED")

    with pytest.raises(ValueError, match="^RESOURCE_EXHAUSTED$"):
        evaluate_examples(lambda: tiny, examples, {"too large": too_large}, ["pointing"])
    no_ray.data.from_items = functools.partial(Rows, killed_after=0, error=FromRay("Traceback:\nValueError: no disk\n"))
    with pytest.raises(ValueError, match="^Ray gave up: ValueError: no disk$"):
        call(examples)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"^a cluster needs Ray: pip install 'jaxcam-saliency\[ray\]'$"):
        call(examples)


@pytest.mark.ray
def test_on_a_cluster_as_in_one_process(cluster, tiny, examples, tmp_path):
    given = [
        *examples,
        example(7, image=examples[2].image[:8], mask=None, boxes=np.array([[2, 3, 7, 9]])),
        example(8, label=99),
    ]
    call = {"methods": METHODS, "metrics": CHEAP, "target": "label"}
    expected = jaxcam.evaluate(tiny, given, **call)
    assert list(expected.failed) == ["image 8"]
    for _ in range(2):
        found = evaluate_examples(lambda: tiny, given, **call, out=tmp_path, batch_size=2, concurrency=2)
        same(found, expected)
