"""Means and paired bootstrap intervals against loops, and what the tables say."""

import json
import statistics

import numpy as np
import pytest

from jaxcam.evaluation._bootstrap import RESAMPLES, _interval_percentiles, paired_estimates
from jaxcam.evaluation._naming import ColumnKey
from jaxcam.evaluation._result import Evaluation

RNG = np.random.default_rng(0)


def evaluation(**columns):
    """Of methods a and b: for each column the values of a and of b."""
    count = len(next(iter(columns.values()))[0])
    seen = {"label": 0, "target": 0, "predicted": 0, "probability": 0.5, "rank": 0}
    images = {
        str(i): {**seen, "rows": {m: {c: values[k][i] for c, values in columns.items()} for k, m in enumerate("ab")}}
        for i in range(count)
    }
    return Evaluation(images, {}, "a")


def test_intervals_are_those_of_a_loop_over_resamples():
    a, b = RNG.normal(0, 1, 50), RNG.normal(0.3, 2, 50)
    found = evaluation(energy=(a.tolist(), b.tolist())).estimates()["b"]["energy"]
    rng = np.random.default_rng(7)
    means, differences = [], []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, 50, 50)
        means.append(b[chosen].mean())
        differences.append(b[chosen].mean() - a[chosen].mean())
    assert found.mean == pytest.approx(b.mean())
    assert found.difference == pytest.approx(b.mean() - a.mean())
    for value, drawn, part in (
        (found.low, means, 2.5), (found.high, means, 97.5),
        (found.difference_low, differences, 2.5), (found.difference_high, differences, 97.5),
    ):  # fmt: skip
        assert value == pytest.approx(np.percentile(drawn, part), abs=0.1)
    # The textbook's standard error, from the same values.
    assert (found.high - found.low) / 2 == pytest.approx(2.01 * b.std(ddof=1) / np.sqrt(50), rel=0.1)


def test_pairing_sees_what_intervals_of_the_means_hide():
    a = RNG.normal(0, 1, 40)
    found = evaluation(energy=(a.tolist(), (a + 0.1 + RNG.normal(0, 0.05, 40)).tolist())).estimates()
    assert found["b"]["energy"].low < found["a"]["energy"].mean < found["b"]["energy"].high
    assert found["b"]["energy"].differs
    assert not found["a"]["energy"].differs


def test_win_counts_the_lower_drop_and_halves_ties():
    found = evaluation(average_drop=([0.5, 0.5, 0.5, 0.5], [0.4, 0.5, 0.5 + 1e-7, 0.6]))
    assert found.estimates()["b"]["win"].mean == (1 + 0.5 + 0.5) / 4
    assert found.estimates()["a"]["win"].mean == 0.5


def test_columns_with_options_stand_beside_those_without():
    """In the group of their name, with their own Win and errors; columns of fewer images have their own resamples."""
    values = np.random.default_rng(4).uniform(size=[4, 12, 2]).tolist()
    names = ["average_drop", "average_drop, baseline 0.5", "energy", "localised, threshold 0.2"]
    found = evaluation(**{name: list(zip(*column, strict=True)) for name, column in zip(names, values, strict=True)})
    found = found._replace(target="label")
    estimates = found.estimates()["b"]
    for name, column in zip(names, values, strict=True):
        alone = evaluation(**{name: list(zip(*column, strict=True))}).estimates()["b"]
        for each in alone:
            np.testing.assert_allclose(estimates[each], alone[each])
    lower = [b < a for a, b in values[1]]
    assert estimates["win, baseline 0.5"].mean == np.mean(lower) != estimates["win"].mean
    for column in ("Average Drop, baseline 0.5 % ↓", "Win, baseline 0.5 % ↑", "box IoU ≥ 0.5, threshold 0.2 % ↑"):
        assert column in str(found)
    assert "localization error, top-1, threshold 0.2 % ↓" in str(found)
    assert "Other" not in str(found)
    assert len(found.most_different("win, baseline 0.5", "a", "b")) == 6


def test_localisation_errors_are_of_all_images():
    """Top-1 where the label is predicted and the box overlaps, top-5 where it is among five; whatever was apart."""
    found = evaluation(localised=([1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]))._replace(target="label")
    for name, rank in (("1", 3), ("2", 7)):
        found.images[name].update(rank=rank, predicted=1)
    row = next(line for line in str(found).splitlines()[::-1] if line.startswith("a"))
    assert row.split() == ["a", "75.0", "50.0"]
    assert "localization error" not in str(found._replace(target="predicted"))


def test_few_images_bear_no_interval():
    few = evaluation(energy=([0.5] * 9, [0.75] * 9))
    assert "0.750" in str(few) and "±" not in str(few) and "*" not in str(few)
    assert "Fewer than 10 images bear no interval." in str(few)
    assert not few.estimates()["b"]["energy"].differs
    enough = evaluation(energy=([0.5] * 10, [0.75] * 10))
    assert "0.750 ±0.000⁺" in str(enough)


def test_a_mark_says_which_way():
    """Better and worse by the column's own direction; of what is the same, nothing, whatever its roundings."""
    found = evaluation(
        energy=([0.5] * 12, [0.75] * 12), deletion=([0.5] * 12, [0.75] * 12), own=([0.5] * 12, [0.75] * 12),
        pointing=([0.2697867137638703] * 12, [0.2697867137638703 + 4e-8] * 12),
    )  # fmt: skip
    cells = str(found).split()
    assert cells.count("±0.000⁺") == 1 and cells.count("±0.000⁻") == 1 and cells.count("±0.000*") == 1
    rng = np.random.default_rng(1)
    for _ in range(20):
        same = np.full(int(rng.integers(10, 200)), rng.uniform()).tolist()
        assert not evaluation(energy=(same, same)).estimates()["b"]["energy"].differs


def test_intervals_of_few_images_hold_what_they_say():
    """Of 500 samples of 12 from a normal distribution, 95% of the intervals have its mean; a plain percentile's 91%."""
    rng = np.random.default_rng(2)
    held = [_holds(rng.normal(0, 1, 12)) for _ in range(500)]
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.7062), (3, 4.3027), (10, 2.2622), (12, 2.2010), (121, 1.9799)])
def test_the_tails_are_those_of_students_t(count, quantile):
    """The quantiles are those of a printed table, for 95% and count - 1 degrees of freedom."""
    low, high = _interval_percentiles(count)
    wanted = 100 * statistics.NormalDist().cdf(-np.sqrt(count / (count - 1)) * quantile)
    assert low == pytest.approx(wanted, rel=2e-3) and low + high == pytest.approx(100)


def test_one_image_has_all_resamples():
    assert _interval_percentiles(1) == (0, 100)


def _holds(values):
    ((found,),) = paired_estimates(values[:, None, None], 0)
    return found.low <= 0 <= found.high


def test_what_is_printed_is_the_estimates():
    found = evaluation(
        average_drop=([0.25, 0.75], [0.5, 0.5]), zero=([0.0, 0.0], [0.0, 1.0]), own=([1.0, 2.0], [3.0, 4.0])
    )
    text, page = str(found), found.markdown()
    for words in ("2 images, 100.0% classified rightly", "Average Drop % ↓", "Win % ↑", "maps of zeros %", "own"):
        assert words in text
        assert words in page
    assert "| a | 50.0 |" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert json.loads(json.dumps(found.as_dict()))["estimates"]["b"]["own"]["mean"] == 3.5
    assert "maps of zeros" not in str(evaluation(zero=([0.0], [0.0]), own=([1.0], [1.0])))


def test_most_different_and_its_mistakes():
    found = evaluation(energy=([0.1, 0.2, 0.3], [0.1, 0.9, 0.0]))
    assert found.most_different("energy", "a", "b") == ["1", "2", "0"]
    assert found.most_different("energy", "a", "b", count=1) == ["1"]
    with pytest.raises(ValueError, match="no column 'engery': choose of energy"):
        found.most_different("engery", "a", "b")
    with pytest.raises(ValueError, match="no method 'c': choose of a, b"):
        found.most_different("energy", "a", "c")


def test_curves_are_means_of_what_is_counted():
    found = evaluation(deletion_curve=([[[0, 1], [1.0, 0.0]], [[0, 1], [0.5, 0.5]]], [[[0, 1], [1.0, 1.0]]] * 2))
    np.testing.assert_allclose(found.curves()["deletion_curve"]["a"], [[0, 1], [0.75, 0.25]])
    found.images["1"].update(predicted=1)
    np.testing.assert_allclose(found.curves()["deletion_curve"]["a"], [[0, 1], [1.0, 0.0]])


def test_a_curve_that_some_images_lack_is_the_mean_of_the_others():
    found = evaluation(
        own_curve=([[[0, 1], [1.0, 0.0]]] * 2, [[[0, 1], [0.5, 0.5]]] * 2), energy=([0.5] * 2, [0.5] * 2)
    )
    for name, row in found.images["0"]["rows"].items():
        assert name in "ab" and row.pop("own_curve")
    np.testing.assert_allclose(found.curves()["own_curve"]["b"], [[0, 1], [0.5, 0.5]])


def test_columns_by_key_and_by_text():
    """Also where the records have texts, as JSON has them."""
    near = ColumnKey("pointing", (("tolerance", "15"),))
    found = evaluation(**{"pointing, tolerance 15": ([0.5], [0.75])})
    row = found.estimates()["b"]
    assert row[near] is row["pointing, tolerance 15"] and list(row) == [near]
    assert found.most_different(near, "a", "b") == found.most_different(str(near), "a", "b") == ["0"]
    assert str(found.shown_column(near)) == str(found.shown_column(str(near))) == "pointing game, tolerance 15 ↑"
    assert list(found.as_dict()["estimates"]["b"]) == ["pointing, tolerance 15"]
    assert all(type(column) is str for column in found.as_dict()["images"]["0"]["rows"]["a"])
    again = Evaluation(json.loads(json.dumps(found.as_dict()))["images"], {}, "a")
    assert str(again) == str(found)


def test_an_evaluation_of_nothing():
    nothing = Evaluation({}, {"a": "broken"}, "a")
    assert "0 images, 1 failed" in str(nothing)
    assert nothing.estimates() == {} == nothing.curves()
    assert nothing.accuracy is None
