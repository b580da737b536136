"""A short run of `python -m tests.fuzz`, and that the judge of its calls sees faults."""

import jax.numpy as jnp
import numpy as np

import jaxcam
from tests.fuzz import calls, signatures


def test_300_calls():
    report = calls.run_many(range(300), seed=0, among=signatures.SHORT)
    assert not report.wrong, str(report)
    assert report.verdicts["right"] > 120 and report.verdicts["refused"] > 60, str(report)
    assert report.verdicts["not compared"] < 60, str(report)


def test_the_judge_sees_a_wrong_map(monkeypatch):
    """Maps that are wrong by a factor, by a location or by a class are not taken for right."""
    number = next(n for n in range(0, 800, signatures.SHORT) if is_plain(calls.made(0, n, among=signatures.SHORT)))
    assert calls.run(0, number, among=signatures.SHORT)[1].verdict == "right"
    right = jaxcam.grad_cam
    for wrong in (
        lambda *a, **o: 1.001 * right(*a, **o),
        lambda *a, **o: jnp.roll(right(*a, **o), 1, axis=0),
        lambda cut, image, target, **o: right(cut, image, (int(target) + 1) % 4, **o),
        lambda *a, **o: right(*a, **o) * np.nan,
        lambda *a, **o: right(*a, **o)[:-1],
        lambda *a, **o: {}["KeyError"],
    ):
        monkeypatch.setattr(calls.signatures, "method_of", lambda index, wrong=wrong: wrong)
        assert calls.run(0, number, among=signatures.SHORT)[1].verdict == "WRONG"


def is_plain(call):
    kind, _, params = call.image.kind.split(", ")
    is_common = kind in ("0..1", "-1..1", "normal") and params == "normal parameters"
    return not call.spoiled and is_common and call.target.kind.endswith(("int", "int32"))
