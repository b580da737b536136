"""Limits are set for a program, a part of it, and in the environment; what is no limit is one line."""

import pytest

from jaxcam import limits


def test_a_context_restores_the_limits_if_it_raises():
    before = limits.current()
    with pytest.raises(KeyError), limits.changed(arrays=3), limits.changed(rows=1e6):
        assert limits.current() == before._replace(arrays=3, rows=10**6)
        raise KeyError
    assert limits.current() == before


def test_the_environment_holds_until_the_program_changes_a_limit(monkeypatch):
    monkeypatch.setattr(limits, "_changed", None)  # what another test set
    monkeypatch.setenv(limits.VARIABLE, "arrays=1e6, scans=7")
    assert limits.current() == limits.Limits(arrays=10**6, scans=7)
    with limits.changed(scans=9):
        assert limits.current() == limits.Limits(arrays=10**6, scans=9)
    with limits.changed(rows=float("inf")):
        assert limits.current().rows == 2**62


@pytest.mark.parametrize("text", ["arrays", "arrays=x", "colour=3", "arrays=0", "arrays=nan", "arrays=3,,"])
def test_what_the_environment_may_not_say(text, monkeypatch):
    monkeypatch.setattr(limits, "_changed", None)  # what another test set
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(ValueError, match="JAXCAM_LIMITS: expected NAME=NUMBER with commas between, of arrays, "):
        limits.current()


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"colour": 3}, TypeError, "no limit 'colour': choose from arrays, expansion"),
        ({"arrays": "3"}, TypeError, "expected a positive number for the limit arrays, got '3'"),
        ({"arrays": 0.5}, ValueError, "expected a positive number for the limit arrays, got 0.5"),
        ({"arrays": float("nan")}, ValueError, "expected a positive number for the limit arrays, got nan"),
    ],
)
def test_what_is_no_limit(values, error, says):
    before = limits.current()
    with pytest.raises(error, match=says):
        limits.change(**values)
    assert limits.current() == before


def test_small_files_may_unpack_to_as_much_as_a_file_of_16_mebibytes():
    most = limits.Limits(expansion=3)
    assert [most.unpacked_bytes(size) for size in (1, 2**24, 2**25)] == [3 * 2**24, 3 * 2**24, 3 * 2**25]
