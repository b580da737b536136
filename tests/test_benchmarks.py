"""What the benchmarks stand on: the table of what is kept, and a peer that is not there."""

import sys

import pytest

from benchmarks import peers, table

MACHINE = {"cpu": "abacus", "cores": 2}


def test_bounds_met_and_not():
    several = {
        "claim": "C.",
        "ratios": {"a: fast / slow": 0.5, "b: fast / slow": 2.345, "speed": 10, "beside": 7},
        "bounds": {"fast / slow": 1.3},
        "at least": {"speed": 15},
        "machine": MACHINE,
    }
    every = {"claim": "D.", "ratios": {"x": 1.0, "y": 1.03}, "bound": 1.02, "machine": MACHINE}
    assert table.markdown({"one": several, "two": every}).splitlines() == [
        "cpu abacus, cores 2:",
        "",
        "| claim | ratio | measured | bound | met |",
        "|---|---|---|---|---|",
        "| `one`: C. | a: fast / slow | 0.5 | at most 1.3 | yes |",
        "|  | b: fast / slow | 2.35 | at most 1.3 | **no** |",
        "|  | speed | 10 | at least 15 | **no** |",
        "|  | beside | 7 |  |  |",
        "| `two`: D. | x | 1 | at most 1.02 | yes |",
        "|  | y | 1.03 | at most 1.02 | **no** |",
    ]


def test_each_machine_has_its_table():
    found = {"claim": "C.", "ratios": {"x": 1.0}, "machine": MACHINE}
    both = table.markdown({"one": found, "two": found | {"machine": {"cpu": "other"}}})
    assert both.count("| claim |") == 2 and both.index("abacus") < both.index("`one`") < both.index("other")


def test_what_is_kept_makes_a_table():
    kept = table.kept()
    assert "smoothing_costs_its_forward_passes" in kept
    assert all(f"`{name}`: {found['claim']}" in table.markdown(kept) for name, found in kept.items())


def test_a_peer_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(peers.Missing, match="runs torch beside jaxcam.*install the group peers"):
        peers.network(None)
