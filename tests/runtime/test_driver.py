"""The loop that explain_batch and evaluate share, with arithmetic in the place of maps."""

import logging

import numpy as np
import pytest

from jaxcam.runtime._driver import for_each


def items(*values):
    return [(f"item {value}", value) for value in values]


def doubled(examples, _):
    return [2 * int(example) for example in examples]


def run(given, **options):
    how = {"load": np.int32, "chunk_size": lambda _: 2, "compute": doubled, "label": "doubling"}
    return for_each(given, **{**how, "store": lambda name, item, result, finished: result, **options})


def recording(events, name, function):
    def recorded(*arguments):
        events.append((name, *(arguments[-1:] if name == "load" else ())))
        return function(*arguments)

    return recorded


def test_results_by_name():
    assert run(items(1, 2, 3)) == ({"item 1": 2, "item 2": 4, "item 3": 6}, {})
    assert run([]) == ({}, {})


def test_what_is_recorded_is_neither_loaded_nor_computed():
    loaded = []
    outcome = run(
        items(1, 2, 3),
        recorded=lambda name, item: "earlier" if item == 2 else None,
        load=lambda item: loaded.append(item) or np.int32(item),
    )
    assert outcome.results == {"item 1": 2, "item 2": "earlier", "item 3": 6}
    assert list(outcome.results) == ["item 1", "item 2", "item 3"]
    assert loaded == [1, 3]


@pytest.mark.parametrize("starts_only", [False, True])
def test_a_chunk_is_loaded_while_the_one_before_is_computed(starts_only):
    """If `compute` only starts the work; otherwise results are stored before anything else is loaded."""
    events = []
    run(
        items(1, 2, 3, 4),
        load=recording(events, "load", np.int32),
        compute=recording(events, "compute", doubled),
        collect=recording(events, "collect", lambda started: [*started, "padding"]) if starts_only else None,
        store=recording(events, "store", lambda *_: None),
    )
    store = [("store",)] * 2
    if starts_only:
        expected = [
            ("load", 1),
            ("load", 2),
            ("compute",),
            ("load", 3),
            ("load", 4),
            ("collect",),
            *store,
            ("compute",),
        ]
        assert events == [*expected, ("collect",), *store]
    else:
        assert events == [
            ("load", 1), ("load", 2), ("compute",), *store, ("load", 3), ("load", 4), ("compute",), *store
        ]  # fmt: skip


def test_a_failure_is_one_line_and_the_others_go_on(caplog):
    def compute(examples, values):
        if 5 in values:
            raise ValueError("five\n  and its chunk")
        return [ArithmeticError("three") if example == 3 else int(example) for example in examples]

    def load(item):
        if item == 1:
            raise KeyError
        return np.int32(item)

    with caplog.at_level(logging.WARNING, "jaxcam"):
        outcome = run(items(1, 2, 3, 4, 5, 6), load=load, compute=compute)
    assert outcome.results == {"item 2": 2, "item 6": 6}
    assert outcome.failed == {
        "item 1": "KeyError", "item 3": "three", "item 4": "five and its chunk", "item 5": "five and its chunk"
    }  # fmt: skip
    assert list(outcome.failed) == ["item 1", "item 3", "item 4", "item 5"]
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"{name}: {message}" for name, message in outcome.failed.items()
    ]


def raising(examples, _):
    raise ValueError("no")


@pytest.mark.parametrize("raise_after", [1, 3])
def test_a_call_that_is_wrong_is_raised(raise_after):
    computed = []

    def compute(examples, values):
        computed.append(values)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(items(*range(20)), compute=compute, raise_after=raise_after)
    assert len(computed) == raise_after
    # Fewer failures than that are raised at the end, if nothing is finished.
    with pytest.raises(ValueError, match="no"):
        run(items(1, 2), compute=raising, raise_after=3)
    with pytest.raises(ValueError, match="no"):
        run(items(1, 2), chunk_size=lambda example: raising(example, None), raise_after=raise_after)
    # One item that an earlier run finished shows that the call is not wrong.
    outcome = run(items(*range(9)), compute=raising, recorded=lambda _, item: item or None if item == 1 else None)
    assert list(outcome.results) == ["item 1"] and len(outcome.failed) == 8


def test_a_chunk_in_progress_counts_as_finished():
    """Of two shapes, one that cannot be computed is found while the other is computed."""

    def chunk_size(example):
        return 1 if example.ndim == 0 else raising(example, None)

    given = [("number", 1), ("list", [1, 2])]
    outcome = run(given, load=lambda item: np.asarray(item), chunk_size=chunk_size, collect=lambda started: started)
    assert outcome == ({"number": 2}, {"list": "no"})


def test_what_is_not_recoverable_is_raised():
    def compute(examples, values):
        if 3 in values:
            raise ZeroDivisionError
        return doubled(examples, values)

    assert len(run(items(1, 2, 3), compute=compute).failed) == 1
    with pytest.raises(ZeroDivisionError):
        run(items(1, 2, 3), compute=compute, recoverable=(ValueError,))

    def store(name, item, result, finished):
        if finished == 2:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run(items(1, 2, 3), store=store)


def test_a_load_that_fails_is_not_a_wrong_call():
    assert len(run(items(*range(20)), load=lambda item: raising(item, None)).failed) == 20
