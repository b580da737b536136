"""Keys of columns: they equal their text, and are told apart by it."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest

from jaxcam.evaluation import METRICS, ColumnKey, Metric, named_metrics
from jaxcam.evaluation._selection import as_metric

KEYS = [
    ColumnKey("energy"),
    ColumnKey("pointing", (("tolerance", "15"),)),
    ColumnKey("own", (("a", "(0.1 'x')"), ("b", "[[1] [1 2]]"))),
    ColumnKey("own", (("empty", ""),)),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_is_read_by_its_text(key):
    text = str(key)
    assert ColumnKey.parse(text) == key == text == key
    assert ColumnKey.parse(text).options == key.options
    assert {key: 1}[text] == {text: 1}[key] == 1
    assert {key} == {text} and not key != text


def test_a_key_is_not_a_tuple_or_another_key():
    key = ColumnKey("energy")
    assert key != ("energy", ()) and ("energy", ()) != key
    assert len({*KEYS}) == len(KEYS)
    assert key != "pointing" and key is not None and key != 3


def test_options_are_part_of_a_metrics_columns():
    pointing = METRICS["pointing"]
    near = as_metric(functools.partial(pointing, tolerance=15))
    assert near.label == near.column_key("pointing") == "pointing, tolerance 15"
    assert near.needs == pointing.needs and near.columns == pointing.columns
    jitted = jax.jit(functools.partial(pointing.compute, tolerance=15))
    assert as_metric(jitted).label == near.label
    assert as_metric("pointing") is as_metric(pointing) is pointing


def test_a_record_and_its_name_are_one_metric():
    assert list(named_metrics(["pointing", METRICS["pointing"], METRICS["pointing"].compute])) == ["pointing"]
    near = functools.partial(METRICS["pointing"], tolerance=3)
    assert list(named_metrics([near, near])) == ["pointing, tolerance 3"]
    with pytest.raises(ValueError, match="two metrics are called 'pointing'"):
        named_metrics(["pointing", Metric(_pointing)])


def _pointing(cut, case, saliency):
    return {"mine": saliency.max()}


_pointing.__name__ = "pointing"


def test_a_metric_leaves_out_those_that_it_includes():
    def more(cut, case, saliency):
        return {"energy": saliency.sum(), "more": saliency.max()}

    more_energy = Metric(more, includes=(METRICS["energy"].compute,))
    assert list(named_metrics(["energy", more_energy])) == ["more"]
    assert list(named_metrics(["drop", "adcc"])) == ["adcc"]


def test_json_needs_the_text():
    with pytest.raises(TypeError):
        json.dumps({KEYS[1]: 1})
    assert json.loads(json.dumps({str(KEYS[1]): 1})) == {KEYS[1]: 1}


def test_options_that_are_arrays_have_a_digest():
    def own(cut, case, saliency, *, at):
        return {"own": saliency.max()}

    labels = [as_metric(functools.partial(own, at=jnp.arange(n))).label for n in (30, 30, 31)]
    assert labels[0] == labels[1] != labels[2]
    assert all(len(label) == len("own, at ") + 8 for label in labels)
