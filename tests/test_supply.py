"""Every file of data in the package has a notice; `.ci/supply` checks the built distributions."""

import pathlib
import runpy

import pytest

import jaxcam

PACKAGE = pathlib.Path(jaxcam.__file__).parent
SUPPLY = pathlib.Path(__file__).parents[1] / ".ci" / "supply.py"


def test_every_file_of_data_has_a_notice():
    if not SUPPLY.exists():
        pytest.skip("the tests run without the repository")
    supply = runpy.run_path(str(SUPPLY))
    names = [path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()]
    assert supply["data_without_notice"](names) == []
    without = [name for name in names if not name.endswith("pretrained/masks/NOTICE.md")]
    assert supply["data_without_notice"](without) == [
        name for name in names if "pretrained/masks/" in name and not name.endswith(".md")
    ]
