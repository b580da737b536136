"""Methods and models are described so that two runs are told apart."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.methods import explanation_method
from jaxcam.runtime import _fingerprint
from tests.runtime.specimen import SMALL


def test_methods_are_told_apart():
    described = lambda value: json.dumps(_fingerprint.describe(value))
    select = functools.partial(jaxcam.select, filters=[1])
    methods = [
        jaxcam.grad_cam,
        jaxcam.grad_cam_pp,
        functools.partial(jaxcam.grad_cam, link="exp"),
        functools.partial(jaxcam.grad_cam, select=jaxcam.select(filters=[1])),
        functools.partial(jaxcam.grad_cam, select=jaxcam.select(filters=[2])),
        lambda cut, image, target: jaxcam.grad_cam(cut, image, target, link="exp"),
        lambda cut, image, target: jaxcam.grad_cam(cut, image, target, link="identity"),
    ]
    assert len({described(method) for method in methods}) == len(methods)
    assert "0x" not in "".join(map(described, methods))
    assert described(methods[3]) == described(functools.partial(jaxcam.grad_cam, select=select()))


SCALE = 2.0


def recursive(cut, image, target, depth=1):
    """A method that calls itself, a library and a number of its module."""
    return recursive(cut, image, target, 0) if depth else SCALE * activity(image, cut)


def activity(image, cut):
    return cut.features(cut.params, image).sum(-1)


def test_methods_that_call_themselves_and_hold_keys_are_described(tiny, tmp_path, monkeypatch):
    assert len(jaxcam.explain_batch(recursive, tiny, SMALL, 1, out=tmp_path / "a").maps) == 10
    monkeypatch.setitem(recursive.__globals__, "SCALE", 3.0)
    with pytest.raises(ValueError, match="holds another run, with method"):
        jaxcam.explain_batch(recursive, tiny, SMALL, 1, out=tmp_path / "a")
    keyed = [functools.partial(jaxcam.smooth_grad_cam_pp, key=jax.random.key(seed), n_samples=1) for seed in (0, 1)]
    jaxcam.explain_batch(keyed[0], tiny, SMALL, 1, out=tmp_path / "b")
    with pytest.raises(ValueError, match="holds another run, with method"):
        jaxcam.explain_batch(keyed[1], tiny, SMALL, 1, out=tmp_path / "b")


def halved(cut, image, target, scale=0.5):
    return scale * jaxcam.grad_cam(cut, image, target)


def test_functions_of_jaxcam_are_described_by_the_names_that_users_write():
    """Whatever file they stand in, and however a call made them; never by a digest of their code."""
    describe = _fingerprint.describe
    assert describe(jaxcam.grad_cam) == "jaxcam.methods.grad_cam"
    assert describe(jaxcam.scores.probability) == "jaxcam.scores.probability"
    assert describe(jaxcam.select(filters=[2, 0])) == {
        "name": "jaxcam.maps.select", "filters": [2, 0], "region": False, "subset": None
    }  # fmt: skip
    average = jaxcam.average_maps(functools.partial(jaxcam.grad_cam, link="exp"), statistic="square")
    assert describe(average) == {
        "name": "jaxcam.methods.average_maps",
        "arguments": [{"name": "jaxcam.methods.grad_cam", "link": "exp"}],
        "statistic": "square",
    }
    assert describe(jax.jit(jaxcam.grad_cam)) == ["PjitFunction", "jaxcam.methods.grad_cam"]


def test_a_users_function_is_described_by_its_code_also_when_it_wraps_one_of_ours():
    describe = _fingerprint.describe
    name, code, *held = describe(halved)
    assert name == f"{__name__}.halved" and len(code) == 32 and held[0] == 0.5
    # As jaxcam's decorator makes it, with the code of the user's function and none of the decorator's.
    assert describe(explanation_method()(halved)) == describe(halved)

    @functools.wraps(jaxcam.grad_cam)
    def wrapped(*arguments, **options):
        return -jaxcam.grad_cam(*arguments, **options)

    assert describe(wrapped) != describe(jaxcam.grad_cam)


class Switch:
    """A loader or an option as people make them, without a repr."""

    def __init__(self, value):
        self.value, self.itself = value, self

    def load(self, path):
        return self.value


class Called(Switch):
    def __call__(self, path):
        return self.value


def test_objects_are_described_by_what_they_hold():
    describe = _fingerprint.describe
    assert describe(Switch(1)) == describe(Switch(1)) != describe(Switch(2))
    assert describe(Called(1)) == describe(Called(1)) != describe(Called(2))
    # A loader is described without what it holds, which may be a cache.
    assert describe(Switch(1).load, with_state=False) == describe(Switch(2).load, with_state=False)
    assert describe(Switch(1).load) != describe(Switch(2).load)
    json.dumps([describe(Switch(1)), describe(Called(1)), describe(np.float32(0.5)), describe(jnp.ones(3))])
