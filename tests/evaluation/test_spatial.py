"""Examples that an evaluation does not take."""

import numpy as np
import pytest

import jaxcam
from tests.evaluation.specimen import METHODS, example


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": (np.ones(3),)}, "the example has inputs besides its image, but evaluate gives the model only"),
        ({"inputs": {"question": np.ones(3)}}, "the example has inputs besides its image"),
        ({"target": 0}, "the example has a target, but evaluate explains the predicted class or the label"),
    ],
)
def test_an_example_that_is_not_taken_is_one_line(tiny, given, message):
    result = jaxcam.evaluate(tiny, [example(0), example(1, **given)], METHODS, ["energy"])
    assert list(result.images) == ["image 0"]
    assert message in result.failed["image 1"]
