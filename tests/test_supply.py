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
    for folder, notice in supply["NOTICES"].items():
        path = PACKAGE.parent / notice
        is_in_folder = notice.startswith(folder)
        assert path.is_file() and (is_in_folder or pathlib.PurePath(folder).name in path.read_text()), folder
