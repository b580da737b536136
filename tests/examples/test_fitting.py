"""The measured fits: the example prints a row for each, on a few photographs."""

import pytest

from jaxcam.datasets import FITS
from tests.examples.test_examples import run


@pytest.mark.long
def test_every_fit_has_its_row(assets):
    lines = run("examples.fitting_photographs", "--limit", "2").splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[3:]] == list(FITS)
