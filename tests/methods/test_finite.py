"""A map that is not finite is an error outside jit, and so is the map of a score that is NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 1, (4, 3, 2)).astype(np.float32)
PARAMS = {"conv": RNG.normal(0, 1, (2, 3)).astype(np.float32), "dense": RNG.normal(0, 1, (3, 4)).astype(np.float32)}
KEY = jax.random.key(0)


def features(params, x):
    return jax.nn.relu(x @ params["conv"])


def logits(params, A, x):
    return A.mean((0, 1)) @ params["dense"]


CUT = jaxcam.Cut(PARAMS, features, logits, "relu")
POSITIVE = jaxcam.Cut(jax.tree.map(np.abs, PARAMS), features, logits, "relu")
FULL = np.full_like(IMAGE, 3e38)


def huge(outputs, target):
    return 1e38 * outputs[target] ** 3


@pytest.mark.parametrize(
    ("cut", "image", "score", "reason"),
    [
        (POSITIVE, FULL, jaxcam.scores.logit, "the activation at 'relu' is not, for an image with"),
        (jaxcam.Cut(PARAMS, features, lambda p, A, x: jnp.log(logits(p, A, x) - 1e3), "relu"), IMAGE,
         jaxcam.scores.logit, "the model's outputs are not"),
        (jaxcam.Cut({**PARAMS, "dense": PARAMS["dense"] * np.nan}, features, logits, "relu"), IMAGE,
         jaxcam.scores.logit, "the parameters of the cut have 12 values that are NaN or infinite"),
        (CUT, 10 * IMAGE, huge, "its derivatives or weights overflow, .*: 12 of 12 values are NaN or infinite"),
    ],
)  # fmt: skip
def test_a_map_that_is_not_finite(cut, image, score, reason):
    for method in (jaxcam.hires_cam, functools.partial(jaxcam.grad_cam, key=KEY, n_samples=2, std=0.0)):
        explain = functools.partial(method, cut, image, 0, score=score)
        with pytest.raises(ValueError, match=f"the map of .* is not finite: {reason}"):
            explain()
        assert not np.isfinite(jax.jit(explain)()).all(), "traced, it cannot raise"


@pytest.mark.parametrize(
    "name", ["grad_cam", "grad_cam_pp", "cam", "input_gradient", "saliency", "integrated_gradients"]
)
def test_a_score_that_is_nan_has_no_map_although_its_gradient_is_finite(name):
    pooled = lambda p, A, x: logits(p, A, x) + p["offset"]
    cut = jaxcam.Cut({**PARAMS, "offset": np.full(4, np.nan, np.float32)}, features, pooled, "relu")
    with pytest.raises(ValueError, match="is not finite: the parameters of the cut have 4 values that are NaN"):
        getattr(jaxcam, name)(cut, IMAGE, 1)
