"""The controls, the reference method, and the images that are counted apart."""

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam import evaluation
from tests.evaluation.specimen import METHODS, features


def test_the_controls_are_always_there_and_all_ones_games_the_drop(whole):
    assert whole.methods == [*METHODS, *evaluation.CONTROLS]
    for record in whole.images.values():
        ones = record["rows"]["all ones"]
        assert ones["average_drop"] == ones["increase"] == ones["average_gain"] == 0
        assert ones["adcc"] == 0
        assert ones["complexity"] == 1


def test_the_controls_by_their_formulas(tiny, examples):
    image, key = examples[0].image, jax.random.key(3)
    A = np.asarray(features(tiny.params, image))
    np.testing.assert_allclose(jaxcam.controls.mean_activation(tiny, image), A.mean(-1), rtol=1e-5)
    np.testing.assert_array_equal(jaxcam.controls.all_ones(tiny, image), np.ones((6, 6)))
    gaussian = np.asarray(jaxcam.controls.centre_gaussian(tiny, image))
    for row in range(6):
        for column in range(6):
            wanted = np.exp(-((row - 2.5) ** 2 + (column - 2.5) ** 2) / (2 * 1.5**2))
            np.testing.assert_allclose(gaussian[row, column], wanted, rtol=1e-5)
    drawn = np.asarray(jaxcam.controls.random(tiny, image, None, key))
    assert drawn.shape == (6, 6) and 0 <= drawn.min() < 0.3 < 0.7 < drawn.max() <= 1
    np.testing.assert_array_equal(drawn, jaxcam.controls.random(tiny, examples[1].image, None, key))
    with pytest.raises(ValueError, match="needs a key"):
        jaxcam.controls.random(tiny, image)


def test_a_class_that_is_not_predicted_is_counted_apart(tiny, examples, whole):
    apart = whole.apart()
    wrong = [name for name, r in whole.images.items() if r["predicted"] != r["label"]]
    assert apart == wrong
    assert 0 < len(apart) < len(examples)
    assert whole.accuracy == 1 - len(apart) / len(examples)
    right = [name for name in whole.images if name not in apart]
    drops = [whole.images[name]["rows"]["HiResCAM"]["average_drop"] for name in right]
    np.testing.assert_allclose(whole.estimates()["HiResCAM"]["average_drop"].mean, np.mean(drops), rtol=1e-6)
    assert whole.estimates(apart)["HiResCAM"]["average_drop"].images == len(apart)
    text = str(whole)
    assert f"5 images, {whole.accuracy:.1%} classified rightly" in text
    assert f"{len(apart)} images, counted apart: of a class that the model does not predict" in text
    predicted = jaxcam.evaluate(tiny, examples, METHODS, ["pointing"])
    assert not predicted.apart()
