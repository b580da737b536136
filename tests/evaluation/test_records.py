"""A metric is one record: the evaluation, its tables, its plots and the command line read it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import cli, plots
from jaxcam.evaluation import METRICS, Column, Curve, Metric, named_metrics
from tests.evaluation.specimen import METHODS


def brightness(cut, case, saliency, *, power=1.0, score):
    """The area of the boxes under the map, the score of the image at half, and a curve."""
    curve = jnp.stack([jnp.array([0.0, 1.0]), jnp.array([saliency.min(), saliency.max()])])
    values = {"brightness": (saliency**power).mean(), "half_score": case.ends["half"], "scores": score(jnp.ones(2), 0)}
    return {**values, "brightness_curve": curve}


BRIGHTNESS = Metric(
    brightness,
    columns={
        "brightness": Column("brightness", "down", 100, decides=0),
        "half_score": Column("score at half", "up"),
    },
    curves={"brightness_curve": Curve("brightness", "from", "to", "down")},
    group="How bright",
    needs="boxes",
    of_label=True,
    ends={"half": lambda image: image / 2},
)


@pytest.fixture(scope="module")
def result(tiny, examples):
    metrics = [BRIGHTNESS, functools.partial(BRIGHTNESS, power=2.0), "drop"]
    examples = [*examples, examples[0]._replace(boxes=None, name="no boxes")]
    return jaxcam.evaluate(tiny, examples, METHODS, metrics)


def test_the_evaluation_reads_the_record(tiny, examples, result):
    measured = {name for name, record in result.images.items() if "brightness" in record["rows"]["Grad-CAM"]}
    is_right = {name for name, r in result.images.items() if r["label"] == r["predicted"]}
    assert measured == is_right - {"no boxes"} and measured  # it needs boxes, and those are of the label
    (name, *_) = measured
    image = next(example.image for example in examples if example.name == name)
    outputs = np.asarray(tiny.head(tiny.params, tiny.features(tiny.params, image / 2), image / 2))
    probability = np.exp(outputs) / np.exp(outputs).sum()
    row = result.images[name]["rows"]["random"]
    np.testing.assert_allclose(row["half_score"], probability[result.images[name]["target"]], rtol=1e-4)
    assert row["brightness, power 2.0"] < row["brightness"]
    assert row["scores"] == 0.5  # the score of the evaluation
    assert "average_drop" in result.images["no boxes"]["rows"]["random"]


def test_the_table_reads_the_record(result):
    text = str(result)
    assert "How bright; brightness, brightness, power 2.0, score at half, score at half, power 2.0: of" in text
    assert "brightness % ↓" in text and "brightness, power 2.0 % ↓" in text and "score at half ↑" in text
    assert "Other" in text and "scores" in text  # a column that the record does not describe
    assert str(result.shown_column("brightness, power 2.0")) == "brightness, power 2.0 % ↓"


def test_the_plot_reads_the_record(result):
    panels = [axes for axes in plots.curves(result).axes if axes.lines]
    titles = [axes.get_title() for axes in panels]
    assert titles == ["brightness, lower is better", "brightness, power 2.0, lower is better"]
    assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("from", "to")


def test_the_command_line_reads_the_record(result, monkeypatch):
    monkeypatch.setitem(METRICS, "brightness", BRIGHTNESS)
    (metric,) = cli.parse_metrics("brightness:power=2.0")
    assert list(named_metrics([metric])) == ["brightness, power 2.0"]
    assert "brightness" in named_metrics()
    assert result.deciding_column() == "brightness"
    assert result._replace(metrics=()).deciding_column() == "brightness"


def test_columns_decide_by_their_rank(result):
    assert result._replace(metrics=()).deciding_column() == "average_drop"
    columns = {name: column for metric in METRICS.values() for name, column in metric.columns.items()}
    ranked = {name: column.decides for name, column in columns.items() if column.decides is not None}
    order = ["adcc", "average_drop", "energy", "mask_iou", "box_iou", "deletion", "insertion", "road", "found"]
    assert sorted(ranked, key=ranked.__getitem__) == order and len(set(ranked.values())) == len(order)


def test_every_column_is_described(tiny, examples):
    """The columns that the metrics return are those of their records, and Win."""
    result = jaxcam.evaluate(tiny, [examples[0]._replace(label=None)], METHODS)
    described = {name for metric in METRICS.values() for name in (*metric.columns, *metric.curves)}
    returned = {key.name for key in result.images["image 0"]["rows"]["random"]}
    assert returned | {"win"} == described | {"zero"}


def test_two_images_of_one_end_are_refused(tiny, examples):
    def other(cut, case, saliency):
        return {"other": case.ends["blank"]}

    metrics = ["deletion", Metric(other, ends={"blank": jnp.ones_like})]
    with pytest.raises(ValueError, match="two metrics have different images for the end 'blank'"):
        jaxcam.evaluate(tiny, examples[:1], METHODS, metrics)
