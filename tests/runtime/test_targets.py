"""Targets of many images: one for all or one for each, of any kind, as if each image were alone."""

import functools
import typing

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.runtime.specimen import SMALL

COUNT = 3
IMAGES = SMALL[:COUNT]


def near(outputs, value):
    return -((outputs[0] - value) ** 2)


def signed(outputs, target):
    return outputs @ target["weights"] if target["sign"] == "plus" else -outputs @ target["weights"]


explain_near = functools.partial(jaxcam.grad_cam, score=near)
explain_signed = functools.partial(jaxcam.grad_cam, score=signed)
WEIGHTS = np.array([[1, 2], [-1, 0.5], [0, 1]], np.float32)


class Pair(typing.NamedTuple):
    """A named tuple is one pytree of arrays."""

    first: np.ndarray
    second: np.ndarray


def check(maps, failed, method, cut, targets):
    assert not failed
    for saliency, image, target in zip(maps.values(), IMAGES, targets, strict=True):
        np.testing.assert_allclose(saliency, method(cut, image, target), atol=1e-5, rtol=1e-5)
    assert np.abs(np.stack(list(maps.values()))).max() > 0


@pytest.mark.parametrize("batch_size", [1, 2])
def test_one_for_all(tiny, batch_size):
    run = functools.partial(jaxcam.explain_batch, cut=tiny, images=IMAGES, batch_size=batch_size)
    check(*run(explain_near, target=5.5), explain_near, tiny, [5.5] * 3)
    target = {"weights": -WEIGHTS[0], "sign": "minus"}
    check(*run(explain_signed, target=target), explain_signed, tiny, [target] * 3)
    check(*run(jaxcam.grad_cam, target=1), jaxcam.grad_cam, tiny, [1] * 3)
    check(*run(jaxcam.grad_cam, targets=1), jaxcam.grad_cam, tiny, [1] * 3)


@pytest.mark.parametrize(
    "targets", [[0.7, -1, 5.5], (0.7, -1.0, 5.5), np.array([0.7, -1, 5.5]), jnp.array([0.7, -1, 5.5])]
)
def test_floats(tiny, targets):
    # -1 as an integer would be a class out of range.
    targets = [float(target) for target in targets] if isinstance(targets, list) else targets
    check(*jaxcam.explain_batch(explain_near, tiny, IMAGES, targets), explain_near, tiny, np.float32(list(targets)))


def test_pytrees(tiny):
    signs = ["plus", "minus", "plus"]
    targets = [{"weights": weights, "sign": sign} for weights, sign in zip(WEIGHTS, signs, strict=True)]
    check(*jaxcam.explain_batch(explain_signed, tiny, IMAGES, targets), explain_signed, tiny, targets)
    method = functools.partial(jaxcam.grad_cam, score=lambda outputs, pair: (outputs**2) @ pair[0] - outputs @ pair[1])
    pairs = list(zip(WEIGHTS, WEIGHTS[::-1], strict=True))
    run = functools.partial(jaxcam.explain_batch, method, tiny, IMAGES)
    check(*run(pairs), method, tiny, pairs)
    check(*run(Pair(WEIGHTS, WEIGHTS[::-1])), method, tiny, pairs)
    by_name = functools.partial(jaxcam.grad_cam, score=lambda outputs, t: (outputs**2) @ t["a"])
    check(*jaxcam.explain_batch(by_name, tiny, IMAGES, {"a": WEIGHTS}), by_name, tiny, [{"a": w} for w in WEIGHTS])


def test_outputs_that_are_no_classes(tiny):
    several = jaxcam.Cut(tiny.params, tiny.features, lambda p, A, x: {"logits": tiny.head(p, A, x)})
    method = functools.partial(jaxcam.grad_cam, score=lambda outputs, _: outputs["logits"][0] ** 2)
    check(*jaxcam.explain_batch(method, several, IMAGES), method, several, [None] * 3)
    chosen = functools.partial(jaxcam.grad_cam, score=lambda outputs, t: outputs["logits"][t])
    check(*jaxcam.explain_batch(chosen, several, IMAGES, [0, 1, 1]), chosen, several, [0, 1, 1])


def test_folders_tell_targets_apart(tiny, tmp_path):
    run = functools.partial(jaxcam.explain_batch, explain_signed, tiny, IMAGES, out=tmp_path)
    target = {"weights": WEIGHTS[0], "sign": "plus"}
    run(target=target)
    run(target={**target, "weights": WEIGHTS[0].copy()})
    for other in ({**target, "sign": "minus"}, {**target, "weights": WEIGHTS[1]}):
        with pytest.raises(ValueError, match="holds another run, with targets"):
            run(target=other)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"target": 1, "targets": [1, 1, 1]}, TypeError, "expected target=, one for all images, or targets="),
        ({"targets": [1, 1]}, ValueError, "expected one target, or one for each of 3 images, got 2"),
        ({"targets": np.ones((2, 3))}, ValueError, r"one for each of 3 images, got shape \[2, 3\]"),
        ({"targets": 0.7}, TypeError, "got 0.7: target= is one for all"),
        ({"targets": "cat"}, TypeError, "got 'cat': target= is one for all"),
        ({"targets": (np.ones((3, 2)),) * 3}, ValueError, "a tuple of 3 arrays .* a list has a target for each image"),
        ({"targets": [0.7, 0.7, 0.7]}, TypeError, "None, one class or one for each image, got 0.7; .* score="),
        ({"targets": np.ones(3)}, TypeError, "None, one class or one for each image, got float64"),
        ({"target": WEIGHTS}, TypeError, "None, one class or one for each image, got float32"),
    ],
)
def test_mistakes(tiny, given, error, message):
    with pytest.raises(error, match=message):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, IMAGES, **given)


def test_a_class_out_of_range_fails_alone(tiny):
    maps, failed = jaxcam.explain_batch(jaxcam.grad_cam, tiny, IMAGES, [0, 2**40, 1])
    assert list(maps) == ["0", "2"] and "out of range: the model has 2 classes" in failed["1"]
    loose = functools.partial(jaxcam.grad_cam, score=lambda outputs, t: outputs[t[0] % 2])
    _, failed = jaxcam.explain_batch(loose, tiny, IMAGES, [(0,), (2**40,), (1,)])
    assert "integers fit int32" in failed["1"] and len(failed) == 1
